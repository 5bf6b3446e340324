/** Names with a server each, all on loopback, and a lease that may reach some of them: what comes to a server is kept as bytes. */
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import {
  createServer as createHttp,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from "node:http";
import { connect, createServer as createTcp, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { createServer as createTls, getCACertificates, setDefaultCACertificates } from "node:tls";
import { onTestFinished } from "vitest";
import type { PrivateTarget } from "../../src/broker/address-rule.ts";
import { writeCertificates } from "./lab-certificates.ts";
import { type LeaseWishes, openDoor, openLease, type ToldLease, toPort } from "./told-lease.ts";

/** Takes the answer over; without one a sink tells what it was asked. */
export type Answer = (request: IncomingMessage, response: ServerResponse, body: string) => void;

/** Bytes as they are, then the end of the connection. */
export function rawAnswer(bytes: string | Buffer): Answer {
  return (request) => void request.socket.end(bytes, "latin1");
}

const NAMES = ["allowed", "other", "evil", "bound", "model"].map((name) => `${name}.example`);
export type SinkName = "allowed" | "other" | "evil" | "bound" | "model";

export class Sink {
  readonly host: string;
  readonly scheme: "http" | "https";
  port = 0;
  /** Connections, also those whose TLS never came about. */
  dials = 0;
  /** Of each connection, what came on it (latin1). */
  readonly connections: string[] = [];
  readonly requests: { method: string; url: string; headers: IncomingMessage["headers"]; body: string }[] =
    [];
  answer: Answer = echo;

  constructor(host: string, scheme: "http" | "https") {
    this.host = host;
    this.scheme = scheme;
  }

  get authority(): string {
    return `${this.host}:${this.port}`;
  }

  get url(): string {
    return `${this.scheme}://${this.authority}`;
  }

  /** Path of the same under a door. */
  get base(): string {
    return `/to/${this.scheme}/${this.authority}`;
  }

  /** As an egress pattern. */
  get pattern(): string {
    return this.scheme === "http" ? this.url : this.authority;
  }

  reset(): void {
    this.dials = 0;
    this.connections.length = 0;
    this.requests.length = 0;
    this.answer = echo;
  }

  serve(http: Server, socket: Socket): void {
    const index = this.connections.push("") - 1;
    http.emit("connection", socket);
    socket.on("data", (bytes: Buffer) => (this.connections[index] += bytes.toString("latin1")));
    socket.on("error", () => undefined);
  }

  async take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = "", url = "", headers } = request;
    const early = this.answer !== echo && headers["x-early"] !== undefined;
    const body = early ? "" : (await buffer(request)).toString("latin1");
    this.requests.push({ method, url, headers, body });
    this.answer(request, response, body);
  }
}

function echo(request: IncomingMessage, response: ServerResponse, body: string): void {
  const { method, url, headers } = request;
  response.setHeader("content-type", "application/json").end(JSON.stringify({ method, url, headers, body }));
}

export type Sinks = Readonly<Record<SinkName, Sink>> & { readonly plain: Readonly<Record<SinkName, Sink>> };

/** An HTTPS server for each name, and a plain one; this process trusts their authority from now on. */
export async function openSinks(): Promise<{ sinks: Sinks; all: Sink[]; close(): void }> {
  const directory = mkdtempSync(join(tmpdir(), "pillion-sinks-"));
  writeCertificates(directory, NAMES);
  const read = (name: string): string => readFileSync(join(directory, name), "utf8");
  const [key, cert, authority] = [read("leaf.key"), read("leaf.pem"), read("ca.pem")];
  setDefaultCACertificates([...getCACertificates("default"), authority]);
  rmSync(directory, { recursive: true });
  const open = async (host: string, scheme: "http" | "https") => {
    const sink = new Sink(host, scheme);
    const http = createHttp({ insecureHTTPParser: true }, (request, response) => {
      void sink.take(request, response).catch(() => response.destroy());
    });
    http.on("clientError", (_error, socket) => socket.destroy());
    const serve = (socket: Socket): void => sink.serve(http, socket);
    const server =
      scheme === "https" ? createTls({ key, cert, ALPNProtocols: ["http/1.1"] }, serve) : createTcp(serve);
    server.on("connection", () => {
      sink.dials += 1;
    });
    server.on("tlsClientError", () => undefined);
    await once(server.listen(0, "127.0.0.1"), "listening");
    sink.port = toPort(server);
    return { sink, server };
  };
  const secure = await Promise.all(NAMES.map((host) => open(host, "https")));
  const plain = await Promise.all(NAMES.map((host) => open(host, "http")));
  const byName = (list: typeof secure) =>
    Object.fromEntries(list.map(({ sink }) => [sink.host.split(".")[0], sink])) as Record<SinkName, Sink>; // one for each of NAMES
  const opened = [...secure, ...plain];
  return {
    sinks: { ...byName(secure), plain: byName(plain) },
    all: opened.map(({ sink }) => sink),
    close: () => opened.forEach(({ server }) => void server.close()),
  };
}

/** A lease for which every name is on loopback and every sink's origin is a private target: only the policy stands between. */
export function openSinkLease(all: readonly Sink[], wishes: LeaseWishes = {}): ToldLease {
  const privateTargets: PrivateTarget[] = all.map(({ scheme, host, port }) => ({
    scheme,
    host,
    port,
    cidr: null,
  }));
  return openLease({
    ...wishes,
    dialer: { privateTargets, resolve: async () => ["127.0.0.1"], ...wishes.dialer },
  });
}

export type OpenDoor = ToldLease & { readonly port: number; readonly placeholder: string };

export async function openSinkDoor(all: readonly Sink[], wishes: LeaseWishes = {}): Promise<OpenDoor> {
  const told = openSinkLease(all, wishes);
  return { ...told, port: await openDoor(told.lease), placeholder: told.lease.placeholder };
}

/** A connection of the test's, ended with it. */
export function openSocket(port: number): Socket {
  const socket = connect({ port, host: "127.0.0.1" });
  socket.on("error", () => undefined);
  onTestFinished(() => void socket.destroy());
  return socket;
}
