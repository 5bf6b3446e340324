/** A laboratory's sinks: they take TCP, UDP, HTTP and HTTPS, tell every hit, and answer HTTP as a test has scripted it. */
import { createSocket } from "node:dgram";
import { once } from "node:events";
import {
  request as ask,
  createServer as createHttpServer,
  type IncomingMessage,
  type ServerResponse,
} from "node:http";
import { createServer as createHttpsServer } from "node:https";
import { createServer, isIPv4, type Server, type Socket } from "node:net";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import { createSecureContext, TLSSocket, type TlsOptions } from "node:tls";
import { createGzip } from "node:zlib";
import {
  CABLE,
  type Hit,
  type HttpAnswer,
  LAB_GROUPS,
  LAB_SOCKET,
  type LabPorts,
  toUnmapped,
} from "./lab-words.ts";

const TEXT_CHARS = 4096;

type Tell = (hit: Hit) => void;

/** Certificate and key, PEM; and bad certificates for the same key, by the server name that is asked for. */
export type SinkCertificates = {
  readonly cert: Buffer;
  readonly key: Buffer;
  readonly bad: ReadonlyMap<string, Buffer>;
};

export class LabSinks {
  readonly #tell: Tell;
  readonly #openOutside: (port: number) => Socket;
  #answers: readonly HttpAnswer[] = [];

  /** `openOutside` leads to a port of the test's own loopback. */
  constructor(tell: Tell, openOutside: (port: number) => Socket) {
    this.#tell = tell;
    this.#openOutside = openOutside;
  }

  setAnswers(answers: readonly HttpAnswer[]): void {
    this.#answers = answers;
  }

  /** TCP on all addresses, UDP on each of the given ones, and on groups and broadcasts. */
  async listen(ports: LabPorts, addresses: readonly string[], certificates: SinkCertificates): Promise<void> {
    const take = (request: IncomingMessage, response: ServerResponse): void =>
      void this.#take(request, response).catch(() => response.destroy());
    for (const port of ports.http) await this.#open(createHttpServer(take), port);
    for (const port of ports.https) await this.#open(createHttpsServer(toTls(certificates), take), port);
    for (const port of ports.tcp) await this.#open(createServer(), port);
    for (const port of ports.udp) {
      for (const address of addresses) await this.#openUdp(address, port);
      const near = addresses.find(isIPv4);
      await this.#openUdp("::", port, `::%${CABLE}`);
      await this.#openUdp("0.0.0.0", port, near);
    }
  }

  async #open(server: Server, port: number): Promise<void> {
    server.on("connection", (socket: Socket) => this.#watch(socket));
    server.on("clientError", (_error: Error, socket: Socket) => socket.destroy());
    server.on("tlsClientError", (_error: Error, socket: Socket) => socket.destroy());
    server.on("connect", (request: IncomingMessage, socket: Socket) => {
      this.#tell(toHttpHit(request, ""));
      socket.end("HTTP/1.1 405 Method Not Allowed\r\nConnection: close\r\n\r\n");
    });
    server.listen({ host: "::", port });
    await once(server, "listening");
  }

  async listenUnix(): Promise<void> {
    const server = createServer((socket) => {
      this.#tell({ kind: "unix", address: LAB_SOCKET, port: 0, peer: "" });
      socket.on("error", () => undefined).resume();
    });
    server.listen(`\0${LAB_SOCKET}`);
    await once(server, "listening");
  }

  #watch(socket: Socket): void {
    const seen = { text: "" };
    this.#tell(Object.assign(seen, { kind: "tcp" as const, ...toWhere(socket) }));
    socket.on("error", () => undefined);
    if (socket instanceof TLSSocket) return;
    socket.on("data", (bytes: Buffer) => {
      if (seen.text.length < TEXT_CHARS) seen.text += bytes.toString("latin1").slice(0, TEXT_CHARS);
    });
  }

  /** `near` names the interface by which groups are joined. */
  async #openUdp(address: string, port: number, near?: string): Promise<void> {
    const isOld = isIPv4(address);
    const socket = createSocket({ type: isOld ? "udp4" : "udp6", reuseAddr: true, ipv6Only: !isOld });
    const isAll = address === "0.0.0.0" || address === "::";
    socket.on("message", (bytes, { address: peer }) => {
      const text = bytes.toString("latin1").slice(0, TEXT_CHARS);
      this.#tell({ kind: "udp", address: isAll ? "*" : address, port, peer, text });
    });
    socket.bind(port, address);
    await once(socket, "listening");
    if (near === undefined) return;
    for (const group of LAB_GROUPS.filter((name) => isIPv4(name) === isOld))
      socket.addMembership(group, near);
  }

  async #take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const hit = toHttpHit(request, (await buffer(request)).toString("latin1"));
    this.#tell(hit);
    const answer = this.#answers.findLast((one) => isFor(one, hit)) ?? {};
    if (answer.forward === undefined) return answerWith(answer, hit, response);
    const socket = this.#openOutside(answer.forward);
    const { method, target, headers, body } = hit;
    const asked = ask({ createConnection: () => socket, method, path: target, headers });
    asked.end(Buffer.from(body, "latin1"));
    const [reply]: IncomingMessage[] = await once(asked, "response");
    if (reply === undefined) return;
    response.writeHead(reply.statusCode ?? 502, reply.headers);
    await pipeline(reply, response);
  }
}

async function answerWith(answer: HttpAnswer, hit: HttpHit, response: ServerResponse): Promise<void> {
  if (answer.silent) return;
  const fill = (text: string): string =>
    text.replaceAll(/\{\{([\w-]+)\}\}/g, (_, name: string) => String(hit.headers[name] ?? ""));
  if (answer.raw !== undefined) return void response.socket?.end(fill(answer.raw), "latin1");
  const { method, target, headers, body } = hit;
  const text = answer.echo
    ? JSON.stringify({ method, target, headers, body })
    : fill(answer.body ?? "a sink\n");
  const more = Object.entries(answer.headers ?? {}).map(([name, value]) => [name, fill(value)]);
  response.writeHead(answer.status ?? 200, {
    ...(answer.gzip ? { "content-encoding": "gzip" } : {}),
    ...Object.fromEntries(more),
  });
  const bytes = Readable.from(repeat(Buffer.from(text), answer.times ?? 1));
  if (answer.gzip) await pipeline(bytes, createGzip(), response);
  else await pipeline(bytes, response);
}

/** Chooses the certificate by the name that the client asks for. */
function toTls({ cert, key, bad }: SinkCertificates): TlsOptions {
  const SNICallback: TlsOptions["SNICallback"] = (name, done) =>
    done(null, createSecureContext({ cert: bad.get(name) ?? cert, key }));
  return { cert, key, SNICallback };
}

function* repeat(bytes: Buffer, times: number): Generator<Buffer> {
  for (let round = 0; round < times; round += 1) yield bytes;
}

type HttpHit = Extract<Hit, { kind: "http" }>;

function toHttpHit(request: IncomingMessage, body: string): HttpHit {
  const { socket } = request;
  const serverName = socket instanceof TLSSocket && socket.servername ? socket.servername : undefined;
  return {
    ...{ kind: "http", ...toWhere(socket), secure: socket instanceof TLSSocket, serverName },
    ...{ method: request.method ?? "", target: request.url ?? "", headers: request.headers, body },
  };
}

function isFor({ for: wanted = {} }: HttpAnswer, hit: HttpHit): boolean {
  const host = String(hit.headers.host ?? "").replace(/:\d+$/, "");
  const fits = (want: string | number | undefined, has: string | number): boolean =>
    want === undefined || want === has;
  return (
    fits(wanted.host, host) &&
    fits(wanted.address, hit.address) &&
    fits(wanted.port, hit.port) &&
    fits(wanted.path, hit.target.split("?")[0] ?? "")
  );
}

function toWhere(socket: Socket): Pick<Hit, "address" | "port" | "peer"> {
  return {
    address: toUnmapped(socket.localAddress),
    port: socket.localPort ?? 0,
    peer: toUnmapped(socket.remoteAddress),
  };
}
