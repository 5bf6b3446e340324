/** Who a run is on this machine: an unprivileged uid of its own under a root sidecar, a user namespace otherwise. */
import { stat } from "node:fs/promises";
import { Fault } from "../../kernel/fault.ts";
import type { SandboxSpec } from "../sandbox.ts";

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

/** Files that a run writes into a bound workspace keep the owner that the workspace has. Throws forbidden. */
export async function toIdentity(spec: SandboxSpec, pool: IdentityPool): Promise<Identity> {
  if (process.getuid?.() !== 0) return { uid: 0, gid: 0, userNamespace: true, release: () => undefined };
  if (spec.workspace.kind === "scratch") {
    const { uid, release } = pool.take();
    return { uid, gid: uid, userNamespace: false, release };
  }
  const owner = await stat(spec.workspace.path);
  if (owner.uid === 0) {
    throw new Fault(
      "forbidden",
      "The workspace belongs to root, and runs never have root's identity. Give the directory to another user (chown).",
    );
  }
  return { uid: owner.uid, gid: owner.gid, userNamespace: false, release: () => undefined };
}
