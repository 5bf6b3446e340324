/** The state of the workspace before the agent: what changes are told and diffs are made against. */
import type { BigIntStats } from "node:fs";
import { BaselineWriter, type KeptContent } from "./baseline-pack.ts";
import { HeldDirectory, readContent } from "./held-directory.ts";
import { TimeSlice } from "./time-slice.ts";
import { type EntryKind, isExecutable, TreeWalk, type WalkedEntry } from "./tree-walk.ts";
import { WorkspaceError } from "./workspace-error.ts";
import { WORKSPACE_LIMITS, type WorkspaceLimits } from "./workspace-limits.ts";

export interface SnapshotEntry {
  readonly kind: EntryKind;
  readonly size: number;
  readonly executable: boolean;
  readonly opaque: boolean;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
  readonly ino: bigint;
  readonly linkTarget?: string;
  /** Where the content lies; absent when it was too large or unreadable. */
  readonly kept?: KeptContent;
}

export interface Snapshot {
  readonly entries: ReadonlyMap<string, SnapshotEntry>;
  /** True when the tree holds more than was listed. */
  readonly truncated: boolean;
  /** Wall clock at the beginning, in nanoseconds, as file times are. */
  readonly takenNs: bigint;
}

/**
 * Reads the tree under `root` and keeps the contents of its smaller files in `keepDir` (made when missing; it must lie
 * outside `root`). `.git` and `node_modules` are one entry each.
 *
 * @throws {WorkspaceError} `not_found` when `root` is no directory, or is a symlink
 */
export async function takeSnapshot(
  root: string,
  keepDir: string,
  limits: WorkspaceLimits = WORKSPACE_LIMITS,
): Promise<Snapshot> {
  const takenNs = BigInt(Date.now()) * 1_000_000n;
  using directory = HeldDirectory.open(root);
  if (directory === undefined) throw new WorkspaceError("not_found", "the workspace is not a directory");
  using baseline = new BaselineWriter(keepDir);
  const walk = new TreeWalk(limits);
  const slice = new TimeSlice();
  const entries = new Map<string, SnapshotEntry>();
  for (const entry of walk.entries(directory)) {
    entries.set(entry.path, toSnapshotEntry(entry, baseline, limits));
    if (slice.isSpent) await slice.renew();
  }
  return { entries, truncated: walk.truncated, takenNs };
}

function toSnapshotEntry(
  entry: WalkedEntry,
  baseline: BaselineWriter,
  limits: WorkspaceLimits,
): SnapshotEntry {
  const { kind, stat, opaque, parent, name } = entry;
  const read = kind === "file" ? keepContent(entry, baseline, limits) : undefined;
  const linkTarget = kind === "symlink" ? parent.linkTarget(name) : undefined;
  return {
    kind,
    opaque,
    ...toTimes(read?.stat ?? stat),
    ...(linkTarget === undefined ? {} : { linkTarget }),
    ...(read?.kept === undefined ? {} : { kept: read.kept }),
  };
}

function toTimes(
  stat: BigIntStats,
): Pick<SnapshotEntry, "size" | "executable" | "mtimeNs" | "ctimeNs" | "ino"> {
  const { size, mtimeNs, ctimeNs, ino } = stat;
  return { size: Number(size), executable: isExecutable(stat), mtimeNs, ctimeNs, ino };
}

function keepContent(
  { parent, name, stat }: WalkedEntry,
  baseline: BaselineWriter,
  limits: WorkspaceLimits,
): { stat: BigIntStats; kept: KeptContent | undefined } | undefined {
  const size = Number(stat.size);
  if (size > limits.maxFileBytes || baseline.bytes + size > limits.maxTotalBytes) return undefined;
  using file = parent.openFile(name, stat);
  if (file === undefined) return undefined;
  const content = readContent(file.fd, size);
  return { stat: file.stat, kept: content?.length === size ? baseline.keep(content) : undefined };
}
