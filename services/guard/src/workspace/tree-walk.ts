/** One bounded walk through an untrusted tree, directory by directory, following no symlink. */
import fs, { type BigIntStats } from "node:fs";
import type { HeldDirectory } from "./held-directory.ts";
import { MAX_PATH_BYTES } from "./relative-path.ts";
import type { WorkspaceLimits } from "./workspace-limits.ts";

export type EntryKind = "file" | "directory" | "symlink" | "other";

export interface WalkedEntry {
  readonly path: string;
  readonly kind: EntryKind;
  readonly stat: BigIntStats;
  /** A directory that stands for all that is in it. */
  readonly opaque: boolean;
  /** Held open only until the next entry is asked for. */
  readonly parent: HeldDirectory;
  readonly name: string;
}

/** Large, and not what a reader of changes looks for. */
const OPAQUE_NAMES: ReadonlySet<string> = new Set([".git", "node_modules"]);

// What Node puts where a name is not UTF-8. Such a name cannot be told in JSON or opened again.
const UNREADABLE = "\uFFFD";

export class TreeWalk {
  /** True when something was left out: too many, too deep, too late, or it could not be read. */
  truncated = false;
  readonly #limits: WorkspaceLimits;
  readonly #opensOpaque: boolean;
  readonly #deadline: number;
  #namesLeft: number;

  /** `opensOpaque` walks through `.git` and `node_modules` too. */
  constructor(limits: WorkspaceLimits, { opensOpaque = false }: { opensOpaque?: boolean } = {}) {
    this.#limits = limits;
    this.#opensOpaque = opensOpaque;
    this.#deadline = performance.now() + limits.maxWalkMs;
    this.#namesLeft = limits.maxEntries;
  }

  /** Everything below `directory`, a directory before what is in it. `prefix` is the directory's own path and a slash. */
  *entries(directory: HeldDirectory, prefix = "", depth = 0): Generator<WalkedEntry, void> {
    for (const name of this.#readNames(directory)) {
      if (performance.now() > this.#deadline) {
        this.truncated = true;
        return;
      }
      yield* this.entryAndBelow(directory, name, prefix + name, depth);
    }
  }

  /** The child `name` and, when it is a directory, everything below it. Nothing when it is gone. */
  *entryAndBelow(parent: HeldDirectory, name: string, path: string, depth = 0): Generator<WalkedEntry, void> {
    if (name.includes(UNREADABLE) || Buffer.byteLength(path) > MAX_PATH_BYTES) {
      this.truncated = true;
      return;
    }
    const stat = parent.stat(name, this.#noteDenied);
    if (stat === undefined) return;
    const kind = toKind(stat);
    const opaque = kind === "directory" && OPAQUE_NAMES.has(name) && !this.#opensOpaque;
    yield { path, kind, stat, opaque, parent, name };
    if (kind === "directory" && !opaque) yield* this.#below(parent, name, path, depth + 1);
  }

  *#below(parent: HeldDirectory, name: string, path: string, depth: number): Generator<WalkedEntry, void> {
    if (depth > this.#limits.maxDepth) {
      this.truncated = true;
      return;
    }
    using directory = parent.openDirectory(name, this.#noteDenied);
    if (directory !== undefined) yield* this.entries(directory, `${path}/`, depth);
  }

  readonly #noteDenied = (): void => {
    this.truncated = true;
  };

  // Names are counted when listed, so that the lists of all open levels together stay bounded.
  #readNames(directory: HeldDirectory): string[] {
    const names: string[] = [];
    try {
      using listing = fs.opendirSync(directory.at(""), { bufferSize: 256 });
      for (let entry = listing.readSync(); entry !== null; entry = listing.readSync()) {
        if (this.#namesLeft === 0) {
          this.truncated = true;
          break;
        }
        this.#namesLeft -= 1;
        names.push(entry.name);
      }
    } catch {
      this.truncated = true;
    }
    return names.sort();
  }
}

export function toKind(stat: BigIntStats): EntryKind {
  if (stat.isFile()) return "file";
  if (stat.isDirectory()) return "directory";
  return stat.isSymbolicLink() ? "symlink" : "other";
}

/** As git sees it: by the owner's bit. */
export function isExecutable(stat: BigIntStats): boolean {
  return stat.isFile() && (stat.mode & 0o100n) !== 0n;
}
