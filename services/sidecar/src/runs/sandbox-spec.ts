/** What a run wants of its sandbox, within what the operator allows. */
import { realpath, stat } from "node:fs/promises";
import { isAbsolute, relative } from "node:path";
import type { RunRequest } from "#contract/run";
import { type SandboxKind, toMemoryBytes } from "#contract/sandbox";
import type { Profile } from "../agents/profile.ts";
import { Fault } from "../kernel/fault.ts";
import type { Reference, SandboxSpec } from "../sandboxes/sandbox.ts";
import { toWorkspaceFiles } from "./run-input.ts";

export type SpecLimits = {
  readonly pids: number;
  readonly workspaceBytes: number;
  readonly workspaceRoots: readonly string[];
  /** Directories that references may come from, beside the workspaces' roots. */
  readonly referenceRoots: readonly string[];
  /** Images that a request may name. */
  readonly allowedImages: readonly string[];
  /** True where the operator named a network for `network: open`. */
  readonly hasOpenNetwork: boolean;
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
  refuseWhatIsNotAllowed(request, limits);
  const { cpus, memory, pids, network, image } = request.sandbox;
  return {
    runId,
    requestedKind: request.sandbox.kind,
    workspace:
      request.workspace.kind === "path"
        ? { kind: "bind", path: await toAllowedPath(request.workspace.path, WORKSPACE, limits) }
        : { kind: "scratch", bytes: limits.workspaceBytes },
    readOnly: request.role === "reader",
    references: await toReferences(request, limits),
    network,
    ...(image === undefined ? {} : { image }),
    pids: Math.min(pids ?? limits.pids, limits.pids),
    ...(cpus === undefined ? {} : { cpus }),
    ...(memory === undefined ? {} : { memoryBytes: toMemoryBytes(memory) }),
    ...(request.role === "reader" ? { initialFiles: toWorkspaceFiles(request) } : {}),
    executable: profile.hasShell,
  };
}

/** A local sandbox has no image, no network of an engine's, and no limit of these kinds. */
function refuseWhatIsNotEnforced({ sandbox }: RunRequest, kind: SandboxKind): void {
  if (kind === "docker") return;
  const asked = (["image", "cpus", "memory"] as const).filter((name) => sandbox[name] !== undefined);
  for (const name of sandbox.network === "open" ? (["network", ...asked] as const) : asked) {
    const message = `\`sandbox.${name}\` cannot be had in a local sandbox`;
    throw new Fault("invalid_request", `The request is not valid: ${message}.`, {
      errors: [{ path: `/sandbox/${name}`, message }],
    });
  }
}

function refuseWhatIsNotAllowed({ sandbox }: RunRequest, limits: SpecLimits): void {
  if (sandbox.network === "open" && !limits.hasOpenNetwork) {
    throw new Fault(
      "forbidden",
      "An open network is not allowed here (PILLION_OPEN_NETWORK); the run's own model is reachable without it.",
      { errors: [{ path: "/sandbox/network", message: "only `none` is allowed" }] },
    );
  }
  if (sandbox.image !== undefined && !limits.allowedImages.includes(sandbox.image)) {
    throw new Fault("forbidden", "The image is not one that the operator allows (PILLION_ALLOWED_IMAGES).", {
      errors: [{ path: "/sandbox/image", message: "not an allowed image" }],
    });
  }
}

async function toReferences(request: RunRequest, limits: SpecLimits): Promise<Reference[]> {
  const { workspaceRoots, referenceRoots } = limits;
  const resolved = (request.references ?? []).map(
    async ({ name, path, content = "", encoding = "utf8" }, index): Promise<Reference> => {
      if (path === undefined)
        return { name, source: { kind: "content", content: Buffer.from(content, encoding) } };
      const what: Question = {
        noun: "reference",
        field: `/references/${index}/path`,
        setting: "PILLION_REFERENCE_ROOTS",
      };
      const roots = { ...limits, workspaceRoots: [...workspaceRoots, ...referenceRoots] };
      const real = await toAllowedPath(path, what, roots);
      const isDirectory = await stat(real).then(
        (found) => found.isDirectory(),
        () => false,
      );
      if (isDirectory) return { name, source: { kind: "bind", path: real } };
      const message = "must be a directory; send a single file as `content`";
      throw new Fault("invalid_request", `The request is not valid: ${message}.`, {
        errors: [{ path: what.field, message }],
      });
    },
  );
  return Promise.all(resolved);
}

type Question = { readonly noun: string; readonly field: string; readonly setting: string };

const WORKSPACE: Question = {
  noun: "workspace",
  field: "/workspace/path",
  setting: "PILLION_WORKSPACE_ROOTS",
};

/** Resolves symlinks before it compares: a link under a root that leads out of it is refused. */
async function toAllowedPath(
  path: string,
  { noun, field, setting }: Question,
  limits: SpecLimits,
): Promise<string> {
  const refused = new Fault(
    "forbidden",
    `The ${noun} is not a directory under a root that the operator allows (${setting}).`,
    { errors: [{ path: field, message: "not under an allowed root" }] },
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
