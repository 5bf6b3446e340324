/** The data directory of one `pillion run`: vanishes with it, and with the next one where it was killed. */
import { lstatSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { readInstance } from "./instance.ts";
import { readProcessId } from "./kernel/process-table.ts";
import { sweepDeadInstance } from "./sandboxes/docker/dead-instance.ts";

/** With whose it is: pid and start time of a process that no other process ever shares. */
const NAME = /^pillion-run-(\d+)-(\d+)-[A-Za-z0-9]{6}$/;
/** The address of the container engine that the run may have something on. */
const ENGINE = "engine";
/** What is needed to find that. */
const NOTES: readonly string[] = [ENGINE, "instance"];

export type RunHome = AsyncDisposable & {
  readonly path: string;
  /** Call before the run may have anything there. `host` as in DOCKER_HOST. */
  noteEngine(host: string): void;
  /** Removes what can go at once; what the run has on an engine is left to the next run. */
  leave(): void;
};

/** Makes a directory of this process's own under `parent`. It goes when nothing of the run is left on the engine. */
export function openRunHome(parent: string): RunHome {
  const own = readProcessId(process.pid);
  const path = mkdtempSync(join(parent, `pillion-run-${process.pid}-${own?.startTicks ?? 0}-`));
  return {
    path,
    noteEngine: (host) => writeFileSync(join(path, ENGINE), host, { mode: 0o600 }),
    leave: () => void empty(path),
    [Symbol.asyncDispose]: () => removeHome(path),
  };
}

/** Removes what dead runs of this user left under `parent`, and on engines. Never throws: a later run tries again. */
export async function sweepRunHomes(parent: string): Promise<void> {
  try {
    await Promise.all(findDeadHomes(parent).map(removeHome));
  } catch {
    // The directory may not be listed.
  }
}

function findDeadHomes(parent: string): string[] {
  return readdirSync(parent).flatMap((name) => {
    const [, pid, startTicks] = NAME.exec(name) ?? [];
    if (pid === undefined || readProcessId(Number(pid))?.startTicks === startTicks) return [];
    const path = join(parent, name);
    const found = lstatSync(path, { throwIfNoEntry: false });
    return found?.isDirectory() && found.uid === process.getuid?.() ? [path] : [];
  });
}

/** Keeps the notes as long as the engine cannot be asked to remove what they tell of. */
async function removeHome(path: string): Promise<void> {
  try {
    const host = empty(path);
    if (host === undefined) return;
    await sweepDeadInstance(host, readInstance(path));
    rmSync(path, { recursive: true, force: true });
  } catch {
    // The engine is away, or another run sweeps at the same moment.
  }
}

/** Removes all but the notes; without an engine's, all. Returns the engine's address. */
function empty(path: string): string | undefined {
  const names = readdirSync(path);
  if (!NOTES.every((note) => names.includes(note))) {
    rmSync(path, { recursive: true, force: true });
    return undefined;
  }
  for (const name of names)
    if (!NOTES.includes(name)) rmSync(join(path, name), { recursive: true, force: true });
  return readFileSync(join(path, ENGINE), "utf8");
}
