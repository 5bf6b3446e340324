/** A tunnel to an allowed host: TLS whose server name is the one that was asked for, and of which nothing else is seen. */
import type { IncomingMessage } from "node:http";
import { type Duplex, Transform } from "node:stream";
import type { EgressFailure } from "#contract/egress";
import { type Destination, toDestination } from "./destination.ts";
import { DialError } from "./dialer.ts";
import { type Denied, judgeDestination, NO_PROOF, USED_UP } from "./door-routes.ts";
import type { EgressEntry } from "./egress-audit.ts";
import { toUnreachable } from "./egress-cause.ts";
import { isAllowed } from "./egress-policy.ts";
import type { Lease } from "./lease.ts";
import { type Refusal, toRefusalBody } from "./refusal.ts";
import { type ServerName, ServerNameReader } from "./server-name.ts";
import { isBound } from "./vault.ts";

/** For a client to close, after it was given the server's last byte. */
const LINGER_MS = 10_000;

/** Answers a CONNECT that came through the lease's door. Never throws. `head`: what came with it. */
export async function openTunnel(
  lease: Lease,
  request: IncomingMessage,
  client: Duplex,
  head: Buffer,
): Promise<void> {
  client.on("error", () => undefined);
  const entry = lease.audit.open("connect");
  entry.method = "CONNECT";
  entry.written = request.url ?? "";
  const denied = judge(lease, entry, request);
  if (denied !== undefined) return denyTunnel(lease, entry, denied, client);
  const { destination } = entry;
  if (destination === undefined) return;
  try {
    const { socket, address } = await lease.dialer.dial(destination, { signal: lease.ended });
    socket.on("error", () => undefined);
    entry.address = address;
    if (client.destroyed) {
      socket.destroy();
      return void (await entry.end("cut"));
    }
    client.once("close", () => socket.destroy());
    await carry(lease, entry, { client, server: socket, head, host: destination.host });
  } catch (error) {
    await tellUnreached(lease, entry, error, { client, destination });
  }
}

async function tellUnreached(
  lease: Lease,
  entry: EgressEntry,
  error: unknown,
  { client, destination }: { readonly client: Duplex; readonly destination: Destination },
): Promise<void> {
  const { host } = destination;
  const dial = error instanceof DialError ? error : new DialError("unreachable", "");
  const { hint, why: cause } = dial;
  const code = lease.ended.aborted ? "cut" : dial.code;
  entry.address ??= dial.address;
  if (code === "address_not_allowed") {
    const message = `${host} leads to an address that runs may not reach.`;
    return denyTunnel(lease, entry, { reason: code, status: 403, message, hint }, client);
  }
  entry.cause = cause;
  await entry.end(code);
  const message = `${host} ${code === "timed_out" ? "did not answer in time" : toUnreachable(cause)}.`;
  const status = code === "timed_out" ? 504 : 502;
  writeRefusal(client, { status, code, message, destination, cause, hint }, lease);
}

function judge(lease: Lease, entry: EgressEntry, request: IncomingMessage): Denied | undefined {
  const authority = request.url ?? "";
  const destination = toDestination("https", authority);
  const isWhole = !("refused" in destination) && /:\d+$/.test(authority);
  if (isWhole) entry.destination = destination;
  if (!lease.countRequest()) return USED_UP;
  if (!isWhole) {
    const message = "refused" in destination ? destination.message : "A tunnel's address needs its port.";
    return { reason: "bad_host", status: 403, message };
  }
  if (!lease.isShownBy(request.headers)) return NO_PROOF;
  const { host, port } = destination;
  if (isBound(lease.credentials, destination)) {
    return {
      reason: "credential_needs_base_url",
      status: 403,
      message: `A credential is bound to ${host}, and nothing can be put into a tunnel.`,
      hint: `Send plain HTTP to $PILLION_DOOR/to/https/${host}${port === 443 ? "" : `:${port}`}/… instead: it goes out as HTTPS, with the credential.`,
    };
  }
  const denied = judgeDestination(lease, destination);
  const isPlain = isAllowed(lease.request.egress, { ...destination, scheme: "http" });
  return denied !== undefined && isPlain ? { ...denied, hint: toPlainHint(authority) } : denied;
}

/** Node's own fetch asks for tunnels for plain HTTP too. */
function toPlainHint(authority: string): string {
  return `A tunnel carries TLS only, and the run may reach ${authority} by plain HTTP: ask the proxy for http://${authority}/… without a tunnel, or $PILLION_DOOR/to/http/${authority}/….`;
}

type Ends = {
  readonly client: Duplex;
  readonly server: Duplex;
  readonly head: Buffer;
  readonly host: string;
};

async function carry(lease: Lease, entry: EgressEntry, { client, server, head, host }: Ends): Promise<void> {
  client.write("HTTP/1.1 200 Connection established\r\n\r\n");
  const { hello, found } = await readHello(client, head, lease.times.helloMs);
  entry.serverName = found.kind === "named" ? found.name : null;
  if (client.destroyed) return void (await entry.end("cut"));
  if (found.kind !== "named" || found.name !== host) {
    client.destroy();
    server.destroy();
    if (found.kind === "late") await entry.end("timed_out");
    else if (found.kind === "gone") await entry.end("cut");
    else await entry.deny(found.kind === "not-tls" ? "not_tls" : "name_mismatch");
    return;
  }
  server.write(hello);
  entry.bytesSent += hello.length;
  lease.countBytes(hello.length);
  await entry.end(await join(lease, entry, client, server));
}

/** Everything up to and with the client's first message; the rest stays in the stream. */
async function readHello(
  client: Duplex,
  head: Buffer,
  helloMs: number,
): Promise<{ hello: Buffer; found: ServerName }> {
  const reader = new ServerNameReader();
  const chunks: Buffer[] = [];
  const take = (bytes: Buffer): void => {
    chunks.push(bytes);
    reader.write(bytes);
  };
  const close = (): void => reader.close("gone");
  const late = setTimeout(() => reader.close("late"), helloMs);
  client.on("data", take).once("close", close).once("end", close);
  if (head.length > 0) take(head);
  if (client.destroyed) close();
  try {
    const found = await reader.found;
    client.pause();
    return { hello: Buffer.concat(chunks), found };
  } finally {
    clearTimeout(late);
    client.off("data", take).off("close", close).off("end", close);
  }
}

async function join(
  lease: Lease,
  entry: EgressEntry,
  client: Duplex,
  server: Duplex,
): Promise<EgressFailure | null> {
  const { promise, resolve } = Promise.withResolvers<EgressFailure | null>();
  let idle: NodeJS.Timeout | undefined;
  const touch = (): void => {
    clearTimeout(idle);
    idle = setTimeout(() => resolve("timed_out"), lease.times.tunnelIdleMs).unref();
  };
  const count = (name: "bytesSent" | "bytesReceived"): Transform =>
    new Transform({
      transform(bytes: Buffer, _encoding, done) {
        touch();
        entry[name] += bytes.length;
        if (lease.countBytes(bytes.length)) done(null, bytes);
        else resolve("too_large");
      },
    });
  touch();
  client.pipe(count("bytesSent")).pipe(server);
  server.pipe(count("bytesReceived")).pipe(client);
  client.once("close", () => resolve(lease.ended.aborted ? "cut" : null));
  // What the server has said to its end is still on its way to a slow client, which then closes by itself.
  server.once("close", () => server.readableEnded || client.destroy());
  client.once("finish", () => setTimeout(() => client.destroy(), LINGER_MS).unref());
  const cut = (): void => resolve("cut");
  lease.ended.addEventListener("abort", cut, { once: true });
  const failure = await promise;
  lease.ended.removeEventListener("abort", cut);
  clearTimeout(idle);
  client.destroy();
  server.destroy();
  return failure;
}

export const MALFORMED = {
  code: "bad_request",
  status: 400,
  message: "The request cannot be carried: it is no HTTP that could be read in one way only.",
} as const;

/** Writes down bytes that are no HTTP, or could be read as one request or as two. */
export async function noteBytes(lease: Lease): Promise<Denied> {
  const { code, status, message } = MALFORMED;
  const entry = lease.audit.open("proxy");
  const denied = lease.countRequest() ? { reason: code, status, message } : USED_UP;
  await entry.deny(denied.reason);
  return denied;
}

/** The same, where nothing is being answered. */
export async function refuseBytes(lease: Lease, client: Duplex): Promise<void> {
  if (client.destroyed) return;
  client.on("error", () => undefined);
  const denied = await noteBytes(lease);
  writeRefusal(client, { ...denied, code: denied.reason }, lease);
}

async function denyTunnel(lease: Lease, entry: EgressEntry, denied: Denied, client: Duplex): Promise<void> {
  await entry.deny(denied.reason);
  const { destination } = entry;
  writeRefusal(client, { ...denied, code: denied.reason, destination }, lease);
}

function writeRefusal(client: Duplex, refusal: Refusal, lease: Lease): void {
  const { status, code } = refusal;
  const body = toRefusalBody(refusal, lease.request.patterns);
  const head = [
    `HTTP/1.1 ${status} Refused: ${code}`, // many clients show nothing but this line
    "content-type: application/json",
    `content-length: ${Buffer.byteLength(body)}`,
    `pillion-refused: ${code}`,
    ...(status === 407 ? ['proxy-authenticate: Basic realm="pillion"'] : []),
    "connection: close",
  ];
  client.end(`${head.join("\r\n")}\r\n\r\n${body}`);
  client.resume(); // so that its end is seen
}
