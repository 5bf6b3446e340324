/** The data directory of one `pillion run`: vanishes with it, and with the next one where it was killed. */
import { lstatSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { readProcessId } from "./kernel/process-table.ts";

/** With whose it is: pid and start time of a process that no other process ever shares. */
const NAME = /^pillion-run-(\d+)-(\d+)-[A-Za-z0-9]{6}$/;

/** Removes what dead runs of this user left under `parent`, and makes a directory of this process's own there. */
export function openRunHome(parent: string): { readonly path: string } & Disposable {
  sweepRunHomes(parent);
  const own = readProcessId(process.pid);
  const path = mkdtempSync(join(parent, `pillion-run-${process.pid}-${own?.startTicks ?? 0}-`));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

function sweepRunHomes(parent: string): void {
  for (const name of readdirSync(parent)) {
    const [, pid, startTicks] = NAME.exec(name) ?? [];
    if (pid === undefined || readProcessId(Number(pid))?.startTicks === startTicks) continue;
    try {
      const { uid } = lstatSync(join(parent, name));
      if (uid === process.getuid?.()) rmSync(join(parent, name), { recursive: true, force: true });
    } catch {
      // Another run sweeps at the same moment.
    }
  }
}
