/** What the guard sees around itself: the evidence that the receipt is made from. */
import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { access, readdir, readFile, readlink, stat } from "node:fs/promises";
import type { GuardConfig, GuardView } from "#contract/guard";
import { readInterfaces } from "./interfaces.ts";

export async function readView(config: GuardConfig): Promise<GuardView> {
  const [status, names, interfaces, extension, workspace, systemWritable, workspaceWritable] =
    await Promise.all([
      readFile("/proc/self/status", "utf8"),
      readdir("/proc/self/ns"),
      readInterfaces(),
      readFile(new URL("../extension/pillion.js", import.meta.url)),
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
    seccomp: field("Seccomp") === "2",
    namespaces: Object.fromEntries(namespaces),
    interfaces,
    extensionSha256: createHash("sha256").update(extension).digest("hex"),
    systemWritable,
    workspaceWritable,
    workspaceId: `${workspace.dev}:${workspace.ino}`,
  };
}

function isWritable(path: string): Promise<boolean> {
  return access(path, constants.W_OK).then(
    () => true,
    () => false,
  );
}
