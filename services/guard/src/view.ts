/** What the guard sees around itself: the evidence that the receipt is made from. */
import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { access, readFile, readlink, stat } from "node:fs/promises";
import type { GuardConfig, GuardView } from "#contract/guard";
import { readInterfaces } from "./interfaces.ts";

/** Not read as a list: the kernel shows that to its owner only, and a process of a closed program has none. */
const NAMESPACES = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"] as const;

export async function readView(config: GuardConfig): Promise<GuardView> {
  const mounts = await readWritableMounts();
  const [status, namespaces, interfaces, extension, harnesses, references, workspace, ...rights] =
    await Promise.all([
      readFile("/proc/self/status", "utf8"),
      Promise.all(NAMESPACES.map(readNamespace)),
      readInterfaces(),
      readFile(new URL("../extension/pillion.js", import.meta.url)),
      readHarnesses(),
      readReferences(config, mounts),
      stat(config.workspace, { bigint: true }),
      may("/usr", constants.W_OK),
      may(config.workspace, constants.W_OK),
      may(process.execPath, constants.R_OK),
    ]);
  const field = (name: string): string => new RegExp(`^${name}:\\s*(\\S+)`, "m").exec(status)?.[1] ?? "";
  const noNewPrivs = field("NoNewPrivs");
  return {
    pid: process.pid,
    uid: process.getuid?.() ?? -1,
    gid: process.getgid?.() ?? -1,
    capEff: field("CapEff"),
    capPrm: field("CapPrm"),
    capBnd: field("CapBnd"),
    noNewPrivs: noNewPrivs === "" ? null : noNewPrivs === "1",
    seccomp: field("Seccomp") === "2",
    namespaces: Object.fromEntries(namespaces.flat()),
    interfaces,
    extensionSha256: createHash("sha256").update(extension).digest("hex"),
    harnessSha256: harnesses,
    references,
    systemWritable: rights[0],
    programReadable: rights[2],
    workspaceWritable: rights[1] || hasBelow(mounts, config.workspace),
    workspaceId: `${workspace.dev}:${workspace.ino}`,
  };
}

/** Nothing where the kernel does not know this kind. */
async function readNamespace(name: string): Promise<(readonly [string, string])[]> {
  const id = await readlink(`/proc/self/ns/${name}`).catch(() => undefined);
  return id === undefined ? [] : [[name, id]];
}

/** What the build of the product wrote down. */
async function readHarnesses(): Promise<Record<string, string>> {
  return JSON.parse(await readFile(new URL("../harnesses.json", import.meta.url), "utf8"));
}

/** A file that others could be put in the place of is as good as writable. */
async function readReferences(
  { references }: GuardConfig,
  mounts: readonly string[],
): Promise<GuardView["references"]> {
  const { directory, names } = references;
  if (names.length === 0) return [];
  const replaceable = await may(directory, constants.W_OK);
  const found = names.map(async (name) => {
    const path = `${directory}/${name}`;
    const there = await stat(path, { bigint: true }).catch(() => undefined);
    if (there === undefined) return [];
    const readable = await may(path, there.isDirectory() ? constants.R_OK | constants.X_OK : constants.R_OK);
    const writable = replaceable || hasBelow(mounts, path) || (await may(path, constants.W_OK));
    return [{ path, id: `${there.dev}:${there.ino}`, readable, writable }];
  });
  return (await Promise.all(found)).flat();
}

/** Where something is mounted that can be written to; proc(5), mountinfo: the fifth field is where, the sixth how. */
async function readWritableMounts(): Promise<string[]> {
  const lines = (await readFile("/proc/self/mountinfo", "utf8")).split("\n");
  return lines.flatMap((line) => {
    const [, , , , at, options = ""] = line.split(" ");
    return at === undefined || options.split(",").includes("ro") ? [] : [at];
  });
}

/** A read-only mount says nothing of what is mounted inside it. */
const hasBelow = (mounts: readonly string[], path: string): boolean =>
  mounts.some((at) => at.startsWith(`${path}/`));

function may(path: string, mode: number): Promise<boolean> {
  return access(path, mode).then(
    () => true,
    () => false,
  );
}
