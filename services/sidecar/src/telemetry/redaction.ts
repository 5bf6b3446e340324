/** Takes every known secret out of what is about to be shown, whole and in each form it is likely to travel in. */

import { type TextForm, toTextForms } from "../secret-forms.ts";

const REDACTED = "[redacted]";

/** Forms are looked up by their first characters, so that the time does not grow with the number of secrets. */
const HEAD_CHARS = 3;

const MAX_DEPTH = 8;
const MAX_VALUES = 2_000;
const MAX_CHARS = 65_536;

export interface Redactor {
  /** The text with `[redacted]` for every secret; what overlaps or touches becomes a single mark, so that no part remains. */
  redact(text: string): string;
  /** A plain copy without secrets, errors and their causes included, bounded in depth, number and length. */
  redactValue(value: unknown): unknown;
  /** Counted: a secret added twice is known until it was removed twice. */
  add(secret: string): void;
  remove(secret: string): void;
}

export function createRedactor(secrets: Iterable<string> = []): Redactor {
  const counts = new Map<string, number>();
  const forms = new FormTable();
  const redactor: Redactor = {
    redact: (text) => forms.redact(text),
    redactValue: (value) => new PlainCopy(redactor).copy(value, 0),
    add(secret) {
      if (secret === "") return;
      const count = counts.get(secret) ?? 0;
      counts.set(secret, count + 1);
      if (count === 0) for (const form of toTextForms(secret)) forms.add(form);
    },
    remove(secret) {
      const count = counts.get(secret) ?? 0;
      if (count > 1) counts.set(secret, count - 1);
      if (count !== 1) return;
      counts.delete(secret);
      for (const form of toTextForms(secret)) forms.remove(form);
    },
  };
  for (const secret of secrets) redactor.add(secret);
  return redactor;
}

/** All forms of all secrets. The same form may belong to two secrets, so forms are counted as well. */
class FormTable {
  readonly #byHead = new Map<string, Map<string, { form: TextForm; count: number }>>();

  add(form: TextForm): void {
    const head = form.text.slice(0, HEAD_CHARS);
    const group = this.#byHead.get(head) ?? new Map<string, { form: TextForm; count: number }>();
    const key = toKey(form);
    group.set(key, { form, count: (group.get(key)?.count ?? 0) + 1 });
    this.#byHead.set(head, group);
  }

  remove(form: TextForm): void {
    const head = form.text.slice(0, HEAD_CHARS);
    const group = this.#byHead.get(head);
    const known = group?.get(toKey(form));
    if (group === undefined || known === undefined) return;
    if (known.count > 1) known.count -= 1;
    else group.delete(toKey(form));
    if (group.size === 0) this.#byHead.delete(head);
  }

  redact(text: string): string {
    if (this.#byHead.size === 0) return text;
    const pieces: string[] = [];
    let shownTo = 0;
    let hiddenTo = 0;
    for (let at = 0; at < text.length; at++) {
      const hit = this.#longestAt(text, at);
      if (hit === undefined) continue;
      const from = Math.max(hiddenTo, hit.from);
      if (hit.from > hiddenTo || hiddenTo === 0) pieces.push(text.slice(shownTo, from), REDACTED);
      hiddenTo = Math.max(hiddenTo, hit.to);
      shownTo = hiddenTo;
    }
    return pieces.join("") + text.slice(shownTo);
  }

  /** Where the longest form that begins here has to be hidden. */
  #longestAt(text: string, at: number): { from: number; to: number } | undefined {
    let best: { from: number; to: number } | undefined;
    for (let chars = 1; chars <= HEAD_CHARS; chars++) {
      for (const { form } of this.#byHead.get(text.slice(at, at + chars))?.values() ?? []) {
        if (!text.startsWith(form.text, at)) continue;
        const from = form.widen && isBase64(text[at - 1]) ? at - 1 : at;
        const end = at + form.text.length;
        const to = form.widen && isBase64(text[end]) ? end + 1 : end;
        best = { from: Math.min(from, best?.from ?? from), to: Math.max(to, best?.to ?? to) };
      }
    }
    return best;
  }
}

function toKey({ text, widen }: TextForm): string {
  return `${widen ? "~" : "="}${text}`;
}

function isBase64(character: string | undefined): boolean {
  return character !== undefined && /^[A-Za-z0-9+/_-]$/.test(character);
}

/** One copy of one value; counts what it has copied, so that no value can be too large. */
class PlainCopy {
  readonly #redactor: Redactor;
  readonly #ancestors = new Set<object>();
  #copied = 0;

  constructor(redactor: Redactor) {
    this.#redactor = redactor;
  }

  copy(value: unknown, depth: number): unknown {
    if (++this.#copied > MAX_VALUES) return "[cut]";
    if (typeof value === "string") return this.#text(value);
    if (typeof value === "bigint") return this.#text(String(value));
    if (typeof value === "number") return this.#number(value);
    if (typeof value === "symbol" || typeof value === "function") return `[${typeof value}]`;
    if (typeof value !== "object" || value === null) return value;
    if (this.#ancestors.has(value)) return "[circular]";
    if (depth >= MAX_DEPTH) return "[too deep]";
    this.#ancestors.add(value);
    try {
      return this.#object(value, depth);
    } catch {
      return "[unreadable]"; // a getter or a proxy that throws
    } finally {
      this.#ancestors.delete(value);
    }
  }

  #object(value: object, depth: number): unknown {
    if (value instanceof Date) return Number.isNaN(value.getTime()) ? "[invalid date]" : value.toISOString();
    if (ArrayBuffer.isView(value)) return `[${value.byteLength} bytes]`;
    if (value instanceof Error) return this.#error(value, depth);
    if (value instanceof URL) return this.#text(value.href);
    if (value instanceof Map) return this.#pairs([...value].slice(0, MAX_VALUES), depth);
    if (Array.isArray(value) || value instanceof Set) {
      return [...value].slice(0, MAX_VALUES).map((item) => this.copy(item, depth + 1));
    }
    return this.#pairs(Object.entries(value), depth);
  }

  /** `message`, `stack` and `cause` are no enumerable properties, so they are named. */
  #error(error: Error, depth: number): unknown {
    const pairs: [unknown, unknown][] = [
      ["type", error.name],
      ["message", error.message],
      ["stack", error.stack],
      ...Object.entries(error).filter(([key]) => key !== "name"),
    ];
    if (error.cause !== undefined) pairs.push(["cause", error.cause]);
    if (error instanceof AggregateError) pairs.push(["errors", error.errors]);
    return this.#pairs(pairs, depth);
  }

  #pairs(pairs: readonly (readonly [unknown, unknown])[], depth: number): unknown {
    const copied: [string, unknown][] = [];
    for (const [key, value] of pairs) {
      if (this.#copied > MAX_VALUES) break;
      copied.push([this.#text(String(key)), this.copy(value, depth + 1)]);
    }
    return Object.fromEntries(copied);
  }

  /** A secret may also be a number. */
  #number(value: number): unknown {
    const text = String(value);
    return this.#redactor.redact(text) === text ? value : REDACTED;
  }

  /** Cut after redaction, or half a secret would be left at the cut. */
  #text(text: string): string {
    const redacted = this.#redactor.redact(text);
    return redacted.length > MAX_CHARS ? `${redacted.slice(0, MAX_CHARS)}[cut]` : redacted;
  }
}
