/** Replaces secrets in a byte stream, also where one is split over chunks; holds back only what may be a beginning. */
import { Transform, type TransformCallback } from "node:stream";

const STAND_IN = "[redacted]";

/**
 * Bytes are read as latin1, one character each. One expression of all secrets takes every byte once, however many hits
 * there are: a server may send nothing but secrets.
 */
export class SecretScrubber extends Transform {
  readonly #secrets: readonly string[];
  readonly #secret: RegExp;
  /** By a character's code: whether a secret begins with it. */
  readonly #begins = new Uint8Array(256);
  #held = "";

  /** Of several at one place the longest is found. */
  constructor(secrets: readonly string[]) {
    super();
    this.#secrets = toLongestFirst(secrets.map((secret) => Buffer.from(secret).toString("latin1")));
    this.#secret = toExpression(this.#secrets);
    for (const secret of this.#secrets) this.#begins[secret.charCodeAt(0)] = 1;
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    const text = this.#held + chunk.toString("latin1");
    let clean = "";
    let at = 0;
    let open = this.#findOpen(text, at);
    for (let hit = this.#find(text, at); hit !== null && hit.index < open; hit = this.#find(text, at)) {
      clean += text.slice(at, hit.index) + STAND_IN;
      at = hit.index + hit[0].length;
      if (open < at) open = this.#findOpen(text, at);
    }
    this.#held = text.slice(open);
    done(null, Buffer.from(clean + text.slice(at, open), "latin1"));
  }

  override _flush(done: TransformCallback): void {
    done(null, Buffer.from(this.#held.replace(this.#secret, STAND_IN), "latin1"));
  }

  #find(text: string, at: number): RegExpExecArray | null {
    this.#secret.lastIndex = at;
    return this.#secret.exec(text);
  }

  /** Where the end of `text`, from `at` on, begins to be the beginning of a secret; the text's length if nowhere. */
  #findOpen(text: string, at: number): number {
    const longest = this.#secrets[0]?.length ?? 0;
    for (let open = Math.max(at, text.length - longest + 1); open < text.length; open += 1) {
      if (this.#begins[text.charCodeAt(open)] !== 1) continue;
      const end = text.slice(open);
      if (this.#secrets.some((secret) => secret.length > end.length && secret.startsWith(end))) return open;
    }
    return text.length;
  }
}

/** Takes the secrets out of what comes whole: header values. */
export function toScrub(secrets: readonly string[]): (text: string) => string {
  const secret = toExpression(toLongestFirst(secrets));
  return (text) => text.replace(secret, STAND_IN);
}

function toLongestFirst(secrets: readonly string[]): string[] {
  return secrets.filter((secret) => secret !== "").toSorted((a, b) => b.length - a.length);
}

/** Of no secrets: what is nowhere. */
function toExpression(secrets: readonly string[]): RegExp {
  const escaped = secrets.map((secret) => secret.replace(/[^A-Za-z0-9]/g, (sign) => `\\u${toCode(sign)}`));
  return new RegExp(escaped.length === 0 ? "(?!)" : escaped.join("|"), "g");
}

function toCode(sign: string): string {
  return sign.charCodeAt(0).toString(16).padStart(4, "0");
}
