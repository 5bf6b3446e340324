/** Sends one request of a run to where it was allowed to go, and streams the answer back without any secret in it. */
import {
  type ClientRequest,
  type IncomingMessage,
  type OutgoingHttpHeaders,
  type ServerResponse,
  request as send,
} from "node:http";
import { type Duplex, pipeline, Transform } from "node:stream";
import { createBrotliDecompress, createGunzip, createInflate, createZstdDecompress } from "node:zlib";
import type { EgressFailure } from "#contract/egress";
import type { Destination } from "./destination.ts";
import { DialError } from "./dialer.ts";
import type { EgressEntry } from "./egress-audit.ts";
import { toIncomingHeaders } from "./header-rule.ts";
import type { Lease } from "./lease.ts";
import { refuse } from "./refusal.ts";
import { SecretScrubber, scrubText } from "./secret-scrubber.ts";

/** Most time without a byte in either direction; a model may think for long, and the run has limits of its own. */
const IDLE_MS = 600_000;

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
  /** Null: it has none. */
  readonly body: Buffer | IncomingMessage | null;
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
  const ending = Promise.withResolvers<Failure | null>();
  const request = open(lease, outgoing);
  response.once("close", () => {
    if (!response.writableFinished) ending.resolve("cut");
    request.destroy();
  });
  request.once("error", (error) => ending.resolve(toFailure(error)));
  request.setTimeout(IDLE_MS, () => request.destroy(new DialError("timed_out", "silent for too long")));
  request.once("socket", (socket) => {
    entry.address = lease.agents.readAddress(socket);
  });
  request.once("response", (incoming) => {
    entry.status = incoming.statusCode ?? null;
    answer(lease, entry, incoming, response, watch, ending.resolve);
  });
  sendBody(lease, entry, outgoing.body, request, ending.resolve);
  const failure = await ending.promise;
  watch.onOver?.(failure);
  if (failure === "address_not_allowed") await entry.deny(failure);
  else await entry.end(failure);
  if (failure === null) return;
  request.destroy();
  refuse(response, toRefusal(failure, outgoing.destination), lease.request.patterns);
}

function open(
  lease: Lease,
  { destination, privateAllowed, method, target, headers, body }: Outgoing,
): ClientRequest {
  const { host, port, scheme } = destination;
  const name = host.includes(":") ? `[${host}]` : host;
  const isUsual = port === (scheme === "https" ? 443 : 80);
  return send({
    ...lease.agents.toOptions({ destination, privateAllowed }),
    method,
    path: target,
    headers: {
      ...headers,
      host: isUsual ? name : `${name}:${port}`,
      ...(Buffer.isBuffer(body) ? { "content-length": String(body.length) } : {}),
    },
    signal: lease.ended,
  });
}

type End = (failure: Failure | null) => void;

function sendBody(
  lease: Lease,
  entry: EgressEntry,
  body: Buffer | IncomingMessage | null,
  request: ClientRequest,
  end: End,
): void {
  const count = (bytes: Buffer): boolean => {
    entry.bytesSent += bytes.length;
    return lease.countBytes(bytes.length);
  };
  if (body === null) return void request.end();
  if (Buffer.isBuffer(body)) return count(body) ? void request.end(body) : end("too_large");
  pipeline([body, toCounter(count), request], (error) => {
    // A server may answer before it has read everything, and close: its answer counts.
    if (error instanceof TooMuch) end("too_large");
  });
}

function answer(
  lease: Lease,
  entry: EgressEntry,
  incoming: IncomingMessage,
  response: ServerResponse,
  watch: Watch,
  end: End,
): void {
  const isRead = lease.secretTexts.length > 0 || watch.onBytes !== undefined;
  const decoders = isRead ? toDecoders(incoming) : [];
  if (decoders === undefined) return end("unreadable");
  const resized = isRead && entry.method !== "HEAD";
  const scrub = (text: string): string => scrubText(text, lease.secretTexts);
  response.writeHead(incoming.statusCode ?? 502, toIncomingHeaders(incoming.headers, { resized, scrub }));
  gather(response);
  response.flushHeaders();
  const counter = toCounter((bytes) => {
    entry.bytesReceived += bytes.length;
    return lease.countBytes(bytes.length) && (watch.onBytes?.(bytes) ?? true);
  });
  const scrubber = lease.secretTexts.length > 0 && resized ? [new SecretScrubber(lease.secretTexts)] : [];
  // A cut answer must look cut inside too: the connection is destroyed, not ended.
  pipeline([incoming, ...decoders, counter, ...scrubber, response], (error) => {
    if (error === null || error === undefined) return end(null);
    response.destroy();
    end(error instanceof TooMuch ? "too_large" : isEncodingFault(error) ? "unreadable" : "cut");
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

/** An encoded answer could hold a secret, or a model's tokens, unseen; undefined where it cannot be read. */
function toDecoders({ headers, statusCode }: IncomingMessage): Duplex[] | undefined {
  const encoding = headers["content-encoding"]?.trim().toLowerCase() ?? "identity";
  const hasBody = headers["content-length"] !== "0" && statusCode !== 204 && statusCode !== 304;
  if (encoding === "identity" || encoding === "" || !hasBody) return [];
  const decoder = DECODERS[encoding]?.();
  return decoder === undefined ? undefined : [decoder];
}

const DECODERS: Readonly<Record<string, () => Duplex>> = {
  gzip: () => createGunzip(),
  "x-gzip": () => createGunzip(),
  deflate: () => createInflate(),
  br: () => createBrotliDecompress(),
  zstd: () => createZstdDecompress(),
};

function isEncodingFault(error: Error): boolean {
  return (
    "code" in error &&
    typeof error.code === "string" &&
    /^(Z_|ERR_BROTLI|ERR__ERROR|ZSTD|ERR_ZSTD)/.test(error.code)
  );
}

function toFailure(error: Error): Failure {
  if (error instanceof DialError) return error.code;
  return "unreachable";
}

const STATUS: Partial<Record<Failure, number>> = {
  address_not_allowed: 403,
  timed_out: 504,
  too_large: 413,
};

const MESSAGES: Partial<Record<Failure, string>> = {
  address_not_allowed: "leads to an address that runs may not reach: a private one, or this machine's own",
  unreachable: "cannot be reached",
  timed_out: "did not answer in time",
  too_large: "was asked for, or answered with, more bytes than the run may move",
  unreadable: "answered in an encoding that cannot be checked",
  cut: "ended its answer too early",
};

function toRefusal(code: Failure, destination: Destination) {
  const { host, port } = destination;
  return {
    status: STATUS[code] ?? 502,
    code,
    message: `${host}:${port} ${MESSAGES[code] ?? "was refused"}.`,
    destination,
  };
}
