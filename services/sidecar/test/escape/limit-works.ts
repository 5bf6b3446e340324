/** What a hand does to reach a limit. Each stands alone, for it is sent inside as text; each gives `ok` when it got what it wanted. */

/** A child takes that many bytes and uses them; gives the signal that ended it. */
export function takeMemory(bytes: number): string {
  const { spawnSync } = process.getBuiltinModule("node:child_process");
  const { signal, status } = spawnSync("node", ["-e", `Buffer.alloc(${bytes}, 1)`]);
  return signal ?? (status === 0 ? "ok" : `exit ${status}`);
}

/** What the control group grants beyond memory; version 1 counts both together. */
export function readSwap(): string {
  const fs = process.getBuiltinModule("node:fs");
  const read = (path: string): string => fs.readFileSync(`/sys/fs/cgroup/${path}`, "utf8").trim();
  const swap = fs.existsSync("/sys/fs/cgroup/memory.swap.max")
    ? read("memory.swap.max")
    : Number(read("memory/memory.memsw.limit_in_bytes")) - Number(read("memory/memory.limit_in_bytes"));
  return Number(swap) === 0 ? "none" : "ok";
}

/** That many processes at once. */
export async function spawnMany(count: number): Promise<string> {
  const { spawn } = process.getBuiltinModule("node:child_process");
  const children = [];
  let refused = "ok";
  for (let index = 0; index < count && refused === "ok"; index += 1) {
    const child = spawn("sleep", ["30"], { stdio: "ignore" });
    children.push(child);
    child.once("error", (error: NodeJS.ErrnoException) => {
      refused = error.code ?? "error";
    });
    if (child.pid === undefined) await new Promise((resolve) => setImmediate(resolve));
  }
  const started = children.filter(({ pid }) => pid !== undefined);
  const ends = started.map((child) => new Promise((resolve) => child.once("exit", resolve)));
  for (const child of started) child.kill("SIGKILL");
  await Promise.all(ends);
  return refused;
}

export function openFiles(count: number): string {
  const fs = process.getBuiltinModule("node:fs");
  const open: number[] = [];
  try {
    for (let index = 0; index < count; index += 1) open.push(fs.openSync("/dev/null", "r"));
    return "ok";
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code);
  } finally {
    for (const fd of open) fs.closeSync(fd);
  }
}

export function tryShell(command: string): string {
  const { status } = process.getBuiltinModule("node:child_process").spawnSync("sh", ["-c", command]);
  return status === 0 ? "ok" : "refused";
}

/** One busy thread, until the control group has held it back, or it has had so much of a processor. */
export function keepBusy(milliseconds: number): string {
  const fs = process.getBuiltinModule("node:fs");
  const file = ["/sys/fs/cgroup/cpu.stat", "/sys/fs/cgroup/cpu/cpu.stat"].find((path) => fs.existsSync(path));
  const read = (): number => Number(/^nr_throttled (\d+)/m.exec(fs.readFileSync(file ?? "", "utf8"))?.[1]);
  const before = read();
  const begun = process.cpuUsage();
  while (process.cpuUsage(begun).user < milliseconds * 1000) {
    for (const pause = Date.now() + 20; Date.now() < pause; ) Math.sqrt(pause);
    if (read() > before) return "throttled";
  }
  return "ok";
}

/** A file of that many MiB. */
export function writeBytes(folder: string, mebibytes: number): string {
  const fs = process.getBuiltinModule("node:fs");
  const path = `${folder}/pillion-large`;
  const fd = fs.openSync(path, "w");
  try {
    const block = Buffer.alloc(1024 * 1024, 1);
    for (let index = 0; index < mebibytes; index += 1) {
      if (fs.writeSync(fd, block) < block.length) return "ENOSPC";
    }
    return "ok";
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code);
  } finally {
    fs.closeSync(fd);
    fs.rmSync(path);
  }
}
