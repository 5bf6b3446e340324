/** Turns what the guard saw into a receipt, and refuses what is weaker than a local sandbox promises. */
import { readlinkSync } from "node:fs";
import type { GuardView } from "#contract/guard";
import type { Receipt } from "#contract/sandbox";
import { Fault } from "../../kernel/fault.ts";
import type { SandboxSpec } from "../sandbox.ts";
import { findWeakView, OPEN_GUARD } from "../weak-view.ts";
import type { Identity } from "./identity.ts";

const NAMESPACES = ["pid", "mnt", "ipc", "net", "uts", "user"];

/** Throws isolation_unavailable, naming the protection that is not there. */
export function toLocalReceipt(view: GuardView, spec: SandboxSpec, identity: Identity): Receipt {
  const shared = NAMESPACES.filter((name) => view.namespaces[name] === readlinkSync(`/proc/self/ns/${name}`));
  const weak = [...shared.map((name) => `a ${name} namespace of its own`), ...findWeakView(view, identity)];
  if (weak.length > 0) {
    throw new Fault("isolation_unavailable", `The sandbox would lack: ${weak.join(", ")}.`);
  }
  return {
    kind: "local",
    isolated: true,
    requested: { kind: spec.requestedKind, network: "none" },
    namespaces: NAMESPACES,
    network: "none",
    egressEnforced: true,
    user: { uid: view.uid, gid: view.gid },
    capabilities: [],
    noNewPrivileges: true,
    readOnlySystem: true,
    workspace: spec.readOnly ? "read-only" : "read-write",
    limits: {
      ...(identity.userNamespace ? {} : { pids: spec.pids }),
      ...(spec.workspace.kind === "scratch" ? { workspaceBytes: spec.workspace.bytes } : {}),
    },
    missing: toMissing(identity.userNamespace),
  };
}

/** What a local sandbox does not protect from, in words. */
export function toMissing(inUserNamespace: boolean): string[] {
  return [
    "memory and cpu limits (a local sandbox has none)",
    "a seccomp filter",
    OPEN_GUARD, // the machine's own Node is everybody's to read
    ...(inUserNamespace ? ["a pids limit", "a user other than the service's own"] : []),
  ];
}
