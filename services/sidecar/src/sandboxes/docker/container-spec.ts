/** Everything that is set on a run's container, from what the operator allows and the run wants. Pure; a golden test pins it. */
import type { ContainerCreateOptions } from "dockerode";
import { toGuardCommand } from "../guard-command.ts";
import type { SandboxPaths, SandboxSpec } from "../sandbox.ts";

export const DOCKER_PATHS: SandboxPaths = {
  workspace: "/workspace",
  home: "/home/agent",
  temp: "/tmp",
  node: "/usr/local/bin/node",
  product: "/opt/pillion",
  path: "/opt/pillion/bin:/usr/local/bin:/usr/bin:/bin",
};

export const LABELS = {
  instance: "org.pillion.instance",
  run: "org.pillion.run",
  version: "org.pillion.version",
  /** Unix time in seconds after which any sidecar of this instance may remove the container. */
  expires: "org.pillion.expires",
} as const;

const MiB = 1024 * 1024;
const TEMP_BYTES = 256 * MiB;
const HOME_BYTES = 128 * MiB;
const NOFILE = 4096;
/** Counted for each uid over all containers; the pids limit is what holds a single run. */
const NPROC = 32_768;

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
  /** Volume with a reader's files, which is mounted read-only. */
  readonly volume?: string;
  /** Who the run is: the caller's own directory keeps its owner. */
  readonly user: { readonly uid: number; readonly gid: number };
};

export function toContainerOptions(wishes: ContainerWishes): ContainerCreateOptions {
  const { spec, limits, user } = wishes;
  return {
    name: `pillion-${wishes.instance}-${spec.runId.replace(/^run_/, "")}`,
    Image: wishes.image,
    Entrypoint: [],
    Cmd: toGuardCommand(DOCKER_PATHS),
    Env: toEnvironment(),
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
    NetworkDisabled: true,
    StopSignal: "SIGKILL",
    Healthcheck: { Test: ["NONE"] },
    HostConfig: {
      NetworkMode: "none",
      Runtime: wishes.runtime,
      Init: true,
      ReadonlyRootfs: true,
      CapDrop: ["ALL"],
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
      Tmpfs: toTmpfs(spec, user, wishes.volume !== undefined),
      Mounts: toMounts(spec, wishes.volume),
      LogConfig: { Type: "none", Config: {} },
      RestartPolicy: { Name: "no" },
      AutoRemove: false, // it would lose how the container ended
    },
  };
}

/** The whole environment of the guard; a harness gets its own. What an image sets is not removed, so it is set over. */
function toEnvironment(): string[] {
  return [`PATH=${DOCKER_PATHS.path}`, `HOME=${DOCKER_PATHS.home}`, "LANG=C.UTF-8", "UV_THREADPOOL_SIZE=2"];
}

function toTmpfs(
  spec: SandboxSpec,
  user: ContainerWishes["user"],
  hasVolume: boolean,
): Record<string, string> {
  const owner = `uid=${user.uid},gid=${user.gid}`;
  const flags = `rw,nosuid,nodev,${spec.executable ? "exec" : "noexec"}`;
  return {
    [DOCKER_PATHS.temp]: `${flags},size=${TEMP_BYTES},mode=0700,${owner}`,
    [DOCKER_PATHS.home]: `${flags},size=${HOME_BYTES},mode=0700,${owner}`,
    ...(spec.workspace.kind === "scratch" && !hasVolume
      ? { [DOCKER_PATHS.workspace]: `${flags},size=${spec.workspace.bytes},mode=0700,${owner}` }
      : {}),
  };
}

type Mount = NonNullable<NonNullable<ContainerCreateOptions["HostConfig"]>["Mounts"]>[number];

function toMounts(spec: SandboxSpec, volume: string | undefined): Mount[] {
  const Target = DOCKER_PATHS.workspace;
  if (volume !== undefined) return [{ Type: "volume", Source: volume, Target, ReadOnly: true }];
  if (spec.workspace.kind === "scratch") return [];
  return [
    {
      Type: "bind",
      Source: spec.workspace.path,
      Target,
      ReadOnly: spec.readOnly,
      BindOptions: { Propagation: "rprivate" },
    },
  ];
}
