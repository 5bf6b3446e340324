/** Writes a request's inline files into the workspace. */
import fs, { constants } from "node:fs";
import { HeldDirectory } from "./held-directory.ts";
import { isSafeRelativePath } from "./relative-path.ts";
import { toShownPath, WorkspaceError } from "./workspace-error.ts";

export interface FillFile {
  readonly path: string;
  readonly content: Buffer;
  readonly executable?: boolean;
}

/**
 * Checks all paths, then writes. A file or symlink that stands at a path is replaced, never written through; a
 * directory there, or a file or symlink where a directory is needed, is refused.
 *
 * @throws {WorkspaceError} `unsafe_path`, `duplicate_path`, `not_a_file`, `not_a_directory`; of these the first two
 *   before anything is written
 */
export function fillWorkspace(root: string, files: Iterable<FillFile>): void {
  const all = [...files];
  checkPaths(all.map(({ path }) => path));
  using directory = HeldDirectory.open(root);
  if (directory === undefined) throw new WorkspaceError("not_found", "the workspace is not a directory");
  for (const file of all) writeBelow(directory, file, file.path.split("/"));
}

function checkPaths(paths: readonly string[]): void {
  const files = new Set<string>();
  for (const path of paths) {
    if (!isSafeRelativePath(path)) {
      throw new WorkspaceError(
        "unsafe_path",
        `${toShownPath(path)} is not a relative path inside the workspace`,
      );
    }
    if (files.has(path)) throw new WorkspaceError("duplicate_path", `${toShownPath(path)} is given twice`);
    files.add(path);
  }
  for (const path of paths) {
    for (let slash = path.indexOf("/"); slash !== -1; slash = path.indexOf("/", slash + 1)) {
      const parent = path.slice(0, slash);
      if (!files.has(parent)) continue;
      throw new WorkspaceError(
        "duplicate_path",
        `${toShownPath(parent)} is given as a file and as a directory`,
      );
    }
  }
}

function writeBelow(directory: HeldDirectory, file: FillFile, [name, ...rest]: readonly string[]): void {
  if (name === undefined) return;
  if (rest.length === 0) {
    writeFile(directory, name, file);
    return;
  }
  if (directory.isGone(name)) fs.mkdirSync(directory.at(name), 0o755);
  using child = directory.openDirectory(name);
  if (child === undefined) {
    const shown = toShownPath(file.path);
    throw new WorkspaceError("not_a_directory", `${shown} needs a directory where the workspace has none`);
  }
  writeBelow(child, file, rest);
}

function writeFile(directory: HeldDirectory, name: string, { path, content, executable }: FillFile): void {
  if (directory.stat(name)?.isDirectory()) {
    throw new WorkspaceError("not_a_file", `${toShownPath(path)} is a directory in the workspace`);
  }
  if (!directory.isGone(name)) fs.unlinkSync(directory.at(name));
  const fd = fs.openSync(
    directory.at(name),
    constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW,
    0o600,
  );
  try {
    fs.writeFileSync(fd, content);
    fs.fchmodSync(fd, executable ? 0o755 : 0o644);
  } finally {
    fs.closeSync(fd);
  }
}
