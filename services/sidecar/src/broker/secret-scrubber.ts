/** Replaces secrets in a byte stream, also where one is split over chunks; holds back only what may be a beginning. */
import { Transform, type TransformCallback } from "node:stream";

const STAND_IN = "[redacted]";

/** So much of a secret is looked for first: an expression of whole ones can be too large for the engine, and slow to make. */
const HEAD_CHARS = 32;

/**
 * Finds secrets in a text that was read as latin1, one character a byte, as Node reads headers too. Made once for a lease; of
 * several at one place it finds the longest.
 */
export class SecretFinder {
  readonly #secrets: readonly string[];
  readonly #head: RegExp;
  /** Their first characters. */
  readonly #firsts: ReadonlySet<string>;

  constructor(secrets: readonly string[]) {
    this.#secrets = toLongestFirst(secrets.map((secret) => Buffer.from(secret).toString("latin1")));
    this.#head = toExpression(toLongestFirst(this.#secrets.map((secret) => secret.slice(0, HEAD_CHARS))));
    this.#firsts = new Set(this.#secrets.map((secret) => secret.charAt(0)));
  }

  get isEmpty(): boolean {
    return this.#secrets.length === 0;
  }

  find(text: string, from: number): { readonly index: number; readonly end: number } | null {
    for (let index = this.#findHead(text, from); index !== -1; index = this.#findHead(text, index + 1)) {
      const secret = this.#secrets.find((one) => text.startsWith(one, index));
      if (secret !== undefined) return { index, end: index + secret.length };
    }
    return null;
  }

  /** Where the end of `text`, from `at` on, begins to be the beginning of a secret; the text's length if nowhere. */
  findOpen(text: string, at: number): number {
    const longest = this.#secrets[0]?.length ?? 0;
    const last = Math.max(at, text.length - HEAD_CHARS); // from here on not all of a head need be there
    let open = this.#findHead(text, Math.max(at, text.length - longest + 1));
    for (; open !== -1 && open < last; open = this.#findHead(text, open + 1)) {
      if (this.#isOpen(text, open)) return open;
    }
    for (open = last; open < text.length; open += 1) if (this.#isOpen(text, open)) return open;
    return text.length;
  }

  scrub(text: string): string {
    let clean = "";
    let at = 0;
    for (let hit = this.find(text, at); hit !== null; hit = this.find(text, at)) {
      clean += text.slice(at, hit.index) + STAND_IN;
      at = hit.end;
    }
    return clean + text.slice(at);
  }

  #isOpen(text: string, open: number): boolean {
    if (!this.#firsts.has(text.charAt(open))) return false;
    const end = text.slice(open);
    return this.#secrets.some((secret) => secret.length > end.length && secret.startsWith(end));
  }

  #findHead(text: string, from: number): number {
    this.#head.lastIndex = from;
    return this.#head.exec(text)?.index ?? -1;
  }
}

/** One look takes every byte once, however many hits there are: a server may send nothing but secrets. */
export class SecretScrubber extends Transform {
  readonly #secrets: SecretFinder;
  #held = "";

  constructor(secrets: SecretFinder) {
    super();
    this.#secrets = secrets;
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    const text = this.#held + chunk.toString("latin1");
    let clean = "";
    let at = 0;
    let open = this.#secrets.findOpen(text, at);
    for (
      let hit = this.#secrets.find(text, at);
      hit !== null && hit.index < open;
      hit = this.#secrets.find(text, at)
    ) {
      clean += text.slice(at, hit.index) + STAND_IN;
      at = hit.end;
      if (open < at) open = this.#secrets.findOpen(text, at);
    }
    this.#held = text.slice(open);
    done(null, Buffer.from(clean + text.slice(at, open), "latin1"));
  }

  override _flush(done: TransformCallback): void {
    done(null, Buffer.from(this.#secrets.scrub(this.#held), "latin1"));
  }
}

function toLongestFirst(secrets: readonly string[]): string[] {
  const distinct = new Set(secrets.filter((secret) => secret !== ""));
  return [...distinct].toSorted((a, b) => b.length - a.length);
}

/** Of no secrets: what is nowhere. */
function toExpression(secrets: readonly string[]): RegExp {
  const escaped = secrets.map((secret) => secret.replace(/[^A-Za-z0-9]/g, (sign) => `\\u${toCode(sign)}`));
  return new RegExp(escaped.length === 0 ? "(?!)" : escaped.join("|"), "g");
}

function toCode(sign: string): string {
  return sign.charCodeAt(0).toString(16).padStart(4, "0");
}
