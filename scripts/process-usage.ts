// What processes of this machine use, read from /proc, for the benches.
import { readdir, readFile, writeFile } from "node:fs/promises";

type Seen = { readonly pid: number; readonly parent: number; readonly cpuSeconds: number };

/** Descendants of a process. */
export async function readTree(root: number): Promise<Seen[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name)).map(Number);
  const all = (await Promise.all(pids.map(readStat))).filter((seen) => seen !== undefined);
  const byPid = new Map(all.map((seen) => [seen.pid, seen]));
  const isBelow = ({ parent }: Seen): boolean => {
    const above = byPid.get(parent);
    return parent === root || (above !== undefined && isBelow(above));
  };
  return all.filter(isBelow);
}

export async function readCpuSeconds(pid: number): Promise<number> {
  return (await readStat(pid))?.cpuSeconds ?? Number.NaN;
}

/** User and system time from proc_pid_stat(5), without that of children. */
async function readStat(pid: number): Promise<Seen | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, "latin1").catch(() => undefined);
  if (stat === undefined) return undefined;
  const fields = stat
    .slice(stat.lastIndexOf(")") + 2)
    .split(" ")
    .map(Number);
  const ticks = (fields[11] ?? 0) + (fields[12] ?? 0);
  return { pid, parent: fields[1] ?? 0, cpuSeconds: ticks / TICKS_PER_SECOND };
}

/** USER_HZ is 100 on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100;

export async function readPss(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/smaps_rollup`, "latin1").catch(() => "");
  return Number(/^Pss:\s+(\d+) kB/m.exec(text)?.[1] ?? 0) * 1024;
}

/** Bytes in memory now, and the most since the last reset, by proc_pid_status(5). */
export async function readRss(pid: number): Promise<number> {
  return readStatus(pid, "VmRSS");
}

export async function readPeak(pid: number): Promise<number> {
  return readStatus(pid, "VmHWM");
}

export async function resetPeak(pid: number): Promise<void> {
  await writeFile(`/proc/${pid}/clear_refs`, "5");
}

async function readStatus(pid: number, name: string): Promise<number> {
  const text = await readFile(`/proc/${pid}/status`, "latin1");
  return Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(text)?.[1]) * 1024;
}
