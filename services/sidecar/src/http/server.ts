/** The socket under the caller's door: timeouts against slow senders, and problem+json for what never reaches the app. */
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import {
  createServer,
  type IncomingMessage,
  type Server,
  type ServerResponse,
  STATUS_CODES,
} from "node:http";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import { getRequestListener, RequestError } from "@hono/node-server";
import { FAILURES } from "#contract/failure";
import { Fault, toProblem } from "../kernel/fault.ts";
import type { CallerApp } from "./caller-app.ts";
import { toFailureHeaders } from "./failures.ts";
import { NO_HOST } from "./host-rule.ts";
import type { HttpLog } from "./http-settings.ts";
import { SECURITY_HEADERS } from "./response-headers.ts";

export type ListenOptions = {
  readonly app: CallerApp;
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
  readonly maxBodyBytes: number;
  readonly log: HttpLog;
  readonly timeouts?: ListenTimeouts;
};

export type ListenTimeouts = {
  /** Most time for a request's headers to arrive. */
  readonly headersMs: number;
  /** Most time for all of a request to arrive. */
  readonly requestMs: number;
  /** How often the two are looked at. */
  readonly checkMs: number;
};

export type Listening = {
  readonly address: { readonly host: string; readonly port: number; readonly url: string };
  /** Takes nothing new, lets answers end for `graceMs`, then cuts what is left. */
  close(graceMs: number): Promise<void>;
};

/** Node's own defaults leave a slow sender 90 s. */
const TIMEOUTS: ListenTimeouts = { headersMs: 8_000, requestMs: 30_000, checkMs: 1_000 };

const LIMITS = {
  keepAliveTimeout: 65_000,
  maxHeaderSize: 16 * 1024,
  requireHostHeader: false, // ours answers with a problem, and lets probes come without
} as const;

const SWEEP_MS = 50;

/** Rejects with Node's own error when the address cannot be had. */
export async function listen(options: ListenOptions): Promise<Listening> {
  const { headersMs, requestMs, checkMs } = options.timeouts ?? TIMEOUTS;
  const server = createServer({
    ...LIMITS,
    headersTimeout: headersMs,
    requestTimeout: requestMs,
    connectionsCheckingInterval: checkMs,
  });
  answerRequests(server, options);
  answerBrokenRequests(server, options.log);
  server.listen(options.port, options.host);
  await once(server, "listening");
  server.on("error", (err) => options.log.error({ err }, "a connection was not accepted")); // EMFILE and the like
  const { address, port, family } = server.address() as AddressInfo; // a TCP listener's address is never text
  const host = family === "IPv6" ? `[${address}]` : address;
  return {
    address: { host: address, port, url: `http://${host}:${port}` },
    close: (graceMs) => close(server, graceMs),
  };
}

function answerRequests(server: Server, { app, log, maxBodyBytes }: ListenOptions): void {
  const listener = getRequestListener(app.fetch, {
    hostname: NO_HOST,
    overrideGlobalObjects: false,
    errorHandler: (thrown) => {
      const fault =
        thrown instanceof RequestError ? invalid("The request's address is not valid.") : internal();
      if (fault.code === "internal") log.error({ err: thrown }, "a request failed outside the app");
      const { status, headers, body } = toRawProblem(fault);
      return new Response(body, { status, headers });
    },
  });
  const answer = (incoming: IncomingMessage, outgoing: ServerResponse): void => {
    // The URL parser would fold dot segments away, and so answer for another address than was asked.
    if (hasDotSegment(incoming.url ?? "")) refuse(outgoing, invalid("The path may not have . or .. parts."));
    else listener(incoming, outgoing).catch((err: unknown) => log.error({ err }, "an answer failed"));
  };
  server.on("request", answer);
  server.on("checkContinue", (incoming: IncomingMessage, outgoing: ServerResponse) => {
    // Too large a body is refused before the caller sends it.
    if (Number(incoming.headers["content-length"] ?? 0) <= maxBodyBytes) outgoing.writeContinue();
    server.emit("request", incoming, outgoing);
  });
  server.on("checkExpectation", (_incoming: IncomingMessage, outgoing: ServerResponse) => {
    refuse(outgoing, invalid("The only expectation that is met here is `100-continue`."), 417);
  });
  server.on("connect", (_incoming: IncomingMessage, socket: Duplex) => {
    socket.on("error", () => socket.destroy());
    endRaw(socket, new Fault("method_not_allowed", "This is not a proxy."));
  });
}

/** What the parser gives up on: it has no request yet, so the answer is written by hand. */
function answerBrokenRequests(server: Server, log: HttpLog): void {
  const answers = new WeakMap<Duplex, ServerResponse>();
  server.on("request", (incoming: IncomingMessage, outgoing: ServerResponse) => {
    answers.set(incoming.socket, outgoing);
    outgoing.once("close", () => answers.delete(incoming.socket));
  });
  server.on("clientError", (error: NodeJS.ErrnoException, socket: Duplex) => {
    if (!socket.writable || error.code === "ECONNRESET" || answers.get(socket)?.headersSent) {
      socket.destroy();
      return;
    }
    log.info({ reason: error.code }, "a broken request was refused");
    endRaw(socket, ...toRefusal(error.code));
  });
}

function toRefusal(reason: string | undefined): [Fault, number] {
  if (reason === "HPE_HEADER_OVERFLOW") return [invalid("The request's headers are too large."), 431];
  if (reason === "ERR_HTTP_REQUEST_TIMEOUT") return [invalid("The request took too long to arrive."), 408];
  return [invalid("This is not a valid HTTP request."), 400];
}

function invalid(detail: string): Fault {
  return new Fault("invalid_request", detail);
}

function internal(): Fault {
  return new Fault("internal", "An unexpected error happened; the log has the cause.");
}

function hasDotSegment(target: string): boolean {
  const path = target.split(/[?#]/, 1)[0] ?? "";
  return /(^|[/\\])(\.|%2e){1,2}([/\\]|$)/i.test(path);
}

type RawProblem = {
  readonly status: number;
  readonly headers: Record<string, string>;
  readonly body: string;
};

function toRawProblem(fault: Fault, status: number = FAILURES[fault.code].status): RawProblem {
  const body = JSON.stringify({ ...toProblem(fault), status });
  return {
    status,
    headers: {
      ...toFailureHeaders(fault),
      ...SECURITY_HEADERS,
      "x-request-id": randomUUID(),
      "content-length": String(Buffer.byteLength(body)),
      ...(fault.code === "method_not_allowed" ? { allow: "GET, HEAD, POST, DELETE" } : {}),
    },
    body,
  };
}

function refuse(outgoing: ServerResponse, fault: Fault, status?: number): void {
  const problem = toRawProblem(fault, status);
  outgoing.writeHead(problem.status, { ...problem.headers, connection: "close" }).end(problem.body);
}

function endRaw(socket: Duplex, fault: Fault, status?: number): void {
  const problem = toRawProblem(fault, status);
  const headers = Object.entries({ ...problem.headers, connection: "close" }).map(
    ([name, value]) => `${name}: ${value}`,
  );
  const head = [`HTTP/1.1 ${problem.status} ${STATUS_CODES[problem.status]}`, ...headers].join("\r\n");
  socket.end(`${head}\r\n\r\n${problem.body}`, () => socket.destroy());
}

async function close(server: Server, graceMs: number): Promise<void> {
  if (!server.listening) return;
  const closed = once(server, "close");
  server.close();
  const sweep = setInterval(() => server.closeIdleConnections(), SWEEP_MS);
  const cut = setTimeout(() => server.closeAllConnections(), graceMs);
  try {
    await closed;
  } finally {
    clearInterval(sweep);
    clearTimeout(cut);
  }
}
