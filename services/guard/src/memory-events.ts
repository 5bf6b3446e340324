/** How often the kernel killed a process of this sandbox for want of memory; only containers have a count of their own. */
import { readFile } from "node:fs/promises";

// cgroup v2, then v1.
const FILES = ["/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"];

/** 0 where nobody counts. */
export async function readOomKills(): Promise<number> {
  for (const file of FILES) {
    const count = /^oom_kill (\d+)$/m.exec(await readFile(file, "utf8").catch(() => ""))?.[1];
    if (count !== undefined) return Number(count);
  }
  return 0;
}
