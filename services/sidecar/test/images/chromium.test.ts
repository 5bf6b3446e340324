// Chromium in the browser image: it renders with its own sandbox in force, without any right, under a profile made for it.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test, vi } from "vitest";
import { z } from "zod";
import { AgentContainer, type Ended, LOCKED_DOWN, runAgent } from "./agent-container.ts";

const DOCKER = join(import.meta.dirname, "../../../../docker");
const OWN = ["--security-opt", `seccomp=${join(DOCKER, "seccomp-browser.json")}`];
const USUAL = ["--security-opt", `seccomp=${join(DOCKER, "seccomp.json")}`];

const PAGE = "data:text/html,<p id=x></p><script>document.getElementById('x').textContent=6*7</script>";

const render = (profile: readonly string[], flags: readonly string[] = []): Ended =>
  runAgent(
    "browser",
    [...LOCKED_DOWN, ...profile],
    ["chromium-headless-shell", ...flags, "--dump-dom", PAGE],
  );

/** What the kernel says of Chromium's processes; readable to everybody, so it needs no right either. */
const LOOK = `
  const fs = require("node:fs");
  const read = (path) => { try { return fs.readFileSync(path, "utf8"); } catch { return ""; } };
  const pids = fs.readdirSync("/proc").filter((name) => /^\\d+$/.test(name));
  const processes = pids.map((pid) => {
    const status = read("/proc/" + pid + "/status");
    const field = (name) => status.match(new RegExp("^" + name + ":\\\\s*(.*)$", "m"))?.[1] ?? "";
    return {
      kind: read("/proc/" + pid + "/cmdline").match(/--type=([a-z-]+)/)?.[1] ?? "",
      pidNamespaces: field("NSpid").split(/\\s+/).length,
      filters: Number(field("Seccomp_filters")),
      capabilities: field("CapEff"),
      noNewPrivs: field("NoNewPrivs"),
      users: read("/proc/" + pid + "/uid_map").trim().split(/\\s+/).join(" "),
    };
  });
  console.log(JSON.stringify(processes));
`;

const Process = z.object({
  kind: z.string(),
  pidNamespaces: z.number(),
  filters: z.number(),
  capabilities: z.string(),
  noNewPrivs: z.string(),
  users: z.string(),
});

/** One renderer, as it is while its page stands. */
async function lookAtRenderer(
  profile: readonly string[],
  flags: readonly string[],
): Promise<z.infer<typeof Process>> {
  const command = ["chromium-headless-shell", ...flags, "--remote-debugging-port=0", PAGE];
  using container = new AgentContainer("browser", [...LOCKED_DOWN, ...profile], command);
  return await vi.waitFor(
    () => {
      const { status, stdout, stderr } = container.exec(["node", "-e", LOOK]);
      if (status !== 0) throw new Error(`${stderr}${container.logs}`);
      const found = z.array(Process).parse(JSON.parse(stdout));
      const renderer = found.find(({ kind, filters }) => kind === "renderer" && filters > 0);
      if (renderer === undefined || (flags.length === 0 && renderer.filters < 2))
        throw new Error(container.logs);
      return renderer;
    },
    { timeout: 20_000, interval: 200 },
  );
}

describe("S3.9 Chromium in a locked-down container, under the profile made for it", () => {
  test("renders a page and runs its script, and was not told to do without a sandbox", () => {
    const { status, stdout } = render(OWN);
    expect({ status, stdout }).toEqual({ status: 0, stdout: expect.stringContaining('<p id="x">42</p>') });
    const wrapper = runAgent("browser", [], ["cat", "/usr/bin/chromium-headless-shell"]).stdout;
    expect(wrapper).toContain("/usr/lib/chromium/chromium-headless-shell");
    expect(wrapper).not.toContain("no-sandbox");
  });

  test("has its renderers in namespaces of their own, with a filter of their own and no capability", async () => {
    expect(await lookAtRenderer(OWN, [])).toEqual({
      kind: "renderer",
      ...{
        pidNamespaces: 3,
        filters: 2,
        capabilities: "0000000000000000",
        noNewPrivs: "1",
        users: "1000 1000 1",
      },
    });
  });

  test("has no sandbox under the usual profile, and refuses to start: the same look tells the difference", async () => {
    const { status, stdout, stderr } = render(USUAL);
    expect({ status, stdout }).toEqual({ status: 1, stdout: "" });
    expect(stderr).toContain("No usable sandbox!");
    expect(await lookAtRenderer(USUAL, ["--no-sandbox"])).toMatchObject({
      ...{ pidNamespaces: 1, filters: 1, users: "0 0 4294967295" },
    });
  });
});

describe("S3.9 what the profile opens, and nothing else", () => {
  /** Numbers of x86_64 and, where they differ, aarch64; each call has arguments that do no harm where it is allowed. */
  const PROBE = `
import ctypes, json, os, platform
libc = ctypes.CDLL(None, use_errno=True)
arm = platform.machine() == "aarch64"
NEWNS, NEWUSER, NEWPID, NEWNET, NEWIPC, NEWUTS = 0x20000, 0x10000000, 0x20000000, 0x40000000, 0x8000000, 0x4000000
def call(x86, aarch, *arguments):
    libc.syscall(aarch if arm else x86, *arguments)
def unshare(flags): call(272, 97, flags)
calls = {
    "unshare user": lambda: unshare(NEWUSER),
    "unshare user and mounts": lambda: unshare(NEWUSER | NEWNS),
    "unshare network": lambda: unshare(NEWNET),
    "unshare ipc": lambda: unshare(NEWUSER | NEWIPC),
    "setns": lambda: call(308, 268, -1, 0),
    "mount": lambda: call(165, 40, 0, 0, 0, 0, 0),
    "pivot_root": lambda: call(155, 41, 0, 0),
    "open_tree": lambda: call(428, 428, -1, 0, 0),
    "ptrace": lambda: call(101, 117, 16, -1, 0, 0),
    "bpf": lambda: call(321, 280, -1, 0, 0),
    "io_uring_setup": lambda: call(425, 425, 0, 0),
    "keyctl": lambda: call(250, 219, -1, 0, 0, 0, 0),
    "netlink": lambda: call(41, 198, 16, 3, 0),
    "vsock": lambda: call(41, 198, 40, 1, 0),
    "chroot": lambda: call(161, 51, b"/nowhere"),
}
def probe(name):
    ctypes.set_errno(0)
    calls[name]()
    return ctypes.get_errno()
seen = {}
for name in calls:
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.write(writer, str(probe(name)).encode())
        os._exit(0)
    os.wait()
    seen[name] = int(os.read(reader, 8))
print(json.dumps(seen))
`;
  const EPERM = 1;
  const readRefused = (profile: readonly string[]): string[] => {
    const { stdout } = runAgent("browser", [...LOCKED_DOWN, ...profile], ["python3", "-c", PROBE]);
    const seen = z.record(z.string(), z.number()).parse(JSON.parse(stdout));
    return Object.keys(seen).filter((name) => seen[name] === EPERM);
  };

  const CLOSED = [
    ...[
      "unshare user and mounts",
      "unshare network",
      "unshare ipc",
      "setns",
      "mount",
      "pivot_root",
      "open_tree",
    ],
    ...["ptrace", "bpf", "io_uring_setup", "keyctl", "netlink", "vsock"],
  ];

  test("is a user namespace and chroot, of what is closed otherwise", () => {
    expect(readRefused(OWN)).toEqual(CLOSED);
    expect(readRefused(USUAL)).toEqual(["unshare user", ...CLOSED, "chroot"]);
  });

  test("would be seen open: without a profile, and with every right, none of the calls is refused", () => {
    const open = ["--security-opt", "seccomp=unconfined", "--user", "0", "--cap-add", "ALL"];
    expect(readRefused(open)).toEqual([]);
  });
});

describe("the two profiles", () => {
  type Profile = { readonly syscalls: readonly { readonly names: readonly string[] }[] };
  const read = (name: string): Profile => JSON.parse(readFileSync(join(DOCKER, name), "utf8"));
  const without = ({ syscalls, ...rest }: Profile, names: readonly string[]) => ({
    ...rest,
    syscalls: syscalls.filter((rule) => !rule.names.some((name) => names.includes(name))),
  });
  const rulesOf = ({ syscalls }: Profile, names: readonly string[]) =>
    syscalls.filter((rule) => rule.names.some((name) => names.includes(name)));

  test("differ in clone, unshare and chroot, and are the same otherwise", () => {
    const [usual, own] = [read("seccomp.json"), read("seccomp-browser.json")];
    const opened = ["clone", "unshare", "chroot"];
    expect(without(own, opened)).toEqual(without(usual, opened));
    // CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC stay closed; NEWUSER, NEWPID and NEWNET are what the usual one closes besides.
    const [NEWUSER, NEWPID, NEWNET] = [0x10000000, 0x20000000, 0x40000000];
    const closed = 0x00020000 + 0x02000000 + 0x04000000 + 0x08000000;
    const toClone = (value: number) => ({
      ...{ names: ["clone"], action: "SCMP_ACT_ALLOW", comment: expect.any(String) },
      args: [{ index: 0, value, valueTwo: 0, op: "SCMP_CMP_MASKED_EQ" }],
    });
    expect(rulesOf(usual, opened)).toEqual([toClone(closed + NEWUSER + NEWPID + NEWNET)]);
    expect(rulesOf(own, opened)).toEqual([
      toClone(closed),
      {
        ...{ names: ["unshare"], action: "SCMP_ACT_ALLOW", comment: expect.any(String) },
        args: [{ index: 0, value: NEWUSER, op: "SCMP_CMP_EQ" }],
      },
      { names: ["chroot"], action: "SCMP_ACT_ALLOW", comment: expect.any(String) },
    ]);
  });
});
