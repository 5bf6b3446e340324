/** Decides for one entry of the tree how it differs from the snapshot. */
import { type ContentDigest, toContentDigest } from "./content-digest.ts";
import { readContent } from "./held-directory.ts";
import type { Snapshot, SnapshotEntry } from "./snapshot.ts";
import { isExecutable, type WalkedEntry } from "./tree-walk.ts";
import type { WorkspaceEntry } from "./workspace-entry.ts";
import type { WorkspaceLimits } from "./workspace-limits.ts";

// Kernels stamp files by a clock that ticks every 1 to 10 ms: a write in the tick of the snapshot leaves no newer time.
const TICK_NS = 20_000_000n;

type Facts = Pick<WorkspaceEntry, "size" | "executable" | "sha256" | "binary" | "linkTarget">;

export class Comparison {
  readonly #snapshot: Snapshot;
  readonly #limits: WorkspaceLimits;
  readonly #all: boolean;
  #bytesToHash: number;

  /** `all`: digests of unchanged files are wanted as well. */
  constructor(snapshot: Snapshot, limits: WorkspaceLimits, all: boolean) {
    this.#all = all;
    this.#snapshot = snapshot;
    this.#limits = limits;
    this.#bytesToHash = limits.maxHashTotalBytes;
  }

  compare(entry: WalkedEntry): WorkspaceEntry {
    const { path, kind, opaque } = entry;
    const before = this.#snapshot.entries.get(path);
    const facts = this.#readFacts(entry, before);
    const change = before === undefined ? this.#withoutBaseline(entry) : this.#against(before, entry, facts);
    return { path, change, kind, ...facts, ...(opaque ? { opaque } : {}) };
  }

  // A snapshot that left things out cannot tell what is new; a file's own time, which nobody can set, often can.
  #withoutBaseline({ stat }: WalkedEntry): WorkspaceEntry["change"] {
    return this.#snapshot.truncated && this.#isSettled(stat.ctimeNs) ? "unchanged" : "added";
  }

  #against(before: SnapshotEntry, entry: WalkedEntry, facts: Facts): WorkspaceEntry["change"] {
    return before.kind === entry.kind && this.#isSame(before, entry, facts) ? "unchanged" : "modified";
  }

  #isSame(before: SnapshotEntry, entry: WalkedEntry, facts: Facts): boolean {
    switch (entry.kind) {
      case "directory":
        return !entry.opaque || hasSameTimes(before, entry);
      case "symlink":
        return before.linkTarget === facts.linkTarget;
      case "other":
        return before.ino === entry.stat.ino;
      case "file":
        if (before.executable !== facts.executable || before.size !== facts.size) return false;
        if (before.kept === undefined || facts.sha256 === undefined) return hasSameTimes(before, entry);
        return before.kept.sha256 === facts.sha256;
    }
  }

  #readFacts(entry: WalkedEntry, before: SnapshotEntry | undefined): Facts {
    const { kind, stat, parent, name } = entry;
    const facts = { size: Number(stat.size), executable: isExecutable(stat) };
    if (kind === "symlink") {
      const linkTarget = parent.linkTarget(name);
      return linkTarget === undefined ? facts : { ...facts, linkTarget };
    }
    if (kind !== "file") return facts;
    if (before === undefined || !hasSameTimes(before, entry)) return { ...facts, ...this.#readDigest(entry) };
    const { kept } = before;
    if (kept === undefined) return this.#all ? { ...facts, ...this.#readDigest(entry) } : facts;
    if (!this.#isSettled(stat.ctimeNs)) return { ...facts, ...this.#readDigest(entry) };
    return { ...facts, sha256: kept.sha256, binary: kept.binary };
  }

  #readDigest({ parent, name, stat }: WalkedEntry): (ContentDigest & { size: number }) | undefined {
    const size = Number(stat.size);
    if (size > this.#limits.maxHashBytes || size > this.#bytesToHash) return undefined;
    this.#bytesToHash -= size;
    using file = parent.openFile(name, stat);
    const content = file === undefined ? undefined : readContent(file.fd, size);
    return content === undefined ? undefined : { ...toContentDigest(content), size: content.length };
  }

  #isSettled(ctimeNs: bigint): boolean {
    return ctimeNs + TICK_NS < this.#snapshot.takenNs;
  }
}

function hasSameTimes(before: SnapshotEntry, { stat }: WalkedEntry): boolean {
  return (
    before.size === Number(stat.size) &&
    before.ino === stat.ino &&
    before.mtimeNs === stat.mtimeNs &&
    before.ctimeNs === stat.ctimeNs
  );
}
