/** What the guard sees around itself: the evidence that the receipt is made from. */
import { constants } from "node:fs";
import { access, readdir, readFile, readlink, stat } from "node:fs/promises";
import { networkInterfaces } from "node:os";
import type { GuardConfig, GuardView } from "#contract/guard";

export async function readView(config: GuardConfig): Promise<GuardView> {
  const [status, names, interfaces, workspace, systemWritable, workspaceWritable] = await Promise.all([
    readFile("/proc/self/status", "utf8"),
    readdir("/proc/self/ns"),
    readInterfaces(),
    stat(config.workspace, { bigint: true }),
    isWritable("/usr"),
    isWritable(config.workspace),
  ]);
  const field = (name: string): string => new RegExp(`^${name}:\\s*(\\S+)`, "m").exec(status)?.[1] ?? "";
  const namespaces = await Promise.all(
    names.map(async (name) => [name, await readlink(`/proc/self/ns/${name}`)] as const),
  );
  return {
    pid: process.pid,
    uid: process.getuid?.() ?? -1,
    gid: process.getgid?.() ?? -1,
    capEff: field("CapEff"),
    capPrm: field("CapPrm"),
    capBnd: field("CapBnd"),
    noNewPrivs: field("NoNewPrivs") === "1",
    namespaces: Object.fromEntries(namespaces),
    interfaces,
    systemWritable,
    workspaceWritable,
    workspaceId: `${workspace.dev}:${workspace.ino}`,
  };
}

/** Interfaces that something could leave by: with an address, or where the kernel may not be asked for these, with a route. */
async function readInterfaces(): Promise<string[]> {
  try {
    return Object.keys(networkInterfaces());
  } catch {
    const [four, six] = await Promise.all(
      ["route", "ipv6_route"].map((name) => readFile(`/proc/net/${name}`, "utf8").catch(() => "")),
    );
    const toNames = (text = "", column: number): string[] =>
      text.split("\n").flatMap((line) => line.trim().split(/\s+/).at(column) ?? []);
    return [...new Set([...toNames(four, 0).slice(1), ...toNames(six, -1)])].filter(Boolean);
  }
}

function isWritable(path: string): Promise<boolean> {
  return access(path, constants.W_OK).then(
    () => true,
    () => false,
  );
}
