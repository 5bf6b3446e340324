/** How often this sandbox met its limits, by the kernel's own counts; only containers have counts of their own. */
import { readFile } from "node:fs/promises";

const SAMPLE_MS = 500;

// cgroup v2, then v1.
const OOM_KILLS = ["/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"];
const REFUSED_FORKS = ["/sys/fs/cgroup/pids.events", "/sys/fs/cgroup/pids/pids.events"];

/** 0 where nobody counts. */
async function readCount(files: readonly string[], name: string): Promise<number> {
  for (const file of files) {
    const text = await readFile(file, "utf8").catch(() => "");
    const count = new RegExp(`^${name} (\\d+)$`, "m").exec(text)?.[1];
    if (count !== undefined) return Number(count);
  }
  return 0;
}

/** Tells a kill for want of memory that has just been from one that a child suffered long before. */
export class LimitEvents {
  #before = 0;
  #last = 0;

  constructor() {
    setInterval(() => void this.#sample(), SAMPLE_MS).unref();
  }

  /** True where the kernel killed for want of memory in about the last second. */
  async hasJustRunOutOfMemory(): Promise<boolean> {
    return (await readCount(OOM_KILLS, "oom_kill")) > this.#before;
  }

  async hasMetPidsLimit(): Promise<boolean> {
    return (await readCount(REFUSED_FORKS, "max")) > 0;
  }

  async #sample(): Promise<void> {
    const count = await readCount(OOM_KILLS, "oom_kill");
    this.#before = this.#last;
    this.#last = count;
  }
}
