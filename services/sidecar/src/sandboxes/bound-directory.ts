/** Holds a caller's own directory open from its check to its mount, so that what is mounted is what was checked. */
import { constants } from "node:fs";
import { open, readlink } from "node:fs/promises";
import { Fault } from "../kernel/fault.ts";

export interface BoundDirectory extends AsyncDisposable {
  /** Leads to the open directory itself, whatever its name leads to by then. */
  readonly cwd: string;
  /** The directory's owner. */
  readonly uid: number;
  readonly gid: number;
  /** Device and inode, as `dev:ino`: what the guard must see inside. Nothing else can have it while this is open. */
  readonly id: string;
}

/**
 * `runsAsOwner`: the owner's identity becomes the run's, so that what it writes belongs to the caller.
 * Throws forbidden, as below, and then for root's too.
 */
export async function openBoundWorkspace(path: string, runsAsOwner: boolean): Promise<BoundDirectory> {
  const bound = await openBoundDirectory(path, "workspace");
  try {
    if (runsAsOwner) refuseRoot(bound.uid, bound.gid);
    return bound;
  } catch (error) {
    await bound[Symbol.asyncDispose]();
    throw error;
  }
}

/** `path` is the real path that was allowed. Throws forbidden when another directory stands there by now. */
export async function openBoundDirectory(
  path: string,
  what: "workspace" | "reference",
): Promise<BoundDirectory> {
  await using held = new AsyncDisposableStack();
  const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW } = constants;
  const handle = await open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW).catch((cause: unknown) => {
    throw isDenied(cause) ? closed(what, cause) : moved(what, cause);
  });
  held.use(handle);
  const cwd = `/proc/${process.pid}/fd/${handle.fd}`;
  if ((await readlink(cwd)) !== path) throw moved(what);
  const { uid, gid } = await handle.stat();
  const { dev, ino } = await handle.stat({ bigint: true });
  const owned = held.move();
  return { cwd, uid, gid, id: `${dev}:${ino}`, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

function refuseRoot(uid: number, gid: number): void {
  if (uid !== 0 && gid !== 0) return;
  const whose = uid === 0 ? "root" : "root's group";
  throw new Fault(
    "forbidden",
    `The workspace belongs to ${whose}, and runs never have root's identity. Give the directory to another user and group (chown user:group).`,
  );
}

function moved(what: string, cause?: unknown): Fault {
  return new Fault("forbidden", `The ${what}'s directory was moved or replaced before it was mounted.`, {
    cause,
  });
}

const isDenied = (cause: unknown): boolean =>
  cause instanceof Error && "code" in cause && (cause.code === "EACCES" || cause.code === "EPERM");

function closed(what: string, cause: unknown): Fault {
  return new Fault("forbidden", `The ${what}'s directory may not be read by the service's user.`, { cause });
}
