/** Files by which a container could see or change its host, the kernel, other runs or itself. */
import { type PathProbe, toPathProbe as probe } from "./path-probe.ts";

/** Hidden under an empty file or directory, or not built into this kernel. */
const MASKED = { inside: ["empty", "ENOENT"] };
/** The host's devices lie there in the container without protection; its own /dev has few. */
const DEVICE = { outside: (path: string) => path.replace("/dev", "/host/dev") };

const KERNEL: readonly PathProbe[] = [
  probe("the kernel's emergency keys", "write", "/proc/sysrq-trigger"),
  probe("all memory of the machine, as a core file", "read", "/proc/kcore", MASKED),
  probe("the list of keys", "read", "/proc/keys", MASKED),
  probe("the kernel's timers", "read", "/proc/timer_list", MASKED),
  probe("the kernel's messages", "open", "/proc/kmsg"),
  probe("how often each page of memory is used", "open", "/proc/kpagecount"),
  probe("the state of each page of memory", "open", "/proc/kpageflags"),
  probe("the kernel's own memory areas", "read", "/proc/vmallocinfo"),
  probe("the kernel's object caches", "read", "/proc/slabinfo"),
  probe("tables of the firmware", "list", "/sys/firmware", MASKED),
  probe("the program that the kernel starts on a crash", "write", "/proc/sys/kernel/core_pattern"),
  probe("the program that the kernel starts for a module", "write", "/proc/sys/kernel/modprobe"),
  probe("how the kernel treats memory", "write", "/proc/sys/vm/overcommit_memory"),
  probe("whether packets are passed on", "write", "/proc/sys/net/ipv4/ip_forward"),
  probe("handlers of foreign programs", "write", "/proc/sys/fs/binfmt_misc/register"),
  probe("which processor takes an interrupt", "write", "/proc/irq/default_smp_affinity"),
  probe("the machine's sleep", "write", "/sys/power/state"),
  probe("large pages for everybody", "write", "/sys/kernel/mm/transparent_hugepage/enabled"),
  probe("events of devices", "write", "/sys/devices/virtual/mem/null/uevent"),
  probe("parameters of a module", "write", "/sys/module/kernel/parameters/panic_on_warn"),
  probe("the kernel's debugging files", "list", "/sys/kernel/debug", {
    inside: ["EACCES", "ENOENT", "empty"],
  }),
  probe("the kernel's tracing", "list", "/sys/kernel/tracing", {
    inside: ["EACCES", "ENOENT", "empty"],
  }),
];

const CONTROL_GROUP: readonly PathProbe[] = [
  probe("the container's own memory limit", "write", [
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
  ]),
  probe("the container's own limit of processes", "write", [
    "/sys/fs/cgroup/pids.max",
    "/sys/fs/cgroup/pids/pids.max",
  ]),
  probe("moving processes to another control group", "write", [
    "/sys/fs/cgroup/cgroup.procs",
    "/sys/fs/cgroup/pids/cgroup.procs",
  ]),
  probe("freezing the container", "write", [
    "/sys/fs/cgroup/cgroup.freeze",
    "/sys/fs/cgroup/freezer/freezer.state",
  ]),
];

const DEVICES: readonly PathProbe[] = [
  probe("a disk of the host", "open", ["/dev/loop0", "/dev/sda", "/dev/nvme0n1"], DEVICE),
  probe("the kernel's log, to write", "write", "/dev/kmsg", DEVICE),
  probe("file systems in user programs", "open", "/dev/fuse", DEVICE),
  probe("virtual network cards", "open", "/dev/net/tun", DEVICE),
  probe("disks made of files", "open", "/dev/loop-control", DEVICE),
  probe("the first screen", "open", "/dev/vcs", DEVICE),
  probe("the host's mounting daemon", "open", "/dev/autofs", DEVICE),
  probe("page faults, by device", "open", "/dev/userfaultfd", DEVICE),
  probe("virtual machines", "open", "/dev/kvm", DEVICE),
  probe("the processor's registers", "open", "/dev/cpu/0/msr", DEVICE),
  probe("physical memory", "open", "/dev/mem", DEVICE),
];

const OWN_FILES: readonly PathProbe[] = [
  probe("system programs", "create", "/usr/bin"),
  probe("system libraries", "create", "/usr/lib"),
  probe("the root directory", "create", "/"),
  probe("settings of the system", "create", "/etc"),
  probe("the list of users", "write", "/etc/passwd"),
  probe("password hashes", "read", "/etc/shadow"),
  probe("names of machines", "write", "/etc/hosts"),
  probe("the name server", "write", "/etc/resolv.conf"),
  probe("the preloaded library", "write", ["/etc/ld.so.preload", "/etc/ld.so.cache"]),
  probe("our product", "create", "/opt/pillion"),
  probe("the guard's program", "write", "/opt/pillion/guard/main.mjs"),
  probe("the extension", "write", "/opt/pillion/extension/pillion.js"),
  probe("a program of the system", "write", "/usr/bin/git"),
  probe("references", "create", "/refs"),
  probe("root's home", "list", "/root", { inside: ["EACCES"] }),
  probe("what programs keep", "create", "/var/lib"),
  probe("what programs leave for later", "create", "/var/tmp"),
  probe("sockets of daemons", "create", "/run"),
  probe("devices", "create", "/dev"),
];

export type HostFacts = {
  /** A file that lies on the host, and is mounted in the container without protection. */
  readonly canary: string;
  /** Another run's file of the host: a `path` workspace. */
  readonly otherWorkspace: string;
  /** The engine's socket on the host. */
  readonly engineSocket: string;
};

/** Of the host itself, by the several ways that have led there. */
export function toHostProbes({ canary, otherWorkspace, engineSocket }: HostFacts): PathProbe[] {
  const up = "../".repeat(12);
  return [
    probe("a file of the host", "read", canary),
    probe("the directory of another run", "list", otherWorkspace),
    probe("a file of the host through the first process", "read", `/proc/1/root${canary}`),
    probe("a file of the host upwards from the first process", "read", `/proc/1/cwd/${up}${canary.slice(1)}`),
    probe("a file of the host upwards from a descriptor", "read", `/proc/self/fd/0/${up}${canary.slice(1)}`, {
      outside: () => canary,
    }),
    probe("a file of the host through a link in the workspace", "read", "/workspace/link", {
      outside: () => "/tmp/link",
    }),
    probe("the engine", "connect", "/var/run/docker.sock", { outside: () => "/host/engine.sock" }),
    probe("the engine at its own path", "connect", engineSocket, { outside: () => "/host/engine.sock" }),
  ];
}

/** Of the guard, which has the run's own user. In the control it is any other process of that user. */
export const GUARD_PROBES: readonly PathProbe[] = [
  probe("the guard's memory", "open", "/proc/{guard}/mem"),
  probe("the guard's memory, to write", "write", "/proc/{guard}/mem"),
  probe("where the guard's memory lies", "read", "/proc/{guard}/maps"),
  probe("the guard's environment", "read", "/proc/{guard}/environ"),
  probe("the guard's descriptors", "list", "/proc/{guard}/fd"),
  probe("the guard's pipe", "open", "/proc/{guard}/fd/0"),
];

export const PATH_PROBES: readonly PathProbe[] = [...KERNEL, ...CONTROL_GROUP, ...DEVICES, ...OWN_FILES];
