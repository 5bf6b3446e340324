/** Who a run is on this machine: an unprivileged uid of its own under a root sidecar, a user namespace otherwise. */
import type { BoundWorkspace } from "./bound-workspace.ts";

export type Identity = {
  /** As seen inside. */
  readonly uid: number;
  readonly gid: number;
  readonly userNamespace: boolean;
  release(): void;
};

/** Hands out uids that no two running sandboxes share. */
export class IdentityPool {
  readonly #base: number;
  readonly #taken = new Set<number>();

  constructor(base: number) {
    this.#base = base;
  }

  take(): { uid: number; release(): void } {
    let uid = this.#base;
    while (this.#taken.has(uid)) uid += 1;
    this.#taken.add(uid);
    return { uid, release: () => void this.#taken.delete(uid) };
  }
}

/** Files that a run writes into a caller's own directory keep the owner that the directory has. */
export function toIdentity(bound: BoundWorkspace | undefined, pool: IdentityPool): Identity {
  if (process.getuid?.() !== 0) return { uid: 0, gid: 0, userNamespace: true, release: () => undefined };
  if (bound !== undefined) {
    return { uid: bound.uid, gid: bound.gid, userNamespace: false, release: () => undefined };
  }
  const { uid, release } = pool.take();
  return { uid, gid: uid, userNamespace: false, release };
}
