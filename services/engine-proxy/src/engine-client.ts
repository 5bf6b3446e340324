/** Calls of the engine behind the proxy, each written anew: no byte of a caller's head is ever passed on. */
import { type IncomingMessage, request } from "node:http";
import type { Duplex, Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { Refusal } from "./refusal.ts";

/** The service gives up before. */
const ANSWER_MS = 60_000;
const MAX_ANSWER_BYTES = 16 * 1024 * 1024;

export type EngineCall = {
  readonly method: string;
  /** With its query, made by us. */
  readonly path: string;
  readonly json?: unknown;
  readonly tar?: Readable;
};

export type Upgraded = { readonly answer: IncomingMessage; readonly socket: Duplex; readonly head: Buffer };

export class EngineClient {
  readonly #socketPath: string;
  readonly #answerMs: number;

  /** `answerMs` is how long the engine may be silent. */
  constructor(socketPath: string, answerMs = ANSWER_MS) {
    this.#socketPath = socketPath;
    this.#answerMs = answerMs;
  }

  /**
   * The answer with its body still to be read; `signal` ends that too. Throws a Refusal: 502 when the engine is not there,
   * 504 when it is silent, 499 when the signal was first.
   */
  async call({ method, path, json, tar }: EngineCall, signal: AbortSignal): Promise<IncomingMessage> {
    if (signal.aborted) throw toLeft();
    const body = json === undefined ? undefined : Buffer.from(JSON.stringify(json));
    const type = tar === undefined ? "application/json" : "application/tar";
    const headers = {
      host: "engine",
      ...(body === undefined && tar === undefined ? {} : { "content-type": type }),
      ...(body === undefined ? {} : { "content-length": body.length }),
    };
    const sent = request({
      socketPath: this.#socketPath,
      ...{ method, path, headers, agent: false, signal },
    });
    sent.setTimeout(this.#answerMs, () => sent.destroy(toLate()));
    const answered = new Promise<IncomingMessage>((resolve, reject) => {
      sent.once("response", resolve);
      sent.on("error", (error) => reject(toRefusal(error, signal)));
    });
    if (tar === undefined) sent.end(body);
    else pipeline(tar, sent).catch(() => sent.destroy()); // its failure is seen as one of the answer
    return answered;
  }

  /** A small JSON answer, whole; undefined when the engine says that there is no such thing. */
  async read(path: string, signal: AbortSignal): Promise<unknown> {
    const answer = await this.call({ method: "GET", path }, signal);
    const chunks: Buffer[] = [];
    let length = 0;
    try {
      for await (const chunk of answer) {
        length += chunk.length;
        if (length > MAX_ANSWER_BYTES) throw new Refusal("the engine's answer is too long", 502);
        chunks.push(chunk);
      }
    } catch (error) {
      throw toRefusal(error, signal);
    }
    if (answer.statusCode === 404) return undefined;
    if (answer.statusCode !== 200) throw new Refusal("the engine does not answer as it should", 502);
    return JSON.parse(Buffer.concat(chunks).toString("utf8"));
  }

  /** The connection that becomes a container's streams. Throws a Refusal with the engine's status otherwise. */
  async upgrade(path: string, signal: AbortSignal): Promise<Upgraded> {
    if (signal.aborted) throw toLeft();
    const headers = { host: "engine", connection: "Upgrade", upgrade: "tcp", "content-length": 0 };
    const sent = request({
      socketPath: this.#socketPath,
      ...{ method: "POST", path, headers, agent: false, signal },
    });
    // Of the answer only: the streams may be silent for as long as they like.
    const late = setTimeout(() => sent.destroy(toLate()), this.#answerMs);
    const answered = new Promise<Upgraded>((resolve, reject) => {
      sent.once("upgrade", (answer, socket, head) => resolve({ answer, socket, head }));
      sent.once("response", (answer) => {
        answer.destroy();
        reject(new Refusal("the engine does not attach", answer.statusCode ?? 502));
      });
      sent.on("error", (error) => reject(toRefusal(error, signal)));
    });
    sent.end();
    return answered.finally(() => clearTimeout(late));
  }
}

const toLate = (): Refusal => new Refusal("the engine does not answer in time", 504);
const toLeft = (): Refusal => new Refusal("the caller has left", 499);

function toRefusal(error: unknown, signal: AbortSignal): Refusal {
  if (signal.aborted) return toLeft();
  return error instanceof Refusal ? error : new Refusal("the engine does not answer", 502);
}
