/** All changes of the workspace as one git-style diff. */
import { BaselineReader } from "./baseline-pack.ts";
import { readChanges } from "./changes.ts";
import { type PatchSide, toFilePatch } from "./file-patch.ts";
import { HeldDirectory, readContent } from "./held-directory.ts";
import { toQuotedPath } from "./quoted-path.ts";
import type { Snapshot, SnapshotEntry } from "./snapshot.ts";
import { TimeSlice } from "./time-slice.ts";
import { isExecutable, toKind } from "./tree-walk.ts";
import type { WorkspaceEntry } from "./workspace-entry.ts";
import { WORKSPACE_LIMITS, type WorkspaceLimits } from "./workspace-limits.ts";

export interface WorkspaceDiff {
  readonly text: string;
  readonly truncated: boolean;
}

/** One side of a change: a file, nothing, or why it cannot be shown. */
type Side = PatchSide | undefined | "too large to diff" | "not readable";

/**
 * A diff that `git apply` and `patch -p1` take for text files. Binary files are named only, as git does; then
 * `git apply` wants `--exclude`. Lines that begin with `#` tell what cannot be shown, and both tools skip them.
 * Directories, sockets and other special files do not appear. Parts are left out whole, so a truncated diff applies.
 * One thing patch(1) refuses: a directory where a file was, or the reverse.
 */
export async function readDiff(
  root: string,
  snapshot: Snapshot,
  keepDir: string,
  limits: WorkspaceLimits = WORKSPACE_LIMITS,
): Promise<WorkspaceDiff> {
  const changes = await readChanges(root, snapshot, limits);
  using baseline = new BaselineReader(keepDir);
  using directory = HeldDirectory.open(root);
  const slice = new TimeSlice();
  const deadline = performance.now() + limits.maxDiffMs;
  const parts: string[] = [];
  let bytesLeft = limits.maxDiffBytes;
  for (const file of changes.files) {
    const before = readBefore(file, snapshot.entries.get(file.path), baseline);
    const after = readAfter(file, directory, limits);
    const timeoutMs = Math.min(limits.maxFileDiffMs, deadline - performance.now());
    const part = toPart(file.path, before, after, timeoutMs);
    bytesLeft -= Buffer.byteLength(part);
    if (bytesLeft < 0) {
      parts.push(`# the diff was truncated: it is longer than ${limits.maxDiffBytes} bytes\n`);
      return { text: parts.join(""), truncated: true };
    }
    parts.push(part);
    if (slice.isSpent) await slice.renew();
  }
  if (changes.truncated) parts.push("# the diff was truncated: the workspace was not read whole\n");
  return { text: parts.join(""), truncated: changes.truncated };
}

function toPart(path: string, before: Side, after: Side, timeoutMs: number): string {
  const reason = [before, after].find((side) => typeof side === "string");
  if (reason !== undefined) return `# ${toQuotedPath(path)}: ${reason}\n`;
  if (typeof before === "string" || typeof after === "string") return "";
  return toFilePatch(path, before, after, timeoutMs);
}

function readBefore(file: WorkspaceEntry, before: SnapshotEntry | undefined, baseline: BaselineReader): Side {
  if (file.change === "added" || before === undefined) return undefined;
  if (before.kind === "symlink") return toLinkSide(before.linkTarget);
  if (before.kind !== "file") return undefined;
  if (before.kept === undefined) return "too large to diff";
  const content = baseline.read(before.kept);
  return content === undefined ? "not readable" : toFileSide(content, before.executable);
}

function readAfter(file: WorkspaceEntry, root: HeldDirectory | undefined, limits: WorkspaceLimits): Side {
  if (file.change === "deleted" || root === undefined) return undefined;
  return root.within(file.path, (parent, name): Side => {
    const stat = parent.stat(name);
    // It may have become something else since the changes were read: what is there now counts.
    if (stat === undefined) return parent.isGone(name) ? undefined : "not readable";
    const kind = toKind(stat);
    if (kind === "symlink") return toLinkSide(parent.linkTarget(name));
    if (kind !== "file") return undefined;
    if (stat.size > limits.maxFileBytes) return "too large to diff";
    using opened = parent.openFile(name, stat);
    const content = opened === undefined ? undefined : readContent(opened.fd, Number(opened.stat.size));
    return content === undefined ? "not readable" : toFileSide(content, isExecutable(stat));
  });
}

function toLinkSide(target: string | undefined): Side {
  return target === undefined ? "not readable" : { mode: "120000", content: Buffer.from(target) };
}

function toFileSide(content: Buffer, executable: boolean): PatchSide {
  return { mode: executable ? "100755" : "100644", content };
}
