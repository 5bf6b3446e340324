/** One file of the workspace, for whoever asks for it by its path. */
import type { Readable } from "node:stream";
import { openFileStream } from "./file-stream.ts";
import { HeldDirectory, type OpenFile } from "./held-directory.ts";
import { isSafeRelativePath } from "./relative-path.ts";
import { isExecutable } from "./tree-walk.ts";
import { WORKSPACE_LIMITS, type WorkspaceLimits } from "./workspace-limits.ts";

export type FileRefusal = "unsafe_path" | "not_found" | "not_a_file" | "too_large";

export type WorkspaceFile =
  | { readonly ok: true; readonly size: number; readonly executable: boolean; readonly stream: Readable }
  | { readonly ok: false; readonly refusal: FileRefusal };

/**
 * Opens a regular file; symlinks are refused wherever they stand in the path. The stream gives exactly `size` bytes or
 * fails, and holds a file descriptor until it ends or is destroyed.
 */
export function openWorkspaceFile(
  root: string,
  path: string,
  limits: WorkspaceLimits = WORKSPACE_LIMITS,
): WorkspaceFile {
  if (!isSafeRelativePath(path)) return { ok: false, refusal: "unsafe_path" };
  using directory = HeldDirectory.open(root);
  const found = directory?.within(path, (parent, name): OpenFile | FileRefusal => {
    const stat = parent.stat(name);
    if (stat === undefined) return "not_found";
    if (!stat.isFile()) return "not_a_file";
    return stat.size > limits.maxReadBytes ? "too_large" : (parent.openFile(name, stat) ?? "not_found");
  });
  if (found === undefined) return { ok: false, refusal: "not_found" };
  if (typeof found === "string") return { ok: false, refusal: found };
  const { stat } = found;
  return { ok: true, size: Number(stat.size), executable: isExecutable(stat), stream: openFileStream(found) };
}
