/** Who a run is on this machine: an unprivileged uid of its own under a root sidecar, a user namespace otherwise. */
import { once } from "node:events";
import { createServer } from "node:net";
import { Fault } from "../../kernel/fault.ts";
import type { BoundDirectory } from "../bound-directory.ts";

const MAX_TRIES = 65_536;

export type Identity = {
  /** As seen inside. */
  readonly uid: number;
  readonly gid: number;
  /** True where the sidecar is not root, and root inside is the service's own user outside. */
  readonly userNamespace: boolean;
  release(): void;
};

/** Hands out uids that no two running sandboxes of this machine share, whichever instance they belong to. */
export class IdentityPool {
  readonly #base: number;
  readonly #taken = new Set<number>();

  constructor(base: number) {
    this.#base = base;
  }

  /** Throws sandbox_unavailable when none is free. */
  async take(): Promise<{ uid: number; release(): void }> {
    for (let uid = this.#base; uid < this.#base + MAX_TRIES; uid += 1) {
      if (this.#taken.has(uid)) continue;
      this.#taken.add(uid);
      const free = await reserve(uid);
      if (free === undefined) {
        this.#taken.delete(uid);
        continue;
      }
      const release = (): void => {
        free();
        this.#taken.delete(uid);
      };
      return { uid, release };
    }
    throw new Fault("sandbox_unavailable", "There is no free user id for the run; see PILLION_UID_BASE.");
  }
}

/** The kernel keeps an abstract socket's name for one process at a time, and frees it with that process. */
async function reserve(uid: number): Promise<(() => void) | undefined> {
  const server = createServer((connection) => connection.destroy()).unref();
  server.listen({ path: `\0pillion-uid-${uid}`, exclusive: true });
  try {
    await once(server, "listening");
    return () => void server.close();
  } catch {
    return undefined;
  }
}

/** Files that a run writes into a caller's own directory keep the owner that the directory has. */
export async function toIdentity(bound: BoundDirectory | undefined, pool: IdentityPool): Promise<Identity> {
  if (process.getuid?.() !== 0) return { uid: 0, gid: 0, userNamespace: true, release: () => undefined };
  if (bound !== undefined) {
    return { uid: bound.uid, gid: bound.gid, userNamespace: false, release: () => undefined };
  }
  const { uid, release } = await pool.take();
  return { uid, gid: uid, userNamespace: false, release };
}
