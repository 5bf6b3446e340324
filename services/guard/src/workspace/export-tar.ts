/** The workspace, or parts of it, as a tar stream. */
import { Readable } from "node:stream";
import { HeldDirectory, readContent } from "./held-directory.ts";
import { isSafeRelativePath } from "./relative-path.ts";
import { END_OF_TAR, toTarHeader, toTarPadding } from "./tar-header.ts";
import { TimeSlice } from "./time-slice.ts";
import { isExecutable, TreeWalk, type WalkedEntry } from "./tree-walk.ts";
import { toShownPath, WorkspaceError } from "./workspace-error.ts";
import { WORKSPACE_LIMITS, type WorkspaceLimits } from "./workspace-limits.ts";

const CHUNK_BYTES = 65_536;

/**
 * Archives the given paths, directories with all that is in them, or without paths the whole tree, `.git` and
 * `node_modules` included. Sockets, FIFOs and devices are left out, and so is a file that vanishes meanwhile.
 *
 * The stream ends with a {@link WorkspaceError}: `unsafe_path` or `not_found` for a given path, `too_large` when a limit
 * is reached (an archive is whole or failed), `changed_while_read` when a file shrinks while it is read.
 */
export function exportTar(
  root: string,
  paths: readonly string[] | undefined,
  limits: WorkspaceLimits = WORKSPACE_LIMITS,
): Readable {
  return Readable.from(archive(root, paths, limits), { objectMode: false });
}

async function* archive(
  root: string,
  paths: readonly string[] | undefined,
  limits: WorkspaceLimits,
): AsyncGenerator<Buffer> {
  using directory = HeldDirectory.open(root);
  if (directory === undefined) throw new WorkspaceError("not_found", "the workspace is not a directory");
  // The reader sets the pace, so time spent does not bound the walk.
  const walk = new TreeWalk({ ...limits, maxWalkMs: Number.POSITIVE_INFINITY }, { opensOpaque: true });
  const slice = new TimeSlice();
  let bytesLeft = limits.maxExportBytes;
  for (const entry of selectEntries(directory, paths, walk)) {
    for await (const chunk of archiveEntry(entry)) {
      bytesLeft -= chunk.length;
      if (bytesLeft < 0)
        throw new WorkspaceError("too_large", `the archive exceeds ${limits.maxExportBytes} bytes`);
      yield chunk;
      if (slice.isSpent) await slice.renew();
    }
  }
  if (walk.truncated) throw new WorkspaceError("too_large", "the workspace holds more than can be archived");
  yield END_OF_TAR;
}

function* selectEntries(
  root: HeldDirectory,
  paths: readonly string[] | undefined,
  walk: TreeWalk,
): Generator<WalkedEntry> {
  if (paths === undefined) return yield* walk.entries(root);
  for (const path of new Set(paths)) {
    if (!isSafeRelativePath(path)) {
      throw new WorkspaceError(
        "unsafe_path",
        `${toShownPath(path)} is not a relative path inside the workspace`,
      );
    }
    yield* selectPath(root, path, path, walk);
  }
}

function* selectPath(
  directory: HeldDirectory,
  path: string,
  rest: string,
  walk: TreeWalk,
): Generator<WalkedEntry> {
  const slash = rest.indexOf("/");
  if (slash === -1 && directory.stat(rest) !== undefined)
    return yield* walk.entryAndBelow(directory, rest, path);
  using child = slash === -1 ? undefined : directory.openDirectory(rest.slice(0, slash));
  if (child === undefined)
    throw new WorkspaceError("not_found", `${toShownPath(path)} is not in the workspace`);
  yield* selectPath(child, path, rest.slice(slash + 1), walk);
}

async function* archiveEntry({ path, kind, stat, parent, name }: WalkedEntry): AsyncGenerator<Buffer> {
  const owner = { uid: 0, gid: 0, mtime: toTarTime(stat.mtimeNs) };
  if (kind === "directory") {
    yield await toTarHeader({ ...owner, name: `${path}/`, type: "directory", mode: 0o755 });
  } else if (kind === "symlink") {
    const linkname = parent.linkTarget(name);
    if (linkname !== undefined) {
      yield await toTarHeader({ ...owner, name: path, type: "symlink", linkname, mode: 0o777 });
    }
  } else if (kind === "file") {
    using file = parent.openFile(name, stat);
    if (file === undefined) return;
    const size = Number(file.stat.size);
    const mode = isExecutable(file.stat) ? 0o755 : 0o644;
    yield await toTarHeader({ ...owner, name: path, type: "file", size, mode });
    yield* readChunks(file.fd, size, path);
    yield toTarPadding(size);
  }
}

// The header promised `size` bytes: what was appended since is not read.
function* readChunks(fd: number, size: number, path: string): Generator<Buffer> {
  for (let offset = 0; offset < size; ) {
    const chunk = readContent(fd, Math.min(CHUNK_BYTES, size - offset), offset);
    if (chunk === undefined || chunk.length === 0) {
      throw new WorkspaceError("changed_while_read", `${toShownPath(path)} became shorter while it was read`);
    }
    yield chunk;
    offset += chunk.length;
  }
}

// Headers hold whole seconds from 1970 to 2038; the tree's owner may have set any time.
function toTarTime(mtimeNs: bigint): Date {
  const seconds = Math.min(Math.max(Number(mtimeNs / 1_000_000_000n), 0), 2 ** 31 - 1);
  return new Date(seconds * 1000);
}
