/** What differs between the workspace now and its snapshot, or all that is in it. */
import { Comparison } from "./comparison.ts";
import { HeldDirectory } from "./held-directory.ts";
import type { Snapshot, SnapshotEntry } from "./snapshot.ts";
import { TimeSlice } from "./time-slice.ts";
import { TreeWalk } from "./tree-walk.ts";
import type { WorkspaceEntry } from "./workspace-entry.ts";
import { WORKSPACE_LIMITS, type WorkspaceLimits } from "./workspace-limits.ts";

export interface WorkspaceChanges {
  /** Sorted by path. */
  readonly files: WorkspaceEntry[];
  /** True when the tree holds more than was listed, now or in the snapshot. */
  readonly truncated: boolean;
}

/**
 * Walks the tree and compares. A file whose times alone changed is unchanged, except a large one that the snapshot did
 * not keep: there a newer time counts as a modification. A directory is modified only when it stands for its contents
 * or was something else before. A root that is gone is an empty tree.
 */
export async function readChanges(
  root: string,
  snapshot: Snapshot,
  limits: WorkspaceLimits = WORKSPACE_LIMITS,
  { all = false }: { all?: boolean } = {},
): Promise<WorkspaceChanges> {
  let denied = false;
  using directory = HeldDirectory.open(root, () => {
    denied = true;
  });
  if (denied) return { files: [], truncated: true };
  const walk = new TreeWalk(limits);
  const slice = new TimeSlice();
  const comparison = new Comparison(snapshot, limits, all);
  const files: WorkspaceEntry[] = [];
  const seen = new Set<string>();
  for (const entry of directory === undefined ? [] : walk.entries(directory)) {
    seen.add(entry.path);
    const compared = comparison.compare(entry);
    if (all || compared.change !== "unchanged") files.push(compared);
    if (slice.isSpent) await slice.renew();
  }
  for (const [path, before] of snapshot.entries) {
    if (seen.has(path)) continue;
    // After a walk that left things out, a path that was not met may still be there.
    if (walk.truncated && directory !== undefined && mayExist(directory, path)) continue;
    files.push(toDeleted(path, before));
    if (slice.isSpent) await slice.renew();
  }
  files.sort((a, b) => (a.path < b.path ? -1 : 1));
  return { files, truncated: walk.truncated || snapshot.truncated };
}

/** Everything in the tree, each entry `unchanged`. */
export async function listFiles(
  root: string,
  limits: WorkspaceLimits = WORKSPACE_LIMITS,
): Promise<WorkspaceChanges> {
  const nothing: Snapshot = { entries: new Map(), truncated: false, takenNs: 0n };
  const { files, truncated } = await readChanges(root, nothing, limits, { all: true });
  return { files: files.map((file) => ({ ...file, change: "unchanged" })), truncated };
}

function toDeleted(path: string, { kind, size, executable, opaque }: SnapshotEntry): WorkspaceEntry {
  return { path, change: "deleted", kind, size, executable, ...(opaque ? { opaque } : {}) };
}

function mayExist(directory: HeldDirectory, path: string): boolean {
  const slash = path.indexOf("/");
  if (slash === -1) return !directory.isGone(path);
  let denied = false;
  using child = directory.openDirectory(path.slice(0, slash), () => {
    denied = true;
  });
  return child === undefined ? denied : mayExist(child, path.slice(slash + 1));
}
