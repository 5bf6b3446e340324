/** Takes an attached container's output apart: frames of 8 bytes of header (stream, length) and a payload. Docker Engine API, "Attach". */
import { Duplex, type Readable, Transform, type TransformCallback } from "node:stream";

const HEADER_BYTES = 8;
const STDERR = 2;

/** Passes stdout on, with back-pressure; stderr goes to `onStderr` at once. Throws on a frame of another shape. */
export class StdoutFrames extends Transform {
  readonly #onStderr: (bytes: Buffer) => void;
  #header = Buffer.alloc(0);
  #left = 0;
  #isStderr = false;

  constructor(onStderr: (bytes: Buffer) => void) {
    super();
    this.#onStderr = onStderr;
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    let rest = chunk;
    while (rest.length > 0) {
      if (this.#left === 0) {
        const wanted = HEADER_BYTES - this.#header.length;
        this.#header = Buffer.concat([this.#header, rest.subarray(0, wanted)]);
        rest = rest.subarray(wanted);
        if (this.#header.length < HEADER_BYTES) break;
        const stream = this.#header.readUInt8(0);
        if (stream > STDERR) return done(new Error("the engine sent a frame of no known stream"));
        this.#isStderr = stream === STDERR;
        this.#left = this.#header.readUInt32BE(4);
        this.#header = Buffer.alloc(0);
        continue;
      }
      const payload = rest.subarray(0, this.#left);
      this.#left -= payload.length;
      rest = rest.subarray(payload.length);
      if (this.#isStderr) this.#onStderr(payload);
      else this.push(payload);
    }
    done();
  }
}

/** The pipe on an attached connection: reads stdout, writes stdin; closing either closes the connection. */
export function toPipe(connection: Duplex, onStderr: (bytes: Buffer) => void): Duplex {
  const frames: Readable = connection.pipe(new StdoutFrames(onStderr));
  const pipe = Duplex.from({ readable: frames, writable: connection });
  frames.once("error", () => connection.destroy());
  connection.on("error", () => undefined);
  connection.once("close", () => pipe.destroy());
  pipe.once("close", () => connection.destroy());
  pipe.on("error", () => undefined);
  return pipe;
}
