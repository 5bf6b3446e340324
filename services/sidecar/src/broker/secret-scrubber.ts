/** Replaces a secret in a byte stream, also where it is split over chunks; holds back only what may be its beginning. */
import { Transform, type TransformCallback } from "node:stream";

const STAND_IN = Buffer.from("[redacted]");

export class SecretScrubber extends Transform {
  readonly #secret: Buffer;
  #held = Buffer.alloc(0);

  constructor(secret: string) {
    super();
    this.#secret = Buffer.from(secret);
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    if (this.#secret.length === 0) return done(null, chunk);
    let rest = Buffer.concat([this.#held, chunk]);
    for (let at = rest.indexOf(this.#secret); at !== -1; at = rest.indexOf(this.#secret)) {
      this.push(rest.subarray(0, at));
      this.push(STAND_IN);
      rest = rest.subarray(at + this.#secret.length);
    }
    const held = this.#overlap(rest);
    this.#held = Buffer.from(rest.subarray(rest.length - held));
    if (held < rest.length) this.push(rest.subarray(0, rest.length - held));
    done();
  }

  override _flush(done: TransformCallback): void {
    if (this.#held.length > 0) this.push(this.#held);
    done();
  }

  /** Length of the longest end of `bytes` that is a beginning of the secret. */
  #overlap(bytes: Buffer): number {
    for (let length = Math.min(bytes.length, this.#secret.length - 1); length > 0; length -= 1) {
      if (bytes.subarray(bytes.length - length).equals(this.#secret.subarray(0, length))) return length;
    }
    return 0;
  }
}
