/** npm packages inside others' bundles, as far as esbuild's own marks tell: `__commonJS({"node_modules/name/file.js"`. */

const MARK = /__(?:esm|commonJS)\w*\(\{\s*"(?:[^"\n]{0,300}\/)?node_modules\/((?:@[\w.-]+\/)?[\w.-]+)\//g;
const OVERLAP = 512;

/** Looks while a text file streams by. What a bundler has melted into one scope leaves no mark and is not found. */
export class EmbeddedSearch {
  readonly #names = new Set<string>();
  #tail = "";

  add(chunk: Buffer): void {
    const window = this.#tail + chunk.toString("latin1");
    for (const match of window.matchAll(MARK)) this.#names.add(match[1] ?? "");
    this.#tail = window.slice(-OVERLAP);
  }

  /** Call when the file is over. */
  toNames(): string[] {
    return [...this.#names].sort();
  }
}
