/** Kills everything of the run but the guard, and counts what is left. */
import { readdir, readFile } from "node:fs/promises";
import type { GuardConfig } from "#contract/guard";

const ROUNDS = 40;
const PAUSE_MS = 25;

/** SIGKILLs until nothing is left or the rounds are used up; a tree that forks meanwhile needs more than one. */
export async function clearProcesses(config: GuardConfig): Promise<{ killed: number; left: number }> {
  const seen = new Set<number>();
  for (let round = 0; round < ROUNDS; round += 1) {
    const pids = await readForeignPids(config);
    if (pids.length === 0) return { killed: seen.size, left: 0 };
    for (const pid of pids) {
      seen.add(pid);
      kill(pid);
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
  return { killed: seen.size, left: (await readForeignPids(config)).length };
}

/** Living processes of the run other than the guard and PID 1. Zombies are dead and do not count. */
async function readForeignPids(config: GuardConfig): Promise<number[]> {
  const names = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const found = await Promise.all(names.map((name) => (isForeign(Number(name), config) ? Number(name) : 0)));
  const living = await Promise.all(found.filter((pid) => pid > 0).map((pid) => toLivingPid(pid, config)));
  return living.filter((pid) => pid > 0);
}

function isForeign(pid: number, config: GuardConfig): boolean {
  return pid !== process.pid && !(config.ownsPidNamespace && pid === 1) && pid !== process.ppid;
}

async function toLivingPid(pid: number, config: GuardConfig): Promise<number> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, "latin1");
    const state = stat.slice(stat.lastIndexOf(")") + 2, stat.lastIndexOf(")") + 3);
    if (state === "Z" || state === "X") return 0;
    if (config.ownsPidNamespace) return pid;
    // On a shared machine only what carries this run's mark may be touched.
    const environment = await readFile(`/proc/${pid}/environ`, "latin1");
    return environment.split("\0").includes(config.marker) ? pid : 0;
  } catch {
    return 0; // gone, or not ours to see
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // gone already
  }
}
