/** The finished file system of an image: its layers laid over each other, with what they delete. */
import { posix } from "node:path";
import { toAbsolute } from "./image-path.ts";
import type { FileEntry, Layer, LayerEntry } from "./layer.ts";

const WHITEOUT = ".wh.";
const OPAQUE = ".wh..wh..opq";
const MAX_LINKS = 40;

export type MergedEntry = { readonly entry: LayerEntry; readonly layer: Layer };

export class MergedTree {
  readonly #entries = new Map<string, MergedEntry>();
  readonly #children = new Map<string, string[]>();

  constructor(layers: readonly Layer[]) {
    for (const layer of layers) this.#lay(layer);
    for (const path of this.#entries.keys()) {
      const directory = posix.dirname(path);
      const siblings = this.#children.get(directory);
      if (siblings === undefined) this.#children.set(directory, [path]);
      else siblings.push(path);
    }
  }

  /** Without following a link. */
  get(path: string): MergedEntry | undefined {
    return this.#entries.get(path);
  }

  paths(): IterableIterator<string> {
    return this.#entries.keys();
  }

  /** Whether anything is at the path or below it; an archive need not name the folders of its files. */
  holds(path: string): boolean {
    return this.#entries.has(path) || this.#entries.keys().some((known) => known.startsWith(`${path}/`));
  }

  /** Absolute paths of what lies directly in a directory. */
  list(directory: string): readonly string[] {
    return this.#children.get(directory) ?? [];
  }

  /** Whether this layer's file is still what stands there. */
  shows(path: string, layerName: string): boolean {
    return this.#entries.get(path)?.layer.name === layerName;
  }

  /** The path with every link in it followed; undefined where it leads nowhere. */
  resolve(path: string): string | undefined {
    let rest = toAbsolute(path).split("/").filter(Boolean);
    let done = "/";
    for (let links = 0; rest.length > 0; ) {
      const [first = "", ...others] = rest;
      const next = posix.join(done, first);
      const entry = this.#entries.get(next)?.entry;
      if (entry?.kind !== "symlink") {
        [done, rest] = [next, others];
        continue;
      }
      if (++links > MAX_LINKS) return undefined;
      rest = [...toAbsolute(posix.resolve(done, entry.target)).split("/").filter(Boolean), ...others];
      done = "/";
    }
    return this.#entries.has(done) ? done : undefined;
  }

  /** The regular file at a path, links followed. */
  file(path: string): FileEntry | undefined {
    let resolved = this.resolve(path);
    for (let links = 0; resolved !== undefined && links < MAX_LINKS; links++) {
      const entry = this.#entries.get(resolved)?.entry;
      if (entry?.kind === "file") return entry;
      resolved = entry?.kind === "hardlink" ? this.resolve(entry.target) : undefined;
    }
    return undefined;
  }

  #lay(layer: Layer): void {
    const paths = [...layer.entries.keys()];
    // What a layer deletes, it deletes of the layers below, wherever the mark stands among its entries.
    for (const path of paths) {
      const name = posix.basename(path);
      if (name === OPAQUE) this.#removeBelow(posix.dirname(path));
      else if (name.startsWith(WHITEOUT))
        this.#remove(posix.join(posix.dirname(path), name.slice(WHITEOUT.length)));
    }
    for (const [path, entry] of layer.entries) {
      if (posix.basename(path).startsWith(WHITEOUT)) continue;
      const before = this.#entries.get(path)?.entry.kind;
      if (before === "directory" && entry.kind !== "directory") this.#remove(path);
      this.#entries.set(path, { entry, layer });
    }
  }

  #remove(path: string): void {
    this.#entries.delete(path);
    this.#removeBelow(path);
  }

  #removeBelow(directory: string): void {
    const prefix = directory === "/" ? "/" : `${directory}/`;
    for (const path of this.#entries.keys()) if (path.startsWith(prefix)) this.#entries.delete(path);
  }
}
