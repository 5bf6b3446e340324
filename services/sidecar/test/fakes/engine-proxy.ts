// A socket before a real container engine that can be told to be in trouble: gone, deaf, slow, failing, or losing answers.
import { mkdtempSync, rmSync } from "node:fs";
import {
  createServer,
  type IncomingMessage,
  type RequestOptions,
  request,
  type ServerResponse,
} from "node:http";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { buffer } from "node:stream/consumers";
import { setTimeout as delay } from "node:timers/promises";

const CALLS = {
  ping: /^GET \/_ping/,
  info: /^GET \/info/,
  "inspect image": /^GET \/images\/.+\/json/,
  create: /^POST \/containers\/create/,
  attach: /^POST \/containers\/[^/]+\/attach/,
  start: /^POST \/containers\/[^/]+\/start/,
  inspect: /^GET \/containers\/[^/]+\/json/,
  remove: /^DELETE \/containers\//,
  list: /^GET \/containers\/json/,
  "create volume": /^POST \/volumes\/create/,
  fill: /^PUT \/containers\/[^/]+\/archive/,
  "remove volume": /^DELETE \/volumes\//,
  "list volumes": /^GET \/volumes/,
} as const;

export type EngineCall = keyof typeof CALLS;

export type Trouble =
  /** Taken, never answered, never passed on. */
  | { readonly kind: "hang" }
  | { readonly kind: "slow"; readonly ms: number }
  | { readonly kind: "fail"; readonly status: number; readonly message: string }
  /** Done, but the connection breaks instead of an answer. */
  | { readonly kind: "lose" }
  /** Passed on when the promise resolves, whether or not anybody still waits for it. */
  | { readonly kind: "hold"; readonly until: Promise<unknown> };

export class EngineProxy implements AsyncDisposable {
  /** For PILLION_DOCKER_HOST. */
  readonly host: string;
  readonly #directory: string;
  readonly #target: string;
  readonly #troubles = new Map<EngineCall, Trouble>();
  readonly #counts = new Map<EngineCall, number>();
  readonly #connections = new Set<Socket>();
  readonly #attached = new Set<Duplex>();
  readonly #server = createServer({ requestTimeout: 0, headersTimeout: 0 });

  private constructor(target: string) {
    this.#directory = mkdtempSync(join(tmpdir(), "pillion-engine-"));
    this.#target = target.slice("unix://".length);
    this.host = `unix://${join(this.#directory, "engine.sock")}`;
    this.#server.on("connection", (socket) => {
      this.#connections.add(socket);
      socket.on("error", () => undefined).once("close", () => this.#connections.delete(socket));
    });
    this.#server.on("request", (incoming, answer) => void this.#serve(incoming, answer));
    this.#server.on("upgrade", (incoming, socket, head) => void this.#upgrade(incoming, socket, head));
  }

  /** `target` as DOCKER_HOST. */
  static async open(target: string): Promise<EngineProxy> {
    const proxy = new EngineProxy(target);
    await proxy.comeBack();
    return proxy;
  }

  /** How often a call was asked for since `calm`. */
  count(call: EngineCall): number {
    return this.#counts.get(call) ?? 0;
  }

  trouble(trouble: Trouble, ...calls: readonly EngineCall[]): void {
    for (const call of calls.length > 0 ? calls : (Object.keys(CALLS) as EngineCall[])) {
      this.#troubles.set(call, trouble);
    }
  }

  /** From now on all is passed on again, and counts begin anew. */
  calm(): void {
    this.#troubles.clear();
    this.#counts.clear();
  }

  /** Breaks the streams of attached containers. */
  cut(): void {
    for (const socket of this.#attached) socket.destroy();
  }

  /** Lets attached streams stand, and nothing through. */
  freeze(): void {
    for (const socket of this.#attached) socket.unpipe().pause();
  }

  /** Everything breaks, and nobody listens any more. */
  async goAway(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#connections) socket.destroy();
    this.cut();
    await closed;
  }

  async comeBack(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(this.host.slice("unix://".length), resolve));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.goAway();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  async #serve(incoming: IncomingMessage, answer: ServerResponse): Promise<void> {
    const trouble = this.#meet(incoming);
    if (trouble?.kind === "hang") return;
    const body = await buffer(incoming); // whole before anything waits: who asked may be gone by then
    if (trouble?.kind === "fail") {
      answer.writeHead(trouble.status, { "content-type": "application/json" });
      answer.end(JSON.stringify({ message: trouble.message }));
      return;
    }
    await waitFor(trouble);
    const outgoing = request(this.#toTarget(incoming), (response) => {
      if (trouble?.kind === "lose") {
        response.resume().once("end", () => incoming.socket.destroy());
        return;
      }
      answer.writeHead(response.statusCode ?? 502, response.headers);
      response.pipe(answer);
    });
    outgoing.on("error", () => incoming.socket.destroy());
    outgoing.end(body);
  }

  async #upgrade(incoming: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    socket.on("error", () => undefined);
    const trouble = this.#meet(incoming);
    if (trouble?.kind === "hang") return;
    if (trouble?.kind === "fail") {
      const body = JSON.stringify({ message: trouble.message });
      const lines = [`HTTP/1.1 ${trouble.status} Trouble`, "content-type: application/json"];
      socket.end([...lines, `content-length: ${body.length}`, "connection: close", "", body].join("\r\n"));
      return;
    }
    await waitFor(trouble);
    // Byte for byte from here on: what belongs to the request and what to the stream is the engine's to tell.
    const upstream = connect(this.#target);
    const headers = incoming.rawHeaders.flatMap((name, index, all) =>
      index % 2 === 0 ? [`${name}: ${all[index + 1]}`] : [],
    );
    const lines = [`${incoming.method} ${incoming.url} HTTP/1.1`, ...headers, "", ""].join("\r\n");
    // In one write, as it came: the engine drops what it read with the headers, and takes the rest as stdin.
    upstream.write(Buffer.concat([Buffer.from(lines), head]));
    if (trouble?.kind !== "lose") return this.#join(socket, upstream);
    upstream.once("data", () => {
      upstream.destroy();
      socket.destroy();
    });
  }

  #join(one: Duplex, other: Duplex): void {
    for (const [from, to] of [
      [one, other],
      [other, one],
    ] as const) {
      this.#attached.add(from);
      from.pipe(to);
      from
        .on("error", () => undefined)
        .once("close", () => {
          this.#attached.delete(from);
          to.destroy();
        });
    }
  }

  #meet({ method, url }: IncomingMessage): Trouble | undefined {
    const line = `${method} ${url}`;
    const [call] =
      (Object.entries(CALLS) as [EngineCall, RegExp][]).find(([, form]) => form.test(line)) ?? [];
    if (call === undefined) throw new Error(`the engine is asked for something unknown: ${line}`);
    this.#counts.set(call, this.count(call) + 1);
    return this.#troubles.get(call);
  }

  #toTarget({ method, url, headers }: IncomingMessage): RequestOptions {
    return { socketPath: this.#target, method: method ?? "GET", path: url ?? "/", headers, agent: false };
  }
}

async function waitFor(trouble: Trouble | undefined): Promise<void> {
  if (trouble?.kind === "slow") await delay(trouble.ms);
  if (trouble?.kind === "hold") await trouble.until;
}
