/** The filtering proxy: takes a call apart, finds its rule, and writes a new one to the engine. Everything else is a 403. */
import { chmodSync, rmSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { pipeline } from "node:stream/promises";
import { Belongings } from "./belongings.ts";
import { type Ask, parse, type Rule, readJson, toCallTable } from "./call-table.ts";
import type { Profiles } from "./container-body.ts";
import { EngineClient } from "./engine-client.ts";
import { joinStreams } from "./joined-streams.ts";
import type { ProxyOptions } from "./options.ts";
import { Refusal } from "./refusal.ts";

const MAX_JSON_BYTES = 1024 * 1024;
/** The client library puts a container's whole body into the query as well. */
const MAX_HEAD_BYTES = 256 * 1024;
const MAX_CONNECTIONS = 1024;

/** What was refused, for a log: without the query, which may hold anything. */
export type Told = {
  readonly method: string;
  readonly path: string;
  readonly status: number;
  readonly why: string;
};

export type ProxyParts = {
  readonly options: ProxyOptions;
  /** The seccomp profiles that a container may have. */
  readonly profiles: Profiles;
  /** How long the engine may be silent; without it, long. */
  readonly answerMs?: number;
  readonly onRefusal: (told: Told) => void;
};

/** Listens on `options.listen`. Whoever reaches that socket may use it: keep it in a volume that only the service shares. */
export async function openProxy(parts: ProxyParts): Promise<AsyncDisposable> {
  const { listen } = parts.options;
  const server = createProxy(parts);
  rmSync(listen, { force: true }); // of one that was killed
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(listen, resolve);
  });
  chmodSync(listen, 0o666); // the service has a user of its own
  return {
    [Symbol.asyncDispose]: async () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

function createProxy({ options, profiles, answerMs, onRefusal }: ProxyParts): Server {
  const engine = new EngineClient(options.engine, answerMs);
  const rules = toCallTable({ options, profiles, belongings: new Belongings(engine, options) });
  const server = createServer({
    maxHeaderSize: MAX_HEAD_BYTES,
    requireHostHeader: true,
    insecureHTTPParser: false,
  });
  server.maxConnections = MAX_CONNECTIONS;
  server.keepAliveTimeout = 0; // a connection that the client believes to be open must not close under its next call

  const refuse = (request: IncomingMessage, error: unknown): Refusal => {
    const refusal = error instanceof Refusal ? error : new Refusal("the proxy could not do it", 502);
    const path = (request.url ?? "").split("?")[0]?.slice(0, 200) ?? "";
    onRefusal({ method: request.method ?? "", path, status: refusal.status, why: refusal.message });
    return refusal;
  };
  const onRequest = (request: IncomingMessage, response: ServerResponse): void => {
    answer(rules, engine, request, response).catch((error: unknown) => {
      const { status, message } = refuse(request, error);
      if (response.headersSent) return void response.destroy();
      response.writeHead(status, { "content-type": "application/json", connection: "close" });
      response.end(toBody(message));
    });
  };
  const onUpgrade = (request: IncomingMessage, socket: Duplex, head: Buffer): void => {
    socket.on("error", () => socket.destroy());
    attach(rules, engine, request, socket, head).catch((error: unknown) => {
      const { status, message } = refuse(request, error);
      const body = toBody(message);
      const lines = [`HTTP/1.1 ${status} Refused`, "content-type: application/json", "connection: close"];
      socket.end(`${lines.join("\r\n")}\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
    });
  };
  const onExpectation = (request: IncomingMessage, response: ServerResponse): void => {
    const { status, message } = refuse(request, new Refusal("no call here waits for a 100"));
    response
      .writeHead(status, { "content-type": "application/json", connection: "close" })
      .end(toBody(message));
  };
  return server
    .on("request", onRequest)
    .on("upgrade", onUpgrade)
    .on("checkContinue", onExpectation)
    .on("checkExpectation", onExpectation)
    .on("clientError", (_error, socket) => socket.destroy());
}

function toBody(message: string): string {
  return JSON.stringify({ message: `engine-proxy: ${message}` });
}

type Found = {
  readonly rule: Rule;
  readonly target: string;
  readonly query: Ask["query"];
};

/** The path is compared as it was sent: nothing is decoded, joined or made smaller before. */
function findRule(rules: readonly Rule[], request: IncomingMessage): Found {
  const [path = "", search = "", ...more] = (request.url ?? "").split("?");
  for (const rule of more.length > 0 ? [] : rules) {
    const match = rule.method === request.method ? rule.path.exec(path) : null;
    if (match === null) continue;
    const given = new URLSearchParams(search);
    const isLoose = rule.body === "json"; // the library repeats the body there
    if (!isLoose && new Set(given.keys()).size !== [...given.keys()].length)
      throw new Refusal("a word of the query stands there twice");
    if (given.getAll("name").length > 1) throw new Refusal("there is more than one name");
    return { rule, target: match[1] ?? "", query: parse(rule.query, Object.fromEntries(given)) };
  }
  throw new Refusal("this call is not one that Pillion makes");
}

async function answer(
  rules: readonly Rule[],
  engine: EngineClient,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const left = new AbortController();
  response.once("close", () => left.abort());
  const { rule, target, query } = findRule(rules, request);
  if (rule.body === "streams") throw new Refusal("this call must ask for an upgrade");
  if (rule.body === "none" && hasBody(request)) throw new Refusal("this call has no body");
  const json = rule.body === "json" ? readJson(await readText(request)) : undefined;
  const ask: Ask = { target, query, json, signal: left.signal };
  const call = await rule.toCall(ask);
  const got = await engine.call(rule.body === "tar" ? { ...call, tar: request } : call, left.signal);
  const status = got.statusCode ?? 502;
  if (rule.toAnswer !== undefined && status === 200) {
    const whole = JSON.stringify(rule.toAnswer(JSON.parse(await readText(got, 16 * MAX_JSON_BYTES))));
    response.writeHead(status, { "content-type": "application/json" }).end(whole);
    return;
  }
  const type = got.headers["content-type"];
  response.writeHead(status, type === undefined ? {} : { "content-type": type });
  await pipeline(got, response);
}

async function attach(
  rules: readonly Rule[],
  engine: EngineClient,
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
): Promise<void> {
  const { rule, target, query } = findRule(rules, request);
  const isStreams = rule.body === "streams" && request.headers.upgrade === "tcp";
  if (!isStreams) throw new Refusal("this call is not one to upgrade");
  const left = new AbortController();
  const leave = (): void => left.abort();
  socket.once("close", leave);
  const call = await rule.toCall({ target, query, json: undefined, signal: left.signal });
  const { answer: got, socket: behind, head: first } = await engine.upgrade(call.path, left.signal);
  socket.off("close", leave); // from here on the joined streams see to it
  if (left.signal.aborted) return void behind.destroy();
  const type = got.headers["content-type"] ?? "application/vnd.docker.raw-stream";
  socket.write(
    `HTTP/1.1 101 UPGRADED\r\nContent-Type: ${type}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n`,
  );
  joinStreams({ socket, head, skip: toBodyLength(request) }, { socket: behind, head: first });
}

function hasBody({ headers }: IncomingMessage): boolean {
  return headers["transfer-encoding"] !== undefined || !["0", undefined].includes(headers["content-length"]);
}

/** The client library sends the options once more as a body, which must not become the container's input. */
function toBodyLength(request: IncomingMessage): number {
  if (request.headers["transfer-encoding"] !== undefined) throw new Refusal("the body must have a length");
  const length = Number(request.headers["content-length"] ?? 0);
  if (!(length <= 4096)) throw new Refusal("the body is too long");
  return length;
}

async function readText(from: IncomingMessage, maxBytes = MAX_JSON_BYTES): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of from) {
    length += chunk.length;
    if (length > maxBytes) throw new Refusal("the body is too long", 413);
    chunks.push(chunk);
  }
  return new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(chunks));
}
