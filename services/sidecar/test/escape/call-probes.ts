/** System calls that lead out of a container or into rarely used parts of the kernel. Every one does no harm where it is allowed. */
import { type CallProbe, toCallProbe as probe } from "./call-probe.ts";
import { ints, OWN_PAGE, step, text, words, zeros } from "./call-program.ts";

const NEW = {
  ...{ time: 0x80, mount: 0x20000, cgroup: 0x2000000, uts: 0x4000000, ipc: 0x8000000 },
  ...{ user: 0x10000000, pid: 0x20000000, net: 0x40000000 },
};
const SIGCHLD = 17;
const HERE = -100; // AT_FDCWD
const NO_FD = -1;
/** Runtimes answer so for calls that are newer than their seccomp library. */
const NEWER = ["EPERM", "ENOSYS"];

const NAMESPACES: readonly CallProbe[] = [
  probe("a user namespace, with all capabilities in it", [["unshare", NEW.user]]),
  probe("a mount namespace", [["unshare", NEW.mount]]),
  probe("a network namespace", [["unshare", NEW.net]]),
  probe("a PID namespace", [["unshare", NEW.pid]]),
  probe("an IPC namespace", [["unshare", NEW.ipc]]),
  probe("a UTS namespace", [["unshare", NEW.uts]]),
  probe("a cgroup namespace", [["unshare", NEW.cgroup]]),
  probe("a time namespace", [["unshare", NEW.time]]),
  probe("a process born in a user namespace", [["clone", NEW.user + SIGCHLD, 0, 0, 0, 0]]),
  probe(
    "a process born in a user namespace, its flags hidden in memory",
    [["clone3", words(NEW.user, 0, 0, 0, SIGCHLD, 0, 0, 0), 64]],
    { inside: ["ENOSYS"] },
  ),
  probe("entering a namespace that exists", [
    ["openat", HERE, text("/proc/self/ns/net"), 0],
    ["setns", step(0), 0],
  ]),
  probe("the machine's name", [["sethostname", text("sandbox"), 7]]),
  probe("the machine's domain", [["setdomainname", text("sandbox"), 7]]),
];

const MOUNTS: readonly CallProbe[] = [
  probe("mounting a file system", [["mount", text("none"), text("/mnt"), text("tmpfs"), 0, text("size=4k")]]),
  probe("taking a mount away", [["umount2", text("/usr"), 0]], { reached: ["EINVAL"] }),
  probe("another root by pivot", [["pivot_root", text("/usr"), text("/usr")]], {
    reached: ["EINVAL", "EBUSY"],
  }),
  probe("another root by chroot", [["chroot", text("/usr")]]),
  probe("a file system opened by the new interface", [["fsopen", text("tmpfs"), 0]]),
  probe("a mount made of an opened file system", [["fsmount", NO_FD, 0, 0]], { reached: ["EBADF"] }),
  probe("an opened file system configured", [["fsconfig", NO_FD, 6, 0, 0, 0]], {
    reached: ["EBADF", "EINVAL"],
  }),
  probe("a mounted file system picked up for reconfiguring", [["fspick", HERE, text("/"), 0]]),
  probe("a copy of the tree of mounts", [["open_tree", HERE, text("/"), 1]]),
  probe("a mount moved", [["move_mount", NO_FD, text(""), NO_FD, text(""), 0]], {
    reached: ["EBADF", "ENOENT", "EINVAL"],
  }),
  probe("read-only lifted from a mount", [["mount_setattr", HERE, text("/"), 0, zeros(32), 32]]),
  probe("a list of all mounts", [["listmount", ints(24, 0, -1, -1, 0, 0), zeros(64), 8, 0]], {
    inside: NEWER,
  }),
  probe("facts of a mount by its number", [["statmount", ints(24, 0, 1, 0, 1, 0), zeros(512), 512, 0]], {
    inside: NEWER,
    reached: ["ENOENT", "EINVAL"],
  }),
  probe("a file opened by its inode, past every mount", [["open_by_handle_at", HERE, zeros(16), 0]], {
    reached: ["EINVAL"],
  }),
  probe("the handle of a file", [["name_to_handle_at", HERE, text("/usr"), zeros(16), zeros(8), 0]], {
    reached: ["EOVERFLOW", "ENOTSUP"],
  }),
  probe("a node for a character device", [["mknodat", HERE, text("/tmp/memory"), 0o020600, 0x101]]),
  probe("a node for a block device", [["mknodat", HERE, text("/tmp/disk"), 0o060600, 0x700]]),
  probe("watching all files of a mount", [["fanotify_init", 0, 0]]),
  probe("marking a mount for watching", [["fanotify_mark", NO_FD, 1, 1, HERE, text("/")]], {
    reached: ["EBADF"],
  }),
  probe("disk quotas", [["quotactl", 0x80000100, 0, 0, 0]]),
  probe("disk quotas by descriptor", [["quotactl_fd", NO_FD, 0x80000100, 0, 0]], { reached: ["EBADF"] }),
  probe("process accounting into a file", [["acct", text("/nowhere")]], { reached: ["ENOENT"] }),
  probe("which pages of a file are in memory", [
    ["openat", HERE, text("/etc/passwd"), 0],
    ["cachestat", step(0), zeros(16), zeros(64), 0],
  ]),
  probe("flushing every disk of the machine", [["sync"]]),
  probe("types of file systems that the kernel knows", [["sysfs", 3]]),
  probe("facts of a block device", [["ustat", 1, zeros(64)]], { reached: ["EINVAL"] }),
];

const KERNEL: readonly CallProbe[] = [
  probe("programs inside the kernel", [["bpf", 0, ints(2, 4, 4, 1, ...new Array(12).fill(0)), 48]]),
  probe("performance counters", [
    ["perf_event_open", ints(1, 112, 0, ...new Array(25).fill(0)), 0, -1, -1, 0],
  ]),
  probe("calls queued past the filter", [["io_uring_setup", 2, zeros(120)]]),
  probe("entering a queue of calls", [["io_uring_enter", NO_FD, 0, 0, 0, 0, 0]], { reached: ["EBADF"] }),
  probe("registering files with a queue of calls", [["io_uring_register", NO_FD, 2, 0, 1]], {
    reached: ["EBADF", "EINVAL"],
  }),
  probe("page faults handled by a program", [["userfaultfd", 1]]),
  probe("storing a key", [["add_key", text("user"), text("pillion"), text("x"), 1, -2]]),
  probe("asking for a key", [["request_key", text("user"), text("pillion-none"), 0, 0]], {
    reached: ["ENOKEY"],
  }),
  probe("reading a keyring", [["keyctl", 0, -2, 1]]),
  probe("the kernel's log", [["syslog", 10, 0, 0]]),
  probe("all input and output ports", [["iopl", 3]]),
  probe("one input and output port", [["ioperm", 0x80, 1, 1]]),
  probe("the processor's segment table", [["modify_ldt", 0, zeros(16), 16]]),
  probe("a 32-bit call from 64-bit code", [["i386 getpid"]], { inside: ["SIGSYS"] }),
  probe("addresses that are not randomised", [["personality", 0x40000]]),
  probe("memory that the kernel itself cannot see", [["memfd_secret", 0]]),
  probe("the security modules in use", [["lsm_list_modules", zeros(128), ints(128), 0]], {
    inside: NEWER,
  }),
  probe("a profiler's names of files", [["lookup_dcookie", 0, zeros(64), 64]]),
  probe("hanging up a terminal", [["vhangup"]]),
];

const MEMORY: readonly CallProbe[] = [
  probe("on which memory node a process gets pages", [["set_mempolicy", 0, 0, 0]]),
  probe("which memory policy holds", [["get_mempolicy", 0, 0, 0, 0, 0]]),
  probe("on which memory node a range gets pages", [["mbind", OWN_PAGE, 4096, 0, 0, 0, 0]]),
  probe("a range's home among the memory nodes", [["set_mempolicy_home_node", OWN_PAGE, 4096, 0, 0]], {
    reached: ["ENOENT", "ENOTSUP"],
  }),
  probe("pages moved to another memory node", [["move_pages", 0, 0, 0, 0, 0, 0]]),
  probe("a process's pages moved to another memory node", [["migrate_pages", 0, 0, 0, 0]], {
    reached: ["EINVAL"],
  }),
  probe("pages of a file mapped out of order", [["remap_file_pages", OWN_PAGE, 4096, 0, 0, 0]], {
    reached: ["EINVAL"],
  }),
  probe("a process's own pages given to a pipe", [["vmsplice", NO_FD, 0, 0, 0]], { reached: ["EBADF"] }),
];

const PROCESSES: readonly CallProbe[] = [
  probe("being traced", [["ptrace", 0, 0, 0, 0]]),
  probe("tracing another process", [["getppid"], ["ptrace", 0x4206, step(0), 0, 0]]),
  probe("reading another process's memory", [
    ["getppid"],
    ["process_vm_readv", step(0), words(OWN_PAGE, 8), 1, words(OWN_PAGE, 8), 1, 0],
  ]),
  probe("writing another process's memory", [
    ["getppid"],
    ["process_vm_writev", step(0), words(OWN_PAGE, 8), 1, words(OWN_PAGE, 8), 1, 0],
  ]),
  probe("what two processes share", [["getppid"], ["kcmp", step(0), step(0), 2, 0, 0]]),
  probe("taking a descriptor of another process", [
    ["getppid"],
    ["pidfd_open", step(0), 0],
    ["pidfd_getfd", step(1), 1, 0],
  ]),
  probe("advice on another process's memory", [
    ["getppid"],
    ["pidfd_open", step(0), 0],
    ["process_madvise", step(1), words(OWN_PAGE, 4096), 1, 20, 0],
  ]),
  probe(
    "reaping another process's memory",
    [["getppid"], ["pidfd_open", step(0), 0], ["process_mrelease", step(1), 0]],
    { reached: ["EINVAL"] },
  ),
  probe("becoming root", [["setuid", 0]]),
  probe("becoming root's group", [["setgid", 0]]),
  probe("joining groups", [["setgroups", 1, ints(0)]]),
  probe("raising capabilities", [["capset", ints(0x20080522, 0), ints(0x200000, 0x200000, 0, 0, 0, 0)]]),
  probe("a priority above the others'", [["setpriority", 0, 0, -5]], { inside: ["EACCES"] }),
  probe("real-time priority at the disk", [["ioprio_set", 1, 0, 0x2000]]),
];

const [STREAM, DATAGRAM, RAW] = [1, 2, 3];
const [INET, INET6] = [2, 10];

const SOCKETS: readonly CallProbe[] = [
  probe("routes and interfaces by netlink", [["socket", 16, RAW, 0]]),
  probe("the host behind the virtual machine", [["socket", 40, STREAM, 0]]),
  probe("the kernel's cryptography", [["socket", 38, 5, 0]]),
  probe("packets of every kind", [["socket", 17, RAW, 0x0300]]),
  probe("keys of IPsec", [["socket", 15, RAW, 2]]),
  probe("express data path", [["socket", 44, RAW, 0]]),
  probe("Bluetooth", [["socket", 31, RAW, 1]]),
  probe("raw packets of IPv4", [["socket", INET, RAW, 1]]),
  probe("raw packets of IPv6", [["socket", INET6, RAW, 58]]),
  probe("echo requests of IPv4", [["socket", INET, DATAGRAM, 1]]),
  probe("echo requests of IPv6", [["socket", INET6, DATAGRAM, 58]]),
  probe("TCP over several paths", [["socket", INET, STREAM, 262]]),
  probe("SCTP", [["socket", INET, STREAM, 132]]),
  probe("UDP-Lite", [["socket", INET, DATAGRAM, 136]]),
  probe("a pair of sockets of another family", [["socketpair", 16, RAW, 0, zeros(8)]], {
    reached: ["ENOTSUP"],
  }),
];

export const CALL_PROBES: readonly CallProbe[] = [
  ...NAMESPACES,
  ...MOUNTS,
  ...KERNEL,
  ...MEMORY,
  ...PROCESSES,
  ...SOCKETS,
];

/** Calls that are never issued, not even where they must fail: what forbids them is read. */
export const NEVER_ISSUED: readonly string[] = [
  ...["reboot", "kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module"],
  ...["swapon", "swapoff", "settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "stime"],
  ...[
    "create_module",
    "get_kernel_syms",
    "query_module",
    "nfsservctl",
    "uselib",
    "_sysctl",
    "vm86",
    "vm86old",
  ],
];
