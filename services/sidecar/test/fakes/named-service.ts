/** The built service with names of the test's own: its /etc/hosts is another file, in a mount namespace. Needs root. */
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type LiveService, NODE_FLAGS, openLiveService, PROGRAM } from "./live-service.ts";

/** `names` all lead to 127.0.0.1; `flags` are Node's. */
export function openNamedService(
  names: readonly string[],
  env: Readonly<Record<string, string>>,
  flags: readonly string[] = [],
): Promise<LiveService> {
  const hosts = join(mkdtempSync(join(tmpdir(), "pillion-hosts-")), "hosts");
  writeFileSync(hosts, `127.0.0.1 localhost ${names.join(" ")}\n`);
  const script = `mount --bind ${hosts} /etc/hosts && exec "$@"`;
  return openLiveService({
    command: [
      "unshare",
      "--mount",
      "bash",
      "-c",
      script,
      "bash",
      process.execPath,
      ...NODE_FLAGS,
      ...flags,
      PROGRAM,
    ],
    env,
  });
}
