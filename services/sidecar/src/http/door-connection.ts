/** One connection of the door as Node's HTTP server may have it: what it writes reaches the pipe as whole buffers. */
import { Duplex } from "node:stream";

type Done = (error?: Error | null) => void;

/**
 * Seen with Node 24.21: where text was gathered into one write to an HTTP/2 stream with an empty part at its end, as at the
 * end of an answer, the client once read freed memory of this process in place of the head. Why was not proved; no text
 * and nothing empty is given to the stream since.
 */
export class DoorConnection extends Duplex {
  readonly #inner: Duplex;

  constructor(inner: Duplex) {
    super({ allowHalfOpen: true });
    this.#inner = inner;
    inner.on("data", (chunk: Buffer) => {
      if (!this.push(chunk)) inner.pause();
    });
    inner.once("end", () => this.push(null));
    inner.once("error", (error) => this.destroy(error));
    inner.once("close", () => {
      const isRead = this.readableEnded || !inner.readableEnded;
      if (isRead) this.destroy();
      else this.once("end", () => this.destroy()); // what came before the end is still to be read
    });
  }

  override _read(): void {
    this.#inner.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: Done): void {
    if (chunk.length === 0) done();
    else this.#inner.write(chunk, done);
  }

  override _writev(writes: { chunk: Buffer }[], done: Done): void {
    this._write(Buffer.concat(writes.map(({ chunk }) => chunk)), "binary", done);
  }

  override _final(done: Done): void {
    this.#inner.end(done);
  }

  override _destroy(error: Error | null, done: Done): void {
    this.#inner.destroy();
    done(error);
  }
}
