// What `bench-door.ts` measures against: a model whose agent is told to run the probe, small and large answers, and the
// large one as HTTPS.
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
} from "node:http";
import { createServer as createTlsServer, type Server as TlsServer } from "node:https";
import { join } from "node:path";
import { text as readText } from "node:stream/consumers";
import { setTimeout as pause } from "node:timers/promises";
import type { ProbeOrder } from "./bench-door-probe.ts";

export type DoorServers = AsyncDisposable & {
  readonly ports: ProbeOrder["ports"];
  /** What an agent shall do next: a command for its shell. */
  command: string;
  /** What came of the last command. */
  readonly told: string;
};

const DELTA_MS = 20;
const CHUNK = Buffer.alloc(64 * 1024, "All work and no play makes a dull bench. ");

export async function openDoorServers(scratch: string): Promise<DoorServers> {
  const held = new AsyncDisposableStack();
  const desk = { command: "", told: "" };
  const open = async (server: Server | TlsServer): Promise<number> => {
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    held.defer(async () => {
      server.close();
      server.closeAllConnections();
    });
    const address = server.address();
    if (address === null || typeof address === "string") throw new Error("a server has no port");
    return address.port;
  };
  const model: RequestListener = (request, response) =>
    void answerCall(desk, request, response).catch((error) => response.destroy(error));
  const keepAliveTimeout = 600_000; // a connection that is closed between two rounds would be measured
  const ports = {
    model: await open(createServer({ keepAliveTimeout }, model)),
    files: await open(createServer({ keepAliveTimeout }, giveFile)),
    tls: await open(createTlsServer(makeCertificate(scratch), giveFile)),
  };
  return {
    ports,
    get told() {
      return desk.told;
    },
    set command(command: string) {
      desk.command = command;
    },
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
}

function makeCertificate(scratch: string): { key: Buffer; cert: Buffer } {
  const [key, cert] = [join(scratch, "key.pem"), join(scratch, "cert.pem")];
  const kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
  const made = ["req", "-x509", ...kind, "-subj", "/CN=localhost", "-keyout", key, "-out", cert];
  execFileSync("openssl", made, { stdio: "ignore" });
  return { key: readFileSync(key), cert: readFileSync(cert) };
}

type Part = { readonly role?: string; readonly content?: unknown };

/** The probe's calls say `small` or `slow`; all others are the agent's. */
async function answerCall(
  desk: { command: string; told: string },
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { messages } = JSON.parse(await readText(request)) as { messages: Part[] };
  const last = messages.at(-1);
  response.writeHead(200, { "content-type": "text/event-stream" });
  if (last?.content === "small") return finish(response, ["Hello, ", "here ", "I am."]);
  if (last?.content === "slow") return trickle(response);
  if (last?.role !== "tool") return finish(response, [], desk.command);
  desk.told = typeof last.content === "string" ? last.content : JSON.stringify(last.content);
  finish(response, ["Done."]);
}

/** The first delta at once, the others later: what a model does that is asked to think aloud. */
async function trickle(response: ServerResponse): Promise<void> {
  response.write(toEvent({ choices: [{ index: 0, delta: { content: "now " } }] }));
  for (const word of ["and ", "then ", "later "]) {
    await pause(DELTA_MS);
    response.write(toEvent({ choices: [{ index: 0, delta: { content: word } }] }));
  }
  finish(response, []);
}

function finish(response: ServerResponse, words: readonly string[], command?: string): void {
  const call = { name: "bash", arguments: JSON.stringify({ command }) };
  const calls = [{ index: 0, id: "call_1", type: "function", function: call }];
  const deltas = command === undefined ? words.map((content) => ({ content })) : [{ tool_calls: calls }];
  const reason = command === undefined ? "stop" : "tool_calls";
  const usage = { prompt_tokens: 300, completion_tokens: 10, total_tokens: 310 };
  const events = [
    ...deltas.map((delta) => toEvent({ choices: [{ index: 0, delta }] })),
    toEvent({ choices: [{ index: 0, delta: {}, finish_reason: reason }], usage }),
    "data: [DONE]\n\n",
  ];
  response.end(events.join(""));
}

function toEvent(fields: object): string {
  return `data: ${JSON.stringify({ id: "x", object: "chat.completion.chunk", model: "door", ...fields })}\n\n`;
}

const giveFile: RequestListener = (request, response) => {
  const { pathname, searchParams } = new URL(request.url ?? "", "http://bench");
  if (pathname !== "/large") return void response.end('{"answer":"small"}');
  let left = Math.ceil((Number(searchParams.get("mb")) * 1e6) / CHUNK.length);
  response.writeHead(200, { "content-type": "application/octet-stream" });
  const push = (): void => {
    while (left > 0 && !response.destroyed) {
      left -= 1;
      if (!response.write(CHUNK)) return void response.once("drain", push);
    }
    response.end();
  };
  push();
};
