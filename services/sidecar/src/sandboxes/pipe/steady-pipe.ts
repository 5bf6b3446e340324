/** A pipe that can break without hurting what writes to it: Node's HTTP/2 throws from nowhere when its stream does. */
import { Duplex } from "node:stream";

type Done = (error?: Error | null) => void;

/**
 * Passes bytes on both ways, with back-pressure, until the inner pipe ends for whatever reason. From then on writes are
 * taken and dropped, and nothing is read; `onBreak` is called once. (Node 24: JSStreamSocket asserts that no write is in
 * flight when the session is destroyed or its stream fails, and that assertion is nobody's to catch.)
 */
export class SteadyPipe extends Duplex {
  readonly #inner: Duplex;
  readonly #onBreak: () => void;
  #isBroken = false;
  #writing: Done | undefined;

  constructor(inner: Duplex, onBreak: () => void) {
    super({ autoDestroy: false, emitClose: true });
    this.#inner = inner;
    this.#onBreak = onBreak;
    const end = (): void => this.break();
    inner.on("data", (chunk: Buffer) => {
      if (!this.#isBroken && !this.push(chunk)) inner.pause();
    });
    inner.once("end", end).once("close", end).on("error", end);
  }

  /** Ends the inner pipe at once. */
  break(): void {
    if (this.#isBroken) return;
    this.#isBroken = true;
    this.#inner.destroy();
    this.#finish();
    // What is in flight is finished in an immediate of its own, and the session must not be destroyed before that.
    setImmediate(() => setImmediate(this.#onBreak));
  }

  override _read(): void {
    if (!this.#isBroken) this.#inner.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: Done): void {
    if (this.#isBroken) return done();
    this.#writing = done;
    this.#inner.write(chunk, () => this.#finish());
  }

  override _final(done: Done): void {
    if (!this.#isBroken) this.#inner.end();
    done();
  }

  override _destroy(_error: Error | null, done: Done): void {
    this.break();
    done(null);
  }

  #finish(): void {
    const done = this.#writing;
    this.#writing = undefined;
    done?.();
  }
}
