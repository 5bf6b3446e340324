/** Everything that is set on a run's container, from what the operator allows and the run wants. Pure; a golden test pins it. */
import type { ContainerCreateOptions } from "dockerode";
import { Fault } from "../../kernel/fault.ts";
import { toGuardCommand } from "../guard-command.ts";
import { toBoundReferences, toReferencePath } from "../references.ts";
import type { SandboxPaths, SandboxSpec } from "../sandbox.ts";

export const DOCKER_PATHS: SandboxPaths = {
  workspace: "/workspace",
  home: "/home/agent",
  temp: "/tmp",
  node: "/opt/pillion/node/bin/node",
  product: "/opt/pillion",
  path: "/opt/pillion/bin:/usr/local/bin:/usr/bin:/bin",
};

/** Where an image has its programs comes first but for ours; what it says beside absolute directories is left out. */
export function toPaths(imageEnv: readonly string[]): SandboxPaths {
  const own = imageEnv.find((entry) => entry.startsWith("PATH="))?.slice("PATH=".length) ?? "";
  const directories = [
    `${DOCKER_PATHS.product}/bin`,
    ...own.split(":").filter((part) => part.startsWith("/")),
  ];
  if (directories.length === 1) return DOCKER_PATHS;
  return { ...DOCKER_PATHS, path: [...new Set(directories)].join(":") };
}

export const LABELS = {
  instance: "org.pillion.instance",
  run: "org.pillion.run",
  version: "org.pillion.version",
  /** Unix time in seconds after the longest that the run can take: for cleaning up by hand, never read by us. */
  expires: "org.pillion.expires",
} as const;

const MiB = 1024 * 1024;
const TEMP_BYTES = 256 * MiB;
const HOME_BYTES = 128 * MiB;
const NOFILE = 4096;
/** Counted for each uid over all containers; the pids limit is what holds a single run. */
const NPROC = 32_768;

/** May read Node in our image. A process of a program that it cannot read is closed to the other processes of its user. */
const READERS_GID = "64220";
/** The one runtime that is known to differ; every other is taken for one like runc. */
export const GVISOR = "runsc";

export type ContainerLimits = {
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly pids: number;
};

/** Never more than the operator allows, nor than the host has. */
export function clampLimits(
  { cpus, memoryBytes, pids }: SandboxSpec,
  ceiling: Omit<ContainerLimits, "pids">,
  host: Omit<ContainerLimits, "pids">,
): ContainerLimits {
  return {
    cpus: Math.min(cpus ?? ceiling.cpus, ceiling.cpus, host.cpus),
    memoryBytes: Math.min(memoryBytes ?? ceiling.memoryBytes, ceiling.memoryBytes, host.memoryBytes),
    pids,
  };
}

export type VolumeMount = { readonly volume: string; readonly target: string };

export type ContainerWishes = {
  readonly spec: SandboxSpec;
  readonly limits: ContainerLimits;
  readonly instance: string;
  readonly version: string;
  readonly expiresS: number;
  /** Text of our seccomp profile. */
  readonly seccomp: string;
  readonly runtime: string;
  readonly image: string;
  /** What the image sets in its environment, as `NAME=value`. */
  readonly imageEnv: readonly string[];
  /** Mounted read-only: a reader's files, references, our product in an image of another's. */
  readonly volumes: readonly VolumeMount[];
  /** Name of an engine's network, or `none`. */
  readonly network: string;
  /** Who the run is: the caller's own directory keeps its owner. */
  readonly user: { readonly uid: number; readonly gid: number };
};

/** Throws internal where a limit would be none: 0 means that to an engine. */
export function toContainerOptions(wishes: ContainerWishes): ContainerCreateOptions {
  const { spec, limits, user } = wishes;
  refuseNoLimit(limits);
  return {
    name: toContainerName(wishes.instance, spec.runId),
    Image: wishes.image,
    Entrypoint: [],
    Cmd: toGuardCommand(DOCKER_PATHS, spec.references),
    Env: toEnvironment(wishes.imageEnv),
    User: `${user.uid}:${user.gid}`,
    WorkingDir: "/",
    Hostname: "sandbox",
    Labels: {
      [LABELS.instance]: wishes.instance,
      [LABELS.run]: spec.runId,
      [LABELS.version]: wishes.version,
      [LABELS.expires]: String(wishes.expiresS),
    },
    AttachStdin: true,
    AttachStdout: true,
    AttachStderr: true,
    OpenStdin: true,
    StdinOnce: true,
    Tty: false,
    NetworkDisabled: wishes.network === "none",
    StopSignal: "SIGKILL",
    Healthcheck: { Test: ["NONE"] },
    HostConfig: {
      NetworkMode: wishes.network,
      Runtime: wishes.runtime,
      Init: true,
      ReadonlyRootfs: true,
      CapDrop: ["ALL"],
      // Linux executes what it may not read; gVisor does not.
      GroupAdd: wishes.runtime === GVISOR ? [READERS_GID] : [],
      SecurityOpt: ["no-new-privileges:true", `seccomp=${wishes.seccomp}`],
      Privileged: false,
      PublishAllPorts: false,
      IpcMode: "private",
      ShmSize: 64 * MiB,
      NanoCpus: Math.round(limits.cpus * 1e9),
      Memory: limits.memoryBytes,
      MemorySwap: limits.memoryBytes, // equal means none
      PidsLimit: limits.pids,
      OomScoreAdj: 500,
      Ulimits: [
        { Name: "nofile", Soft: NOFILE, Hard: NOFILE },
        { Name: "nproc", Soft: NPROC, Hard: NPROC },
        { Name: "core", Soft: 0, Hard: 0 },
      ],
      Tmpfs: toTmpfs(wishes),
      Mounts: toMounts(wishes),
      LogConfig: { Type: "none", Config: {} },
      RestartPolicy: { Name: "no" },
      AutoRemove: false, // it would lose how the container ended
    },
  };
}

function refuseNoLimit({ cpus, memoryBytes, pids }: ContainerLimits): void {
  const isLimit = [Math.round(cpus * 1e9), memoryBytes, pids].every(
    (value) => Number.isSafeInteger(value) && value > 0,
  );
  if (!isLimit) throw new Fault("internal", "A run's container would have had no limit.");
}

/** Also the beginning of the names of a run's volumes. */
export function toContainerName(instance: string, runId: string): string {
  return `pillion-${instance}-${runId.replace(/^run_/, "")}`;
}

/** The whole environment of the guard; a harness gets its own. What an image sets cannot be removed, so it is emptied. */
function toEnvironment(imageEnv: readonly string[]): string[] {
  const own = {
    PATH: DOCKER_PATHS.path,
    HOME: DOCKER_PATHS.home,
    LANG: "C.UTF-8",
    UV_THREADPOOL_SIZE: "2",
  };
  const others = imageEnv.map((entry) => entry.split("=", 1)[0] ?? "").filter((name) => !(name in own));
  return [
    ...Object.entries(own).map(([name, value]) => `${name}=${value}`),
    ...others.map((name) => `${name}=`),
  ];
}

const isWorkspaceFilled = ({ volumes }: ContainerWishes): boolean =>
  volumes.some(({ target }) => target === DOCKER_PATHS.workspace);

function toTmpfs(wishes: ContainerWishes): Record<string, string> {
  const { spec, user } = wishes;
  const owner = `uid=${user.uid},gid=${user.gid}`;
  const flags = `rw,nosuid,nodev,${spec.executable ? "exec" : "noexec"}`;
  return {
    [DOCKER_PATHS.temp]: `${flags},size=${TEMP_BYTES},mode=0700,${owner}`,
    [DOCKER_PATHS.home]: `${flags},size=${HOME_BYTES},mode=0700,${owner}`,
    ...(spec.workspace.kind === "scratch" && !isWorkspaceFilled(wishes)
      ? { [DOCKER_PATHS.workspace]: `${flags},size=${spec.workspace.bytes},mode=0700,${owner}` }
      : {}),
  };
}

type EngineMount = NonNullable<NonNullable<ContainerCreateOptions["HostConfig"]>["Mounts"]>[number];

function toMounts({ spec, volumes }: ContainerWishes): EngineMount[] {
  const { workspace } = spec;
  return [
    ...volumes.map(({ volume, target }) => toVolume(volume, target)),
    ...(workspace.kind === "bind" ? [toBind(workspace.path, DOCKER_PATHS.workspace, spec.readOnly)] : []),
    ...toBoundReferences(spec.references).map(({ name, path }) => toBind(path, toReferencePath(name), true)),
  ];
}

/** An empty volume stays empty: what the image has at that place is not ours. */
function toVolume(volume: string, target: string): EngineMount {
  const mount = {
    ...{ Type: "volume" as const, Source: volume, Target: target, ReadOnly: true },
    VolumeOptions: { NoCopy: true },
  };
  return mount as EngineMount; // dockerode's type wants fields that the engine does without
}

/** What is mounted below the directory stays outside: old engines would make only the top read-only. */
function toBind(from: string, to: string, readOnly: boolean): EngineMount {
  const BindOptions = { Propagation: "rprivate" as const, NonRecursive: true };
  return { Type: "bind", Source: from, Target: to, ReadOnly: readOnly, BindOptions };
}
