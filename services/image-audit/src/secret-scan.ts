/** Looks for credentials in a text: secretlint's maintained rules, then our own for what they leave out. */
import { lintSource } from "@secretlint/core";
import { secretLintProfiler } from "@secretlint/profiler";
import { rules as maintainedRules } from "@secretlint/secretlint-rule-preset-recommend";
import { isLikelyReal, SECRET_RULES } from "./secret-rules.ts";

/** Where a credential stands; never the credential. `line` counts from 1 within the text that was given. */
export type SecretPlace = { readonly rule: string; readonly line: number };

/** A comment in a file must not be able to switch the rules off, so the rule that obeys such comments stays out. */
const COMMENT_FILTER = "@secretlint/secretlint-rule-filter-comments";

const CONFIG = {
  rules: maintainedRules
    .filter(({ meta }) => meta.id !== COMMENT_FILTER)
    .map((rule) => ({ id: rule.meta.id, rule })),
};

/** `path` matters for the rules that are for one kind of file. */
export async function findSecrets(text: string, path: string): Promise<SecretPlace[]> {
  secretLintProfiler.setEnabled(false); // it would keep a mark of every rule on every file
  const maintained = await lintSource({
    source: { filePath: path, content: text, ext: "", contentType: "text" },
    options: { config: CONFIG, maskSecrets: true, noPhysicFilePath: true },
  });
  const places = maintained.messages.map(({ ruleId, range }) => ({
    rule: ruleId.replace("@secretlint/secretlint-rule-", ""),
    at: range[0],
  }));
  for (const rule of SECRET_RULES) {
    if (rule.path?.test(path) === false) continue;
    for (const match of text.matchAll(rule.pattern))
      if (match[1] === undefined || rule.path !== undefined || isLikelyReal(match[1]))
        places.push({ rule: rule.id, at: match.index });
  }
  return places.map(({ rule, at }) => ({ rule, line: countLines(text, at) }));
}

function countLines(text: string, end: number): number {
  let lines = 1;
  for (let at = text.indexOf("\n"); at !== -1 && at < end; at = text.indexOf("\n", at + 1)) lines++;
  return lines;
}

/** Most of a text that is looked at in one piece; longer ones are looked at in pieces that overlap. */
const WINDOW_BYTES = 1024 * 1024;
const OVERLAP_BYTES = 16 * 1024;

/** Scans a text file while it streams by; memory stays at one window however long the file is. */
export class SecretSearch {
  readonly #path: string;
  readonly #found = new Map<string, SecretPlace>();
  #pieces: Buffer[] = [];
  #length = 0;
  #lines = 0;

  constructor(path: string) {
    this.#path = path;
  }

  async add(chunk: Buffer): Promise<void> {
    this.#pieces.push(chunk);
    this.#length += chunk.length;
    if (this.#length >= WINDOW_BYTES) await this.#look(OVERLAP_BYTES);
  }

  /** Call when the file is over. */
  async toPlaces(): Promise<SecretPlace[]> {
    await this.#look(0);
    return [...this.#found.values()];
  }

  async #look(overlap: number): Promise<void> {
    const window = Buffer.concat(this.#pieces);
    for (const { rule, line } of await findSecrets(window.toString("utf8"), this.#path)) {
      const place = { rule, line: this.#lines + line };
      this.#found.set(`${rule} ${place.line}`, place);
    }
    const done = Math.max(0, window.length - overlap);
    this.#lines += countBytes(window.subarray(0, done), 0x0a);
    this.#pieces = [Buffer.from(window.subarray(done))];
    this.#length = window.length - done;
  }
}

function countBytes(bytes: Buffer, wanted: number): number {
  let count = 0;
  for (let at = bytes.indexOf(wanted); at !== -1; at = bytes.indexOf(wanted, at + 1)) count++;
  return count;
}
