/** Sends one request of a run to where it was allowed to go, and streams the answer back without any secret in it. */
import {
  type ClientRequest,
  type IncomingMessage,
  type OutgoingHttpHeaders,
  type ServerResponse,
  request as send,
} from "node:http";
import { pipeline, Transform } from "node:stream";
import type { EgressCause, EgressFailure } from "#contract/egress";
import { isUnreadable, toDecoders } from "./answer-decoders.ts";
import type { Destination } from "./destination.ts";
import { DialError } from "./dialer.ts";
import type { EgressEntry } from "./egress-audit.ts";
import { toNetworkCause, toUnreachable } from "./egress-cause.ts";
import { toIncomingHeaders } from "./header-rule.ts";
import type { Lease } from "./lease.ts";
import { type Refusal, refuse } from "./refusal.ts";
import { SecretScrubber } from "./secret-scrubber.ts";

/** That wait for a response to close: five of ours at most, and seven of Node's own pipeline. It warns beyond ten. */
const MAX_LISTENERS = 16;

/** How a request that was allowed can still fail; an address is known only when the name is resolved. */
export type Failure = EgressFailure | "address_not_allowed";

export type Outgoing = {
  readonly destination: Destination;
  /** The operator named this very origin as a model's provider. */
  readonly privateAllowed: boolean;
  readonly method: string;
  /** Path and query as the client wrote them. */
  readonly target: string;
  readonly headers: OutgoingHttpHeaders;
  readonly body: Buffer | IncomingMessage;
};

export type Watch = {
  /** Sees what the client gets, as it streams; a false answer cuts the request. */
  onBytes?(bytes: Buffer): boolean;
  /** Once, however it ended. */
  onOver?(failure: Failure | null): void;
};

/** Never throws. Resolves when the entry's end is written down. */
export async function forward(
  lease: Lease,
  entry: EgressEntry,
  outgoing: Outgoing,
  response: ServerResponse,
  watch: Watch = {},
): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<{ failure: Failure | null; error: Error | undefined }>();
  const end = (failure: Failure | null, error?: Error): void => resolve({ failure, error });
  response.once("close", () => {
    if (!response.writableFinished || entry.status === null) end("cut");
  });
  if (response.destroyed) end("cut");
  else if (!countBuffer(lease, entry, outgoing.body)) end("too_large");
  else attempt({ lease, entry, outgoing, response, watch, end });
  const { failure, error } = await promise;
  entry.cause = toCause(error);
  if (error instanceof DialError) entry.address ??= error.address;
  watch.onOver?.(failure);
  if (failure === "address_not_allowed") await entry.deny(failure);
  else await entry.end(failure);
  if (failure !== null)
    refuse(response, toRefusal(failure, error, outgoing.destination), lease.request.patterns);
}

type Exchange = {
  readonly lease: Lease;
  readonly entry: EgressEntry;
  readonly outgoing: Outgoing;
  readonly response: ServerResponse;
  readonly watch: Watch;
  /** The first one counts. */
  readonly end: (failure: Failure | null, error?: Error) => void;
};

function attempt(exchange: Exchange): void {
  const { lease, entry, outgoing, response, end } = exchange;
  const request = open(lease, outgoing);
  const stop = (): void => void request.destroy();
  response.once("close", stop);
  let isAnswered = false;
  request.on("error", (error) => {
    response.off("close", stop);
    if (!isAnswered && isStale(request, error, outgoing)) return attempt(exchange);
    end(lease.ended.aborted ? "cut" : toFailure(error), error);
  });
  const onSilence = (): void => void request.destroy(new DialError("timed_out", "silent for too long"));
  request.setTimeout(lease.times.requestIdleMs, onSilence);
  request.once("socket", (socket) => {
    entry.address = lease.agents.readAddress(socket);
  });
  request.once("upgrade", (_incoming, socket) => {
    socket.destroy();
    end("unreadable"); // another protocol, which was not asked for
  });
  request.once("response", (incoming) => {
    isAnswered = true;
    entry.status = incoming.statusCode ?? null;
    answer(exchange, request, incoming);
  });
  sendBody(exchange, request);
}

/** A connection that was kept may be closed by its server in the very moment it is used again. */
function isStale(request: ClientRequest, error: Error, { body, method }: Outgoing): boolean {
  const isReset = "code" in error && (error.code === "ECONNRESET" || error.code === "EPIPE");
  const isRepeatable = Buffer.isBuffer(body) && ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"].includes(method);
  return request.reusedSocket && isReset && isRepeatable;
}

function open(
  lease: Lease,
  { destination, privateAllowed, method, target, headers, body }: Outgoing,
): ClientRequest {
  const { host, port, scheme } = destination;
  const name = host.includes(":") ? `[${host}]` : host;
  const isUsual = port === (scheme === "https" ? 443 : 80);
  return send({
    ...lease.agents.toOptions({ destination, privateAllowed, isModel: lease.isModelHost(destination) }),
    method,
    path: target,
    headers: { ...headers, host: isUsual ? name : `${name}:${port}`, ...toFraming(method, headers, body) },
    signal: lease.ended,
  });
}

/** Always said: Node sends the bodies of some methods as bare bytes, which a server reads as further requests. */
function toFraming(
  method: string,
  headers: OutgoingHttpHeaders,
  body: Outgoing["body"],
): OutgoingHttpHeaders {
  if (!Buffer.isBuffer(body))
    return headers["content-length"] === undefined ? { "transfer-encoding": "chunked" } : {};
  const isBare = body.length === 0 && !["POST", "PUT", "PATCH"].includes(method);
  return isBare ? {} : { "content-length": String(body.length) };
}

function countBuffer(lease: Lease, entry: EgressEntry, body: Outgoing["body"]): boolean {
  if (!Buffer.isBuffer(body)) return true;
  entry.bytesSent += body.length;
  return lease.countBytes(body.length);
}

function sendBody({ lease, entry, outgoing: { body }, end }: Exchange, request: ClientRequest): void {
  if (Buffer.isBuffer(body)) return void request.end(body);
  const counter = toCounter((bytes) => {
    entry.bytesSent += bytes.length;
    return lease.countBytes(bytes.length);
  });
  counter.once("error", () => {
    end("too_large");
    request.destroy();
  });
  // Not a pipeline: it would destroy the client's connection with the request, and the client is to read why.
  body.pipe(counter).pipe(request);
  request.once("close", () => {
    body.unpipe(counter);
    body.resume();
  });
}

function answer(
  { lease, entry, outgoing, response, watch, end }: Exchange,
  request: ClientRequest,
  incoming: IncomingMessage,
): void {
  const fail = (failure: Failure): void => {
    end(failure);
    request.destroy();
  };
  const isHead = outgoing.method === "HEAD";
  const isWatched = !lease.secrets.isEmpty || watch.onBytes !== undefined;
  const decoders = toDecoders(incoming, { isHead });
  if (decoders === undefined || response.headersSent) return fail("unreadable");
  const { body } = outgoing;
  response.writeHead(incoming.statusCode ?? 502, {
    ...toIncomingHeaders(incoming.headers, {
      resized: isWatched && !isHead,
      secrets: lease.secrets,
      lowerSecrets: lease.lowerSecrets,
    }),
    // What is left of the request's body is nothing that a further request could follow.
    ...(Buffer.isBuffer(body) || body.complete ? {} : { connection: "close" }),
  });
  gather(response);
  response.flushHeaders();
  const counter = toCounter((bytes) => {
    entry.bytesReceived += bytes.length;
    return lease.countBytes(bytes.length) && (watch.onBytes?.(bytes) ?? true);
  });
  const checks = isWatched && !isHead ? [...decoders, counter, new SecretScrubber(lease.secrets)] : [counter];
  // A cut answer must look cut inside too: the connection is destroyed, not ended.
  response.setMaxListeners(MAX_LISTENERS);
  pipeline([incoming, ...checks, response], (error) => {
    if (error === null || error === undefined) return end(null);
    response.destroy();
    fail(error instanceof TooMuch ? "too_large" : isUnreadable(error) ? "unreadable" : "cut");
  });
}

/** What comes in one breath, of a short answer all of it, goes through the pipe in one piece; later bytes go as they come. */
function gather({ socket }: ServerResponse): void {
  socket?.cork(); // not the response: Node loses bytes of one that ends while it is corked
  setImmediate(() => socket?.uncork());
}

class TooMuch extends Error {}

function toCounter(count: (bytes: Buffer) => boolean): Transform {
  return new Transform({
    transform: (bytes: Buffer, _encoding, done) => (count(bytes) ? done(null, bytes) : done(new TooMuch())),
  });
}

function toFailure(error: Error): Failure {
  if (error instanceof DialError) return error.code;
  return isUnreadable(error) ? "unreadable" : "unreachable";
}

function toCause(error: Error | undefined): EgressCause | null {
  if (error instanceof DialError) return error.why;
  return error === undefined ? null : toNetworkCause(error);
}

const STATUS: Partial<Record<Failure, number>> = {
  address_not_allowed: 403,
  timed_out: 504,
  too_large: 413,
};

const MESSAGES: Partial<Record<Failure, string>> = {
  address_not_allowed: "leads to an address that runs may not reach: a private one, or this machine's own",
  timed_out: "did not answer in time",
  too_large: "was asked for, or answered with, more bytes than the run may move",
  unreadable: "answered with what cannot be checked: an encoding that is not known, or broken HTTP",
  cut: "ended its answer too early",
};

function toRefusal(code: Failure, error: Error | undefined, destination: Destination): Refusal {
  const { host, port } = destination;
  const cause = code === "unreachable" ? toCause(error) : null;
  return {
    status: STATUS[code] ?? 502,
    code,
    message: `${host}:${port} ${MESSAGES[code] ?? toUnreachable(cause)}.`,
    destination,
    cause,
    hint: error instanceof DialError ? error.hint : null,
  };
}
