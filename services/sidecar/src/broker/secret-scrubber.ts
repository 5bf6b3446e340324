/** Replaces secrets in a byte stream, also where one is split over chunks; holds back only what may be a beginning. */
import { Transform, type TransformCallback } from "node:stream";

const STAND_IN = "[redacted]";

export class SecretScrubber extends Transform {
  readonly #secrets: readonly Buffer[];
  #held = Buffer.alloc(0);

  /** Where one secret holds another, the longer one is found. */
  constructor(secrets: readonly string[]) {
    super();
    this.#secrets = toLongestFirst(secrets).map((secret) => Buffer.from(secret));
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    let rest = Buffer.concat([this.#held, chunk]);
    for (let hit = this.#find(rest); hit !== undefined; hit = this.#find(rest)) {
      this.push(rest.subarray(0, hit.at));
      this.push(STAND_IN);
      rest = rest.subarray(hit.at + hit.length);
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

  /** The first hit; of several at one place the longest. */
  #find(bytes: Buffer): { at: number; length: number } | undefined {
    let first: { at: number; length: number } | undefined;
    for (const secret of this.#secrets) {
      const at = bytes.indexOf(secret);
      if (at !== -1 && (first === undefined || at < first.at)) first = { at, length: secret.length };
    }
    return first;
  }

  /** Length of the longest end of `bytes` that is a beginning of a secret. */
  #overlap(bytes: Buffer): number {
    return Math.max(0, ...this.#secrets.map((secret) => overlapWith(bytes, secret)));
  }
}

/** The text without the secrets, for what comes whole: header values. */
export function scrubText(text: string, secrets: readonly string[]): string {
  return toLongestFirst(secrets).reduce((clean, secret) => clean.replaceAll(secret, STAND_IN), text);
}

function toLongestFirst(secrets: readonly string[]): string[] {
  return secrets.filter((secret) => secret !== "").toSorted((a, b) => b.length - a.length);
}

function overlapWith(bytes: Buffer, secret: Buffer): number {
  for (let length = Math.min(bytes.length, secret.length - 1); length > 0; length -= 1) {
    if (bytes.subarray(bytes.length - length).equals(secret.subarray(0, length))) return length;
  }
  return 0;
}
