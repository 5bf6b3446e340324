/** What the guard sees around itself: the evidence that the receipt is made from. */
import { constants } from "node:fs";
import { access, readdir, readFile, readlink } from "node:fs/promises";
import { networkInterfaces } from "node:os";
import type { GuardConfig, GuardView } from "#contract/guard";

export async function readView(config: GuardConfig): Promise<GuardView> {
  const [status, names, systemWritable, workspaceWritable] = await Promise.all([
    readFile("/proc/self/status", "utf8"),
    readdir("/proc/self/ns"),
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
    interfaces: Object.keys(networkInterfaces()),
    systemWritable,
    workspaceWritable,
  };
}

function isWritable(path: string): Promise<boolean> {
  return access(path, constants.W_OK).then(
    () => true,
    () => false,
  );
}
