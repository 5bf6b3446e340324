/** Compares what was asked of the engine with what the running container has; weaker is refused. Pure. */
import type { ContainerCreateOptions, ContainerInspectInfo } from "dockerode";
import type { GuardView } from "#contract/guard";
import type { Receipt } from "#contract/sandbox";
import { Fault } from "../../kernel/fault.ts";
import type { SandboxSpec } from "../sandbox.ts";
import { findWeakView, OPEN_GUARD } from "../weak-view.ts";
import { type ContainerLimits, GVISOR } from "./container-spec.ts";

/** What the engine did not do as it was told, in words; empty is as it must be. */
export function findWeaker(asked: ContainerCreateOptions, got: ContainerInspectInfo): string[] {
  const [wanted, has] = [asked.HostConfig ?? {}, got.HostConfig];
  const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);
  const checks: [string, boolean][] = [
    [
      wanted.NetworkMode === "none" ? "no network" : "only the operator's network",
      has.NetworkMode === wanted.NetworkMode &&
        Object.keys(got.NetworkSettings.Networks).every((name) => name === wanted.NetworkMode),
    ],
    ["the image", got.Image === asked.Image],
    [
      "no published port",
      // What an image exposes is listed too, without a binding.
      Object.values(got.NetworkSettings.Ports ?? {}).every((bindings) => (bindings ?? []).length === 0) &&
        has.PublishAllPorts !== true,
    ],
    ["a read-only root", has.ReadonlyRootfs === true],
    ["no capabilities", same(has.CapDrop, ["ALL"]) && (has.CapAdd ?? []).length === 0],
    ["no new privileges and our seccomp profile", same(has.SecurityOpt, wanted.SecurityOpt)],
    ["no privileged mode", has.Privileged === false],
    ["no device of the host", (has.Devices ?? []).length === 0],
    [
      "no namespace of the host",
      [has.PidMode, has.UTSMode, has.UsernsMode].every((mode) => mode !== "host") &&
        has.IpcMode === "private",
    ],
    ["the cpu limit", isLimit(has.NanoCpus) && has.NanoCpus === wanted.NanoCpus],
    [
      "the memory limit",
      isLimit(has.Memory) && has.Memory === wanted.Memory && has.MemorySwap === wanted.MemorySwap,
    ],
    ["the pids limit", isLimit(has.PidsLimit) && has.PidsLimit === wanted.PidsLimit],
    ["the ulimits", same(sortByName(has.Ulimits), sortByName(wanted.Ulimits))],
    ["the bounds of temp, home and workspace", same(sortEntries(has.Tmpfs), sortEntries(wanted.Tmpfs))],
    ["an unprivileged user", got.Config.User === asked.User && /^[1-9]\d*:[1-9]\d*$/.test(got.Config.User)],
    ["an init", has.Init === true],
    ["a bounded log", has.LogConfig?.Type === "none"],
    ["only the mounts of the run", sameMounts(asked, got)],
    ["the runtime", has.Runtime === wanted.Runtime],
  ];
  return checks.flatMap(([name, holds]) => (holds ? [] : [name]));
}

function sortEntries(map: Readonly<Record<string, string>> | undefined): unknown {
  return Object.entries(map ?? {}).toSorted(([a], [b]) => a.localeCompare(b));
}

function sortByName(limits: ContainerInspectInfo["HostConfig"]["Ulimits"]): unknown {
  return (limits ?? [])
    .map(({ Name, Soft, Hard }) => [Name, Soft, Hard])
    .toSorted((a, b) => String(a[0]).localeCompare(String(b[0])));
}

/** To an engine 0 and -1 mean none. */
const isLimit = (value: number | null | undefined): boolean => typeof value === "number" && value > 0;

function sameMounts(asked: ContainerCreateOptions, got: ContainerInspectInfo): boolean {
  const wanted = (asked.HostConfig?.Mounts ?? []).map(
    ({ Type, Source, Target, ReadOnly }) => `${Type} ${Source} ${Target} ${ReadOnly ? "ro" : "rw"}`,
  );
  const has = got.Mounts.filter(({ Type }) => String(Type) !== "tmpfs").map(
    ({ Type, Name, Source, Destination, RW }) =>
      `${Type} ${Type === "volume" ? Name : Source} ${Destination} ${RW ? "rw" : "ro"}`,
  );
  return (
    JSON.stringify(has.toSorted()) === JSON.stringify(wanted.toSorted()) &&
    (got.HostConfig.Binds ?? []).length === 0
  );
}

/** `browser` lets a run make namespaces as Chromium's own sandbox needs them. */
export type SeccompProfile = "usual" | "browser";

export type ReceiptFacts = {
  readonly profile: SeccompProfile;
  readonly spec: SandboxSpec;
  readonly limits: ContainerLimits;
  readonly runtime: string;
  readonly image: string;
  readonly user: { readonly uid: number; readonly gid: number };
};

/** Throws isolation_unavailable, naming what the guard does not see around itself. */
export function toDockerReceipt(view: GuardView, facts: ReceiptFacts): Receipt {
  const { spec, limits, user } = facts;
  const isOpen = spec.network === "open";
  // gVisor has its own filter below and ignores ours; it tells nothing of no_new_privs, which it always has.
  const isGvisor = facts.runtime === GVISOR;
  const seen = isGvisor && view.noNewPrivs === null ? { ...view, noNewPrivs: true } : view;
  const weak = [
    ...findWeakView(seen, user, isOpen),
    ...(view.seccomp || isGvisor ? [] : ["our seccomp profile"]),
  ];
  if (weak.length > 0) throw toWeakFault(weak);
  return {
    kind: "docker",
    isolated: true,
    requested: { kind: spec.requestedKind, network: spec.network },
    namespaces: ["pid", "mnt", "ipc", "net", "uts"],
    network: spec.network,
    egressEnforced: !isOpen,
    user,
    capabilities: [],
    noNewPrivileges: true,
    readOnlySystem: true,
    workspace: spec.readOnly ? "read-only" : "read-write",
    limits: {
      cpus: limits.cpus,
      memoryBytes: limits.memoryBytes,
      pids: limits.pids,
      // A reader's volume has no limit of its own; nothing can write to it.
      ...(spec.workspace.kind === "scratch" && !spec.readOnly
        ? { workspaceBytes: spec.workspace.bytes }
        : {}),
      image: facts.image,
      runtime: facts.runtime,
      executable: toExecutable(spec),
    },
    missing: [
      ...toMissing(facts.runtime),
      ...(facts.profile === "browser"
        ? ["a bar to new user, PID and network namespaces and chroot: this image's browser makes them"]
        : []),
      ...(isOpen ? ["network isolation: egress is not enforced on a network of the engine's"] : []),
      ...(view.programReadable ? [OPEN_GUARD] : []),
    ],
  };
}

/** What containers under a runtime do not have, whatever is asked for. */
export function toMissing(runtime: string): string[] {
  return runtime === GVISOR
    ? ["our seccomp profile: this runtime does not apply it"]
    : ["a kernel of its own: containers share the host's"];
}

/** Engines mount directories and volumes only with the right to execute. */
function toExecutable(spec: SandboxSpec): string {
  if (spec.executable) return "workspace, home and temp";
  return spec.workspace.kind === "bind" || spec.readOnly ? "the workspace" : "nothing outside the image";
}

export function toWeakFault(weak: readonly string[]): Fault {
  return new Fault("isolation_unavailable", `The container would lack: ${weak.join(", ")}.`);
}
