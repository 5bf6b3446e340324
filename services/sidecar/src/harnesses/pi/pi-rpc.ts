/** Speaks Pi's RPC: JSON lines on the process's stdio, responses matched by id, everything else passed on in order. */
import { Fault } from "../../kernel/fault.ts";
import { readLines } from "../../kernel/lines.ts";
import type { SandboxProcess } from "../../sandboxes/sandbox.ts";
import { type PiRecord, type PiResponse, toPiRecord } from "./pi-records.ts";

const MAX_LINE_CHARS = 32 * 1024 * 1024;
const MAX_WAITING_RECORDS = 10_000;
const MAX_WAITING_CHARS = 32 * 1024 * 1024;

type Waiting = { readonly record: PiRecord; readonly chars: number };

export class PiRpc {
  readonly #process: SandboxProcess;
  readonly #waiting = new Map<string, { resolve(response: PiResponse): void; reject(fault: Fault): void }>();
  readonly #records: Waiting[] = [];
  #waitingChars = 0;
  #taken = Promise.withResolvers<void>();
  #wake: (() => void) | undefined;
  #ended: Fault | undefined;
  #discarding = false;
  #nextId = 1;

  constructor(process: SandboxProcess) {
    this.#process = process;
    process.stdio.on("error", () => undefined);
    void this.#read().then(
      () => this.#end(new Fault("harness_crashed", "Pi closed its output before it was done.")),
      (error: unknown) => this.#end(toProtocolFault(error)),
    );
  }

  /** Sends a command; resolves to its response. Throws harness_protocol when Pi says no, harness_crashed when it is gone. */
  async ask(command: { type: string } & Record<string, unknown>): Promise<unknown> {
    if (this.#ended !== undefined) throw this.#ended;
    const id = `p${this.#nextId++}`;
    const { promise, resolve, reject } = Promise.withResolvers<PiResponse>();
    this.#waiting.set(id, { resolve, reject });
    this.#process.stdio.write(`${JSON.stringify({ id, ...command })}\n`);
    const response = await promise.finally(() => this.#waiting.delete(id));
    if (response.success) return response.data;
    throw new Fault("harness_protocol", `Pi refused the command "${command.type}".`, {
      cause: new Error(response.error),
    });
  }

  /** Records that are not responses, in order; throws once Pi is gone or has broken the protocol. */
  async next(): Promise<PiRecord> {
    for (;;) {
      const next = this.#records.shift();
      if (next !== undefined) {
        this.#waitingChars -= next.chars;
        this.#taken.resolve();
        return next.record;
      }
      if (this.#ended !== undefined) throw this.#ended;
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      await promise;
    }
  }

  /** From now on nobody reads the records: what comes is dropped, so that answers are still heard. */
  discard(): void {
    this.#discarding = true;
    this.#records.length = 0;
    this.#waitingChars = 0;
    this.#taken.resolve();
  }

  /** Asks Pi to end, by closing its input. */
  closeInput(): void {
    this.#process.stdio.end();
  }

  async #read(): Promise<void> {
    for await (const line of readLines(this.#process.stdio, MAX_LINE_CHARS)) {
      if (line === "") continue;
      const record = toPiRecord(line);
      if (record === null) continue;
      if (record.type === "response") this.#answer(record);
      else this.#push({ record, chars: line.length });
      // A reader that falls behind stops Pi, not the sidecar's memory.
      while (this.#isFull()) {
        this.#taken = Promise.withResolvers<void>();
        await this.#taken.promise;
      }
    }
  }

  #answer(response: PiResponse): void {
    if (response.id === undefined) throw new Error(`Pi could not read a command: ${response.error ?? ""}`);
    this.#waiting.get(response.id)?.resolve(response);
  }

  #isFull(): boolean {
    return this.#records.length > MAX_WAITING_RECORDS || this.#waitingChars > MAX_WAITING_CHARS;
  }

  #push(waiting: Waiting): void {
    if (this.#discarding) return;
    this.#records.push(waiting);
    this.#waitingChars += waiting.chars;
    this.#wake?.();
  }

  #end(fault: Fault): void {
    this.#ended = fault;
    for (const waiting of this.#waiting.values()) waiting.reject(fault);
    this.#wake?.();
  }
}

function toProtocolFault(error: unknown): Fault {
  if (error instanceof Fault) return error;
  return new Fault("harness_protocol", "Pi wrote something that is not its protocol.", { cause: error });
}
