/** Processes of this machine, told apart by more than their pid: a pid alone may by now be somebody else's. */

import { readFileSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";

export type ProcessId = {
  readonly pid: number;
  /** Clock ticks since boot when it started; field 22 of /proc/PID/stat. */
  readonly startTicks: string;
};

/** Processes whose command line satisfies `matches`, the caller's own excluded. */
export async function readProcessIds(matches: (commandLine: string) => boolean): Promise<ProcessId[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name)).map(Number);
  const found = await Promise.all(pids.map((pid) => readMatching(pid, matches)));
  return found.filter((id) => id !== undefined);
}

async function readMatching(pid: number, matches: (line: string) => boolean): Promise<ProcessId | undefined> {
  if (pid === process.pid) return undefined;
  try {
    const line = await readFile(`/proc/${pid}/cmdline`, "utf8");
    if (!matches(line.replaceAll("\0", " "))) return undefined;
    return readProcessId(pid);
  } catch {
    return undefined; // gone meanwhile
  }
}

/** Living processes whose environment holds an entry that begins with `mark`. */
export async function readMarkedIds(mark: string): Promise<ProcessId[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name)).map(Number);
  const found = await Promise.all(
    pids.map(async (pid) => {
      const environment = await readFile(`/proc/${pid}/environ`, "latin1").catch(() => "");
      const isMarked = environment.split("\0").some((entry) => entry.startsWith(mark));
      return isMarked && pid !== process.pid ? readProcessId(pid) : undefined;
    }),
  );
  return found.filter((id) => id !== undefined);
}

export async function readChildPids(pid: number): Promise<ProcessId[]> {
  try {
    const children = await readFile(`/proc/${pid}/task/${pid}/children`, "utf8");
    const ids = children
      .split(" ")
      .filter(Boolean)
      .map((child) => readProcessId(Number(child)));
    return ids.filter((id) => id !== undefined);
  } catch {
    return [];
  }
}

export function readProcessId(pid: number): ProcessId | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    const startTicks = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
    return startTicks === undefined ? undefined : { pid, startTicks };
  } catch {
    return undefined;
  }
}

/** Signals only if the pid still is the process it was; answers whether it did. */
export function killProcess(id: ProcessId, signal: NodeJS.Signals): boolean {
  if (readProcessId(id.pid)?.startTicks !== id.startTicks) return false;
  try {
    process.kill(id.pid, signal);
    return true;
  } catch {
    return false;
  }
}
