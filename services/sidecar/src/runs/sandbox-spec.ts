/** What a run wants of its sandbox, within what the operator allows. */
import { realpath } from "node:fs/promises";
import { isAbsolute, relative } from "node:path";
import type { RunRequest } from "#contract/run";
import type { SandboxKind } from "#contract/sandbox";
import type { Profile } from "../agents/profile.ts";
import { Fault } from "../kernel/fault.ts";
import type { SandboxSpec } from "../sandboxes/sandbox.ts";
import { toWorkspaceFiles } from "./run-input.ts";

export type SpecLimits = {
  readonly pids: number;
  readonly workspaceBytes: number;
  readonly workspaceRoots: readonly string[];
  /** Directories that no workspace may contain or lie in: the data directory, configuration. */
  readonly protectedPaths: readonly string[];
};

/** Throws invalid_request, forbidden. */
export async function toSandboxSpec(
  runId: string,
  request: RunRequest,
  profile: Profile,
  kind: SandboxKind,
  limits: SpecLimits,
): Promise<SandboxSpec> {
  refuseWhatIsNotEnforced(request, kind);
  const { cpus, memory, pids } = request.sandbox;
  return {
    runId,
    requestedKind: request.sandbox.kind,
    workspace:
      request.workspace.kind === "path"
        ? { kind: "bind", path: await toAllowedPath(request.workspace.path, limits) }
        : { kind: "scratch", bytes: limits.workspaceBytes },
    readOnly: request.role === "reader",
    pids: Math.min(pids ?? limits.pids, limits.pids),
    ...(cpus === undefined ? {} : { cpus }),
    ...(memory === undefined ? {} : { memoryBytes: toBytes(memory) }),
    ...(request.role === "reader" ? { initialFiles: toWorkspaceFiles(request) } : {}),
    executable: profile.hasShell,
  };
}

const UNITS: Record<string, number> = { "": 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3 };

/** The contract has checked the form. */
function toBytes(text: string): number {
  const [, digits = "", unit = ""] = /^(\d+)([kmg]?)$/i.exec(text) ?? [];
  return Number(digits) * (UNITS[unit.toLowerCase()] ?? 1);
}

function refuseWhatIsNotEnforced({ sandbox }: RunRequest, kind: SandboxKind): void {
  if (sandbox.network === "open") {
    throw new Fault(
      "forbidden",
      "An open network is not allowed here; the run's own model is reachable without it.",
      {
        errors: [{ path: "/sandbox/network", message: "only `none` is allowed" }],
      },
    );
  }
  for (const name of ["image", "cpus", "memory"] as const) {
    if (sandbox[name] === undefined || (kind === "docker" && name !== "image")) continue;
    const why = name === "image" ? "is not implemented yet" : "cannot be enforced by a local sandbox";
    const message = `\`sandbox.${name}\` ${why}`;
    throw new Fault("invalid_request", `The request is not valid: ${message}.`, {
      errors: [{ path: `/sandbox/${name}`, message }],
    });
  }
}

/** Resolves symlinks before it compares: a link under a root that leads out of it is refused. */
async function toAllowedPath(path: string, limits: SpecLimits): Promise<string> {
  const refused = new Fault(
    "forbidden",
    "The workspace is not a directory under a root that the operator allows (PILLION_WORKSPACE_ROOTS).",
    {
      errors: [{ path: "/workspace/path", message: "not under an allowed root" }],
    },
  );
  const real = await realpath(path).catch(() => undefined);
  if (real === undefined || !limits.workspaceRoots.some((root) => isInside(root, real))) throw refused;
  for (const hidden of limits.protectedPaths) {
    if (isInside(hidden, real) || isInside(real, hidden)) throw refused;
  }
  return real;
}

function isInside(root: string, path: string): boolean {
  const way = relative(root, path);
  return way === "" || (!way.startsWith("..") && !isAbsolute(way));
}
