/** The sidecar's end of the pipe: an HTTP/2 server whose one client is the guard. Whatever it says is bounded and parsed. */
import { performServerHandshake, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import type { Duplex, Readable } from "node:stream";
import { type GuardCommand, GuardNotice } from "#contract/guard";
import { MAX_CONTROL_CHARS, PIPE_PATHS } from "#contract/pipe";
import type { Exit } from "#contract/run";
import { within } from "../../kernel/deadline.ts";
import { Fault } from "../../kernel/fault.ts";
import { readLines } from "../../kernel/lines.ts";
import { SteadyPipe } from "./steady-pipe.ts";

const WINDOW_BYTES = 8 * 1024 * 1024;
/** What one stream may send unread. Node gives the session's window back at once, so every stream may, at the same time. */
const STREAM_WINDOW_BYTES = 256 * 1024;
const MAX_STREAMS = 64;
const COMMAND_MS = 30_000;

type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;
export type CommandBody = DistributiveOmit<GuardCommand, "id">;
export type Hello = Extract<GuardNotice, { kind: "hello" }>;
type Pending = { resolve(value: unknown): void; reject(fault: Fault): void };

export class GuardLink {
  readonly hello: Promise<Hello>;
  readonly exited: Promise<Exit>;
  /** The harness's stdout and stdin, once it has been started. */
  readonly stdio: Promise<Duplex>;
  readonly stderr: Promise<Readable>;
  /** Resolves when the pipe is gone, for whatever reason. */
  readonly closed: Promise<void>;

  readonly #session: ServerHttp2Session;
  readonly #pipe: SteadyPipe;
  readonly #acceptDoor: (connection: Duplex) => void;
  readonly #pending = new Map<number, Pending>();
  readonly #fills = new Map<number, (stream: ServerHttp2Stream) => void>();
  readonly #data = new Map<number, (stream: ServerHttp2Stream) => void>();
  readonly #first = {
    hello: Promise.withResolvers<Hello>(),
    exited: Promise.withResolvers<Exit>(),
    stdio: Promise.withResolvers<Duplex>(),
    stderr: Promise.withResolvers<Readable>(),
    closed: Promise.withResolvers<void>(),
  };
  #control: ServerHttp2Stream | undefined;
  #nextId = 1;

  constructor(pipe: Duplex, acceptDoor: (connection: Duplex) => void) {
    this.#acceptDoor = acceptDoor;
    this.#pipe = new SteadyPipe(pipe, () => this.#session.destroy());
    this.hello = this.#first.hello.promise;
    this.exited = this.#first.exited.promise;
    this.stdio = this.#first.stdio.promise;
    this.stderr = this.#first.stderr.promise;
    this.closed = this.#first.closed.promise;
    for (const promise of [this.hello, this.exited, this.stdio, this.stderr]) promise.catch(() => undefined);
    this.#session = performServerHandshake(this.#pipe, {
      settings: {
        initialWindowSize: STREAM_WINDOW_BYTES,
        maxConcurrentStreams: MAX_STREAMS,
        maxHeaderListSize: 16_384,
      },
      maxSessionMemory: 64,
      maxSessionInvalidFrames: 10,
    });
    this.#session.setLocalWindowSize(WINDOW_BYTES);
    this.#session.on("stream", (stream, headers) => this.#route(stream, String(headers[":path"] ?? "")));
    this.#session.on("error", () => this.destroy()); // "close" follows
    this.#session.once("close", () => this.#end());
  }

  /** Sends one command and resolves to its answer; throws sandbox_lost when none comes in time. */
  async ask(body: CommandBody, ms = COMMAND_MS): Promise<unknown> {
    const id = this.#nextId++;
    return this.#send(id, body, ms);
  }

  /** Sends a command whose input is `bytes`. */
  async askWithInput(body: CommandBody, bytes: Readable): Promise<unknown> {
    const id = this.#nextId++;
    this.#fills.set(id, (stream) => {
      bytes.once("error", () => stream.destroy());
      bytes.pipe(stream);
    });
    return this.#send(id, body, COMMAND_MS).finally(() => this.#fills.delete(id));
  }

  /** Sends a command whose answer is a stream of bytes; the command's failure is the stream's error. */
  async askForStream(body: CommandBody): Promise<Readable> {
    const id = this.#nextId++;
    const { promise, resolve, reject } = Promise.withResolvers<Readable>();
    this.#data.set(id, resolve);
    const done = this.#send(id, body, COMMAND_MS);
    done.catch(reject);
    const late = () => new Fault("sandbox_lost", "The sandbox did not send what it was asked for.");
    return within(COMMAND_MS, promise, late).finally(() => this.#data.delete(id));
  }

  /** At once: the session follows the pipe; it would first send what it still has, to a guard that may never read it. */
  destroy(): void {
    this.#pipe.break();
  }

  #send(id: number, body: CommandBody, ms: number): Promise<unknown> {
    const control = this.#control;
    if (control === undefined || control.destroyed) return Promise.reject(lost());
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#pending.set(id, { resolve, reject });
    control.write(`${JSON.stringify({ id, ...body })}\n`);
    const late = () => new Fault("sandbox_lost", `The guard did not answer "${body.op}" in time.`);
    return within(ms, promise, late).finally(() => this.#pending.delete(id));
  }

  #route(stream: ServerHttp2Stream, target: string): void {
    stream.on("error", () => undefined);
    const [path, query = ""] = target.split("?", 2);
    const id = Number(/^id=(\d{1,9})$/.exec(query)?.[1] ?? 0);
    if (path === PIPE_PATHS.door) {
      stream.respond({ ":status": 200 });
      return this.#acceptDoor(stream);
    }
    if (path === PIPE_PATHS.control && this.#control === undefined) return this.#openControl(stream);
    if (path === PIPE_PATHS.fill) return this.#give(stream, this.#fills.get(id));
    if (path === PIPE_PATHS.data) return this.#give(stream, this.#data.get(id));
    if (path === PIPE_PATHS.stdio) return this.#give(stream, this.#first.stdio.resolve);
    if (path === PIPE_PATHS.stderr) return this.#give(stream, this.#first.stderr.resolve);
    stream.close();
  }

  #give(stream: ServerHttp2Stream, take: ((stream: ServerHttp2Stream) => void) | undefined): void {
    if (take === undefined) return stream.close();
    stream.respond({ ":status": 200 });
    take(stream);
  }

  #openControl(stream: ServerHttp2Stream): void {
    this.#control = stream;
    stream.respond({ ":status": 200 });
    void this.#readControl(stream).then(
      () => this.#session.close(),
      () => this.destroy(), // the guard broke the protocol: nothing it says counts any more
    );
  }

  async #readControl(stream: ServerHttp2Stream): Promise<void> {
    for await (const line of readLines(stream, MAX_CONTROL_CHARS))
      this.#take(GuardNotice.parse(JSON.parse(line)));
  }

  #take(notice: GuardNotice): void {
    if (notice.kind === "hello") this.#first.hello.resolve(notice);
    if (notice.kind === "exited") {
      const { code, signal, oom, pidsLimit } = notice;
      this.#first.exited.resolve({ code, signal, oom, ...(pidsLimit ? { pidsLimit } : {}) });
    }
    if (notice.kind === "done") this.#pending.get(notice.id)?.resolve(notice.value);
    if (notice.kind === "failed")
      this.#pending.get(notice.id)?.reject(toGuardFault(notice.code, notice.message));
  }

  #end(): void {
    for (const waiting of this.#pending.values()) waiting.reject(lost());
    this.#pending.clear();
    this.#first.hello.reject(lost());
    this.#first.exited.reject(lost());
    this.#first.stdio.reject(lost());
    this.#first.stderr.reject(lost());
    this.#first.closed.resolve();
  }
}

function lost(): Fault {
  return new Fault("sandbox_lost", "The sandbox ended before its work was done.");
}

/** The guard's own words stay in the log; the caller gets the class. */
function toGuardFault(code: string, message: string): Fault {
  if (code === "not_found" || code === "not_a_file")
    return new Fault("not_found", "There is no such file in the workspace.");
  if (code === "unsafe_path")
    return new Fault("invalid_request", "The path is not a safe path inside the workspace.");
  return new Fault("sandbox_lost", "The guard could not carry out a command.", {
    cause: new Error(`${code}: ${message}`),
  });
}
