// What Pillion costs over bare Pi, measured interleaved in one run against one scripted model: `pnpm bench [--rounds N] [--json]`.
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import {
  isHealthy,
  type ModelName,
  type OnText,
  PI_CLI,
  type Running,
  runBare,
  runPillion,
  SERVICE,
  script,
  startModel,
  startService,
  writeBareHome,
} from "./bench-programs.ts";
import { type Probe, type Row, report, type Sample, toTable } from "./bench-report.ts";
import { readCpuSeconds, readPss, readTree } from "./process-usage.ts";

const CONCURRENT = 8;
const STARTS = 10;
const HEALTH_CALLS = 500;
const OPTIONS = { PILLION_CONCURRENCY: String(CONCURRENT), PILLION_SANDBOX: "local" };
const CPU_SAMPLE_MS = 25;
const PROBED_ROUNDS = 5;

async function bench(rounds: number): Promise<{ rows: Row[]; figures: Record<string, number> }> {
  for (const file of [PI_CLI, SERVICE]) {
    if (!existsSync(file))
      throw new Error(`${file} is missing; run \`npm run setup\`, then \`npm run build\`.`);
  }
  await using held = new AsyncDisposableStack();
  const scratch = await mkdtemp(join(tmpdir(), "pillion-bench-"));
  held.defer(() => rm(scratch, { recursive: true, force: true }));
  const scriptFile = join(scratch, "script.json");
  await writeFile(scriptFile, JSON.stringify(script));
  const model = held.use(await startModel(scriptFile));
  const baseUrl = `http://127.0.0.1:${model.port}/v1`;
  const agentDir = await writeBareHome(scratch, baseUrl);

  const starts = await measureStarts(join(scratch, "starts"));
  const service = held.use((await startService(join(scratch, "service"), model.port, OPTIONS)).running);
  const idle = await measureHealth(service.port, (count) => count < HEALTH_CALLS);
  const bare = (name: ModelName) => runBare(scratch, agentDir, name);
  const pillion = (name: ModelName) => runPillion(service, baseUrl, name);

  // One of each unmeasured: file caches are warm for both or for neither.
  await bare("fast");
  await pillion("fast");
  const floor: Sample[] = [];
  const ours: Sample[] = [];
  for (let round = 0; round < rounds; round += 1) {
    // The order alternates, so that a drift of the machine hits both alike.
    const order = [
      () => bare("fast").then((s) => floor.push(s)),
      () => pillion("fast").then((s) => ours.push(s)),
    ];
    for (const one of round % 2 === 0 ? order : order.toReversed()) await one();
  }
  const floorProbes: Probe[] = [];
  const ourProbes: Probe[] = [];
  for (let round = 0; round < Math.min(rounds, PROBED_ROUNDS); round += 1) {
    floorProbes.push(await probe("children", (onText) => runBare(scratch, agentDir, "slow", onText)));
    ourProbes.push(await probe(service.pid, (onText) => runPillion(service, baseUrl, "slow", onText)));
  }
  const loaded = await measureLoadedHealth(service, baseUrl);
  return report({
    rounds,
    concurrent: CONCURRENT,
    starts,
    idle,
    loaded,
    floor,
    ours,
    floorProbes,
    ourProbes,
  });
}

// --- measuring

async function measureStarts(home: string): Promise<number[]> {
  const found: number[] = [];
  for (let start = 0; start < STARTS; start += 1) {
    const { running, healthyMs } = await startService(home, 9);
    found.push(healthyMs);
    await running[Symbol.asyncDispose]();
  }
  return found;
}

async function measureHealth(port: number, goesOn: (count: number) => boolean): Promise<number[]> {
  const found: number[] = [];
  while (goesOn(found.length)) {
    const began = performance.now();
    if (!(await isHealthy(port))) throw new Error("the service is not healthy");
    found.push(performance.now() - began);
  }
  return found;
}

/** Probes while eight runs start, talk and end. */
async function measureLoadedHealth(service: Running, baseUrl: string): Promise<number[]> {
  let isOver = false;
  const each = Array.from({ length: CONCURRENT }, () => runPillion(service, baseUrl, "long"));
  const runs = Promise.all(each).finally(() => {
    isOver = true;
  });
  const found = await measureHealth(service.port, () => !isOver);
  await runs;
  return found;
}

/**
 * CPU and memory of one run by looking at its processes every few milliseconds. Waiting for children would not tell:
 * the kernel ends a PID namespace without counting its processes into their parents. What a process uses after it was
 * last seen is lost, alike for both. `root` is the service, whose own share counts too, or this program's children.
 */
async function probe(root: number | "children", run: (onText: OnText) => Promise<Sample>): Promise<Probe> {
  const top = root === "children" ? process.pid : root;
  const strangers = new Set((await readTree(top)).map(({ pid }) => pid));
  const before = root === "children" ? 0 : await readCpuSeconds(root);
  const seen = new Map<number, number>();
  const isOurs = ({ pid }: { pid: number }): boolean => !strangers.has(pid);
  const look = async () => {
    for (const { pid, cpuSeconds } of (await readTree(top)).filter(isOurs)) seen.set(pid, cpuSeconds);
  };
  const timer = setInterval(() => void look(), CPU_SAMPLE_MS);
  let pssBytes = 0;
  try {
    await run(async () => {
      const sizes = await Promise.all((await readTree(top)).filter(isOurs).map(({ pid }) => readPss(pid)));
      pssBytes = sizes.reduce((sum, size) => sum + size, 0);
    });
  } finally {
    clearInterval(timer);
  }
  const own = root === "children" ? 0 : (await readCpuSeconds(root)) - before;
  return { cpuSeconds: [...seen.values()].reduce((sum, seconds) => sum + seconds, own), pssBytes };
}

const { values } = parseArgs({
  options: { rounds: { type: "string", default: "12" }, json: { type: "boolean", default: false } },
});
const rounds = Number(values.rounds);
if (!Number.isInteger(rounds) || rounds < 1) throw new Error("--rounds must be a whole number from 1 on");
const { rows, figures } = await bench(rounds);
process.stdout.write(
  values.json
    ? `${JSON.stringify({ figures, rows }, null, 2)}\n`
    : `Pillion against bare \`pi --mode rpc\`, ${rounds} rounds of each in turn, one scripted model for both.\n` +
        "CPU: user and system time of the run's processes, seen every 25 ms, with the service's own share. Memory:\n" +
        "taken at the first text of an answer that goes on; the service's own is not counted.\n\n" +
        toTable(rows),
);
