/** How much memory a process has, and had at most, by the kernel's own account. */
import { readFileSync, writeFileSync } from "node:fs";

const MiB = 1024;

export type MemoryWatch = { readonly beforeMiB: number; readPeakMiB(): number };

/** Forgets the highest so far; the peak is counted from now on, and misses nothing between two looks. */
export function watchMemory(pid: number): MemoryWatch {
  writeFileSync(`/proc/${pid}/clear_refs`, "5");
  return { beforeMiB: readStatus(pid, "VmRSS"), readPeakMiB: () => readStatus(pid, "VmHWM") };
}

function readStatus(pid: number, name: "VmRSS" | "VmHWM"): number {
  const kilobytes = new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(
    readFileSync(`/proc/${pid}/status`, "utf8"),
  )?.[1];
  if (kilobytes === undefined) throw new Error(`process ${pid} tells no ${name}`);
  return Number(kilobytes) / MiB;
}
