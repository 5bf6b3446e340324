/** Section 5 of the CIS Docker Benchmark (numbers of 1.3.1 to 1.5): what each recommendation wants of a running container. */
import type { ContainerInspectInfo } from "dockerode";

/** What is known of a container, and of the engine that runs it. */
export type ContainerFacts = {
  readonly inspected: ContainerInspectInfo;
  /** Names of the programs that run in it. */
  readonly programs: readonly string[];
  /** As `docker info` tells them: "name=apparmor" and the like. */
  readonly engineSecurity: readonly string[];
  /** Id of the image that its name means now. */
  readonly newestImage: string;
  /** True when its end was noticed by whoever watches it. */
  readonly isWatched: boolean;
};

export type Recommendation = {
  readonly id: string;
  readonly wants: string;
  readonly holds: (facts: ContainerFacts) => boolean;
  /** Why it cannot be checked on this engine. */
  readonly notApplicable?: (facts: ContainerFacts) => string | undefined;
};

const HOST_DIRECTORIES = [
  "/",
  "/boot",
  "/dev",
  "/etc",
  "/lib",
  "/proc",
  "/sys",
  "/usr",
  "/var/run",
  "/run",
  "/root",
];

function lacking(module: string): (facts: ContainerFacts) => string | undefined {
  return ({ engineSecurity }) =>
    engineSecurity.some((option) => option.includes(`name=${module}`))
      ? undefined
      : `the engine's kernel has no ${module}`;
}

function toSources({ inspected }: ContainerFacts): string[] {
  const { Mounts, HostConfig } = inspected;
  const asked = [
    ...(HostConfig.Binds ?? []).map((bind) => bind.split(":")[0] ?? ""),
    ...(HostConfig.Mounts ?? []).filter(({ Type }) => Type === "bind").map(({ Source }) => Source),
  ];
  return [...asked, ...(Mounts ?? []).filter(({ Type }) => Type === "bind").map(({ Source }) => Source)];
}

function toBindings({ inspected }: ContainerFacts): { HostIp?: string; HostPort?: string }[] {
  return Object.values(inspected.HostConfig.PortBindings ?? {}).flatMap((bindings) =>
    Array.isArray(bindings) ? bindings : [],
  );
}

const toCheck = (id: string, wants: string, holds: Recommendation["holds"]): Recommendation => ({
  id,
  wants,
  holds,
});

export const RECOMMENDATIONS: readonly Recommendation[] = [
  {
    ...toCheck(
      "5.1",
      "an AppArmor profile",
      ({ inspected }) => inspected.AppArmorProfile === "docker-default",
    ),
    notApplicable: lacking("apparmor"),
  },
  {
    ...toCheck("5.2", "SELinux options", ({ inspected }) => (inspected.ProcessLabel ?? "") !== ""),
    notApplicable: lacking("selinux"),
  },
  toCheck("5.3", "capabilities restricted: none are left", ({ inspected: { HostConfig } }) => {
    return (HostConfig.CapDrop ?? []).includes("ALL") && (HostConfig.CapAdd ?? []).length === 0;
  }),
  toCheck("5.4", "no privileged container", ({ inspected }) => inspected.HostConfig.Privileged === false),
  toCheck("5.5", "no sensitive directory of the host", (facts) =>
    toSources(facts).every((source) => !HOST_DIRECTORIES.includes(source)),
  ),
  toCheck("5.6", "no SSH daemon", ({ programs }) => !programs.includes("sshd")),
  toCheck("5.7", "no privileged port of the host", (facts) =>
    toBindings(facts).every(({ HostPort }) => Number(HostPort ?? 0) >= 1024),
  ),
  toCheck("5.8", "no port open that is not needed: none", ({ inspected }) =>
    [inspected.HostConfig.PortBindings, inspected.Config.ExposedPorts].every(
      (ports) => Object.keys(ports ?? {}).length === 0,
    ),
  ),
  toCheck("5.9", "not the host's network", ({ inspected }) => inspected.HostConfig.NetworkMode !== "host"),
  toCheck("5.10", "a memory limit", ({ inspected }) => (inspected.HostConfig.Memory ?? 0) > 0),
  toCheck("5.11", "a share of the processors", ({ inspected }) => (inspected.HostConfig.NanoCpus ?? 0) > 0),
  toCheck("5.12", "a read-only root", ({ inspected }) => inspected.HostConfig.ReadonlyRootfs === true),
  toCheck("5.13", "ports bound to one interface", (facts) =>
    toBindings(facts).every(({ HostIp }) => !["", "0.0.0.0", "::", undefined].includes(HostIp)),
  ),
  toCheck("5.14", "no more than five restarts", ({ inspected: { HostConfig } }) => {
    const { Name = "no", MaximumRetryCount = 0 } = HostConfig.RestartPolicy ?? {};
    return ["", "no"].includes(Name) || (Name === "on-failure" && MaximumRetryCount <= 5);
  }),
  toCheck("5.15", "not the host's processes", ({ inspected }) => inspected.HostConfig.PidMode !== "host"),
  toCheck("5.16", "not the host's IPC", ({ inspected }) =>
    ["private", "none"].includes(inspected.HostConfig.IpcMode ?? ""),
  ),
  toCheck(
    "5.17",
    "no device of the host",
    ({ inspected }) => (inspected.HostConfig.Devices ?? []).length === 0,
  ),
  toCheck("5.18", "ulimits of its own", ({ inspected }) => {
    const names = (inspected.HostConfig.Ulimits ?? []).map(({ Name }) => Name ?? "");
    return ["nofile", "nproc", "core"].every((name) => names.includes(name));
  }),
  toCheck("5.19", "no shared propagation of mounts", ({ inspected: { HostConfig, Mounts } }) => {
    const asked = (HostConfig.Mounts ?? []).map(({ BindOptions }) => BindOptions?.Propagation ?? "");
    return [...asked, ...(Mounts ?? []).map(({ Propagation }) => Propagation ?? "")].every(
      (mode) => !mode.includes("shared"),
    );
  }),
  toCheck("5.20", "not the host's UTS namespace", ({ inspected }) => inspected.HostConfig.UTSMode !== "host"),
  toCheck("5.21", "the seccomp profile not switched off", ({ inspected: { HostConfig } }) => {
    const options: string[] = HostConfig.SecurityOpt ?? [];
    return options.every((option) => !/seccomp[=:]unconfined/.test(option)) && !HostConfig.Privileged;
  }),
  toCheck("5.22", "nothing executed with privileges: nothing is executed at all", hasNoExec),
  toCheck("5.23", "nothing executed as root: nothing is executed, and the user is another", (facts) => {
    return hasNoExec(facts) && !["", "0", "root"].includes(facts.inspected.Config.User.split(":")[0] ?? "");
  }),
  toCheck(
    "5.24",
    "the engine's own control group",
    ({ inspected }) => (inspected.HostConfig.CgroupParent ?? "") === "",
  ),
  toCheck("5.25", "no new privileges", ({ inspected }) =>
    (inspected.HostConfig.SecurityOpt ?? []).some((option: string) =>
      /^no-new-privileges([=:]true)?$/.test(option),
    ),
  ),
  toCheck("5.26", "its health is watched: by the pipe, which ends with it", ({ isWatched }) => isWatched),
  toCheck("5.27", "the image that its name means now, by digest", ({ inspected, newestImage }) => {
    return inspected.Config.Image.startsWith("sha256:") && inspected.Image === newestImage;
  }),
  toCheck("5.28", "a limit of processes", ({ inspected }) => (inspected.HostConfig.PidsLimit ?? 0) > 0),
  toCheck(
    "5.29",
    "not the engine's default bridge",
    ({ inspected }) => !["default", "bridge"].includes(inspected.HostConfig.NetworkMode ?? "default"),
  ),
  toCheck(
    "5.30",
    "not the host's user namespace by choice",
    ({ inspected }) => inspected.HostConfig.UsernsMode !== "host",
  ),
  toCheck("5.31", "not the engine's socket", (facts) =>
    toSources(facts).every((source) => !/(docker|containerd)\.sock$/.test(source)),
  ),
];

function hasNoExec({ inspected }: ContainerFacts): boolean {
  return (inspected.ExecIDs ?? []).length === 0;
}
