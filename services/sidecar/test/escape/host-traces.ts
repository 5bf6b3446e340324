/** Things of the host that a run must not see, and the flags by which the container without protection sees them. */
import { mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readEngineHost } from "../behaviours/open-places.ts";
import type { HostFacts } from "./path-probes.ts";

export type HostTraces = Disposable & {
  readonly facts: HostFacts;
  readonly flags: readonly string[];
};

/** What the unprotected container does first: its own file systems become those of a host's root. All end with the container. */
export const OPEN_FILE_SYSTEMS = `
  mount -o remount,rw /sys
  for place in /sys /sys/fs/cgroup /sys/fs/cgroup/*; do
    if mountpoint -q "$place"; then mount -o remount,bind,rw "$place"; fi
  done
  mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
  mount -t debugfs none /sys/kernel/debug
  mount -t tracefs none /sys/kernel/tracing
  true`;

export function openHostTraces(): HostTraces {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), "pillion-escape-")));
  const canary = join(folder, "canary");
  writeFileSync(canary, "a file of the host");
  const engineSocket = readEngineHost().replace(/^unix:\/\//, "");
  return {
    facts: { canary, otherWorkspace: folder, engineSocket },
    flags: [
      ...["--volume", `${folder}:${folder}:ro`, "--volume", `${engineSocket}:/host/engine.sock`],
      ...["--volume", "/dev:/host/dev", "--device-cgroup-rule", "c *:* rwm"],
      ...["--device-cgroup-rule", "b *:* rwm"],
    ],
    [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }),
  };
}
