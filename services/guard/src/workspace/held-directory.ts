/** A directory held open, and its children reached through it.
 *
 * `O_NOFOLLOW` guards only the last part of a path, and the tree may be rearranged while it is read.
 * So no path of several parts is ever given to the kernel: each directory is opened by itself, and a child is
 * `/proc/self/fd/N/child`, which is what `openat` does and Node lacks.
 */
import fs, { type BigIntStats, constants } from "node:fs";

// O_NONBLOCK: opening a FIFO returns at once, and a file under a lease is refused instead of waited for.
const SAFELY = constants.O_NOFOLLOW | constants.O_NONBLOCK;

export class HeldDirectory implements Disposable {
  readonly fd: number;

  private constructor(fd: number) {
    this.fd = fd;
  }

  /** Undefined when `path` is no directory, as a symlink is none, or may not be opened; then `onDenied` is called. */
  static open(path: string, onDenied?: () => void): HeldDirectory | undefined {
    const flags = constants.O_RDONLY | constants.O_DIRECTORY | SAFELY;
    const fd = attempt(() => fs.openSync(path, flags), onDenied);
    return fd === undefined ? undefined : new HeldDirectory(fd);
  }

  [Symbol.dispose](): void {
    fs.closeSync(this.fd);
  }

  /** Where the kernel finds `name`. The name must be a single part. */
  at(name: string): string {
    return `/proc/self/fd/${this.fd}/${name}`;
  }

  /** Undefined when there is none, or when it may not be looked at; then `onDenied` is called. */
  stat(name: string, onDenied?: () => void): BigIntStats | undefined {
    return attempt(() => fs.lstatSync(this.at(name), { bigint: true, throwIfNoEntry: false }), onDenied);
  }

  /** True when nothing has this name; false also when that cannot be known. */
  isGone(name: string): boolean {
    try {
      return fs.lstatSync(this.at(name), { throwIfNoEntry: false }) === undefined;
    } catch {
      return false;
    }
  }

  linkTarget(name: string): string | undefined {
    return attempt(() => fs.readlinkSync(this.at(name)));
  }

  /** Compares what it opened with what stood there: gVisor 20240729 follows a symlink behind /proc/self/fd all the same. */
  openDirectory(name: string, onDenied?: () => void): HeldDirectory | undefined {
    const seen = this.stat(name, onDenied);
    if (seen === undefined || !seen.isDirectory()) return undefined;
    const opened = HeldDirectory.open(this.at(name), onDenied);
    if (opened === undefined) return undefined;
    const { dev, ino } = fs.fstatSync(opened.fd, { bigint: true });
    if (dev === seen.dev && ino === seen.ino) return opened;
    opened[Symbol.dispose]();
    return undefined;
  }

  /** Opens the child that `seen` (from `stat`) described; undefined when it is no regular file or another by now. */
  openFile(name: string, seen: BigIntStats | undefined = this.stat(name)): OpenFile | undefined {
    if (seen === undefined || !seen.isFile()) return undefined;
    const fd = attempt(() => fs.openSync(this.at(name), constants.O_RDONLY | SAFELY));
    if (fd === undefined) return undefined;
    const stat = fs.fstatSync(fd, { bigint: true });
    if (stat.isFile() && stat.dev === seen.dev && stat.ino === seen.ino) return new OpenFile(fd, stat);
    fs.closeSync(fd);
    return undefined;
  }

  /** Does `use` with the directory that holds a path's last part; undefined when the way there is not all directories. */
  within<T>(path: string, use: (parent: HeldDirectory, name: string) => T): T | undefined {
    const slash = path.indexOf("/");
    if (slash === -1) return use(this, path);
    using child = this.openDirectory(path.slice(0, slash));
    return child?.within(path.slice(slash + 1), use);
  }
}

/** A regular file held open, with its state when it was opened. */
export class OpenFile implements Disposable {
  readonly fd: number;
  readonly stat: BigIntStats;

  constructor(fd: number, stat: BigIntStats) {
    this.fd = fd;
    this.stat = stat;
  }

  [Symbol.dispose](): void {
    fs.closeSync(this.fd);
  }
}

/** `bytes` of an open file from `offset` on, fewer where the file ends before. */
export function readContent(fd: number, bytes: number, offset = 0): Buffer | undefined {
  const content = Buffer.allocUnsafe(bytes);
  let length = 0;
  while (length < bytes) {
    const count = attempt(() => fs.readSync(fd, content, length, bytes - length, offset + length));
    if (count === undefined) return undefined;
    if (count === 0) break;
    length += count;
  }
  return content.subarray(0, length);
}

// No such thing, or it is a symlink or no directory: in a tree in motion, nothing special.
const ABSENT: ReadonlySet<unknown> = new Set(["ENOENT", "ENOTDIR", "ELOOP"]);

/** The result, or undefined when the file system said no: whatever it says, the tree's owner may have caused it. */
function attempt<T>(operation: () => T, onDenied?: () => void): T | undefined {
  try {
    return operation();
  } catch (error) {
    if (!(error instanceof Error && "syscall" in error && "code" in error)) throw error;
    if (!ABSENT.has(error.code)) onDenied?.();
    return undefined;
  }
}
