// What Pillion costs over bare Pi, measured interleaved in one run against one scripted model: `pnpm bench [--rounds N] [--json]`.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { get, type IncomingMessage, request } from "node:http";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const PROJECT = fileURLToPath(new URL("..", import.meta.url));
const PI_CLI = join(
  PROJECT,
  "dist/product/pi/node_modules/@earendil-works/pi-coding-agent/dist/bundle/cli.js",
);
const SERVICE = join(PROJECT, "dist/pillion.mjs");
const MODEL_SERVER = join(PROJECT, "services/sidecar/test/fakes/scripted-model-main.ts");
const TOOLS = "read,grep,find,ls,edit,write";
const CONCURRENT = 8;
const STARTS = 10;
const HEALTH_CALLS = 500;
const LOADED_PROBE_MS = 5_000;
/** Long enough that processes can be looked at in the middle of the answer. */
const SLOW_CHUNK_MS = 300;

const script = {
  scripts: {
    fast: [{ text: ["Hello, ", "here ", "I ", "am."] }],
    slow: [{ text: Array.from({ length: 20 }, (_, index) => `word ${index} `), chunkDelayMs: SLOW_CHUNK_MS }],
  },
};

type Running = AsyncDisposable & { readonly pid: number; readonly port: number };
/** Milliseconds and seconds; `pssBytes` only where the run was looked at in the middle. */
type Sample = { readonly firstTextMs: number; readonly cpuSeconds: number; readonly pssBytes: number };
type Row = {
  readonly what: string;
  readonly goal: string;
  readonly reached: string;
  readonly met: boolean | null;
};

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
  const service = held.use((await startService(join(scratch, "service"), model.port)).running);
  const idle = await measureHealth(service.port, (count) => count < HEALTH_CALLS);
  const bare = (name: "fast" | "slow") => runBare(scratch, agentDir, name);
  const pillion = (name: "fast" | "slow") => runPillion(service, baseUrl, name);

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
  const memory: { bare: number; pillion: number }[] = [];
  for (let round = 0; round < 3; round += 1) {
    memory.push({ bare: (await bare("slow")).pssBytes, pillion: (await pillion("slow")).pssBytes });
  }
  const loaded = await measureLoadedHealth(service, baseUrl);
  return report({ rounds, starts, idle, loaded, floor, ours, memory });
}

// --- the three programs

async function startModel(scriptFile: string): Promise<Running> {
  const child = spawn(process.execPath, [MODEL_SERVER, scriptFile], { stdio: ["ignore", "pipe", "inherit"] });
  for await (const line of createInterface({ input: child.stdout })) {
    return toRunning(child, Number(JSON.parse(line).port));
  }
  throw new Error("the scripted model did not start");
}

async function writeBareHome(scratch: string, baseUrl: string): Promise<string> {
  const agentDir = join(scratch, "agent");
  await mkdir(join(scratch, "workspace"), { recursive: true });
  await mkdir(agentDir, { recursive: true });
  const models = ["fast", "slow"].map((id) => ({ id, contextWindow: 128_000, maxTokens: 16_384 }));
  const provider = { baseUrl, api: "openai-completions", apiKey: "bench-key", models };
  await writeFile(join(agentDir, "models.json"), JSON.stringify({ providers: { bench: provider } }));
  return agentDir;
}

/** From spawn until /health answers 200. */
async function startService(
  home: string,
  modelPort: number,
): Promise<{ running: Running; healthyMs: number }> {
  await mkdir(home, { recursive: true });
  const port = await takeFreePort();
  const began = performance.now();
  const child = spawn(process.execPath, [SERVICE, "serve"], {
    stdio: ["ignore", "ignore", "inherit"],
    env: {
      PATH: process.env.PATH,
      HOME: home,
      PILLION_HOME: join(home, "data"),
      PILLION_PORT: String(port),
      PILLION_PRIVATE_TARGETS: `http://127.0.0.1:${modelPort}`,
      PILLION_CONCURRENCY: String(CONCURRENT),
      PILLION_LOG_LEVEL: "fatal",
    },
  });
  while (!(await isHealthy(port))) {
    if (child.exitCode !== null) throw new Error(`the service ended with exit code ${child.exitCode}`);
    await pause(2);
  }
  return { running: toRunning(child, port), healthyMs: performance.now() - began };
}

function toRunning(child: ChildProcess, port: number): Running {
  return {
    pid: child.pid ?? -1,
    port,
    async [Symbol.asyncDispose]() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, "exit");
      child.kill("SIGTERM");
      await ended;
    },
  };
}

async function runBare(scratch: string, agentDir: string, name: "fast" | "slow"): Promise<Sample> {
  const cpuBefore = await readCpuSeconds("self", "children");
  const began = performance.now();
  const flags =
    "--no-extensions --no-skills --no-prompt-templates --no-context-files --no-themes --no-session --no-approve --offline";
  const child = spawn(
    process.execPath,
    [PI_CLI, "--mode", "rpc", ...flags.split(" "), "--tools", TOOLS, "--provider", "bench", "--model", name],
    {
      cwd: join(scratch, "workspace"),
      stdio: ["pipe", "pipe", "ignore"],
      env: {
        PATH: process.env.PATH,
        HOME: scratch,
        PI_CODING_AGENT_DIR: agentDir,
        PI_OFFLINE: "1",
        PI_SKIP_VERSION_CHECK: "1",
        PI_TELEMETRY: "0",
      },
    },
  );
  const ended = once(child, "exit");
  child.stdin.write(`${JSON.stringify({ type: "prompt", message: "Say hello" })}\n`);
  let firstTextMs = Number.NaN;
  let pssBytes = 0;
  for await (const line of createInterface({ input: child.stdout })) {
    const record = JSON.parse(line);
    if (Number.isNaN(firstTextMs) && record.assistantMessageEvent?.type === "text_delta") {
      firstTextMs = performance.now() - began;
      if (name === "slow") pssBytes = await readTreePss(child.pid ?? -1, true);
    }
    if (record.type === "agent_settled") break;
  }
  child.stdin.end();
  await ended;
  if (Number.isNaN(firstTextMs)) throw new Error("bare Pi gave no text");
  return { firstTextMs, cpuSeconds: (await readCpuSeconds("self", "children")) - cpuBefore, pssBytes };
}

async function runPillion(service: Running, baseUrl: string, name: "fast" | "slow"): Promise<Sample> {
  const cpuBefore = await readCpuSeconds(service.pid, "all");
  const began = performance.now();
  let firstTextMs = Number.NaN;
  let pssBytes = 0;
  let outcome = "no end";
  for await (const event of openRun(service.port, baseUrl, name)) {
    if (Number.isNaN(firstTextMs) && event.type === "message.delta") {
      firstTextMs = performance.now() - began;
      if (name === "slow") pssBytes = await readTreePss(service.pid, false);
    }
    if (event.type === "run.ended") outcome = JSON.stringify(event);
  }
  if (!outcome.includes('"succeeded"') || Number.isNaN(firstTextMs))
    throw new Error(`a run failed: ${outcome}`);
  return { firstTextMs, cpuSeconds: (await readCpuSeconds(service.pid, "all")) - cpuBefore, pssBytes };
}

async function* openRun(port: number, baseUrl: string, name: string): AsyncGenerator<{ type: string }> {
  const body = JSON.stringify({
    prompt: "Say hello",
    model: { name: `bench/${name}`, baseUrl, api: "openai-completions" },
    agent: { tools: TOOLS.split(",") },
  });
  const headers = { accept: "text/event-stream", "content-type": "application/json" };
  const sent = request({ host: "127.0.0.1", port, path: "/v1/runs", method: "POST", headers, agent: false });
  sent.end(body);
  const [response] = (await once(sent, "response")) as [IncomingMessage];
  for await (const line of createInterface({ input: response })) {
    if (response.statusCode !== 200) throw new Error(`the service answered ${response.statusCode}: ${line}`);
    if (line.startsWith("data:")) yield JSON.parse(line.slice("data:".length));
  }
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

/** Probes while eight runs start, talk and end, for a fixed time from their requests on. */
async function measureLoadedHealth(service: Running, baseUrl: string): Promise<number[]> {
  const runs = Promise.all(Array.from({ length: CONCURRENT }, () => runPillion(service, baseUrl, "slow")));
  const until = performance.now() + LOADED_PROBE_MS;
  const found = await measureHealth(service.port, () => performance.now() < until);
  await runs;
  return found;
}

function isHealthy(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const asked = get({ host: "127.0.0.1", port, path: "/health", agent: false }, (response) => {
      response.resume();
      response.once("end", () => resolve(response.statusCode === 200));
    });
    asked.once("error", () => resolve(false));
  });
}

/**
 * Seconds of user and system time from proc_pid_stat(5). A process that was waited for is in its parent's `children`
 * times, with everything that it had waited for itself: the kernel counts a whole sandbox into the service that way.
 */
async function readCpuSeconds(pid: number | "self", which: "all" | "children"): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, "latin1");
  const fields = stat
    .slice(stat.lastIndexOf(")") + 2)
    .split(" ")
    .map(Number);
  const [own, children] = [(fields[11] ?? 0) + (fields[12] ?? 0), (fields[13] ?? 0) + (fields[14] ?? 0)];
  return (which === "all" ? own + children : children) / TICKS_PER_SECOND;
}

/** USER_HZ is 100 on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100;

/** Sum of Pss of a process's descendants, in bytes. */
async function readTreePss(root: number, withRoot: boolean): Promise<number> {
  const parents = new Map<number, number>();
  for (const name of await readdir("/proc")) {
    const stat = /^\d+$/.test(name) ? await readFile(`/proc/${name}/stat`, "latin1").catch(() => "") : "";
    if (stat !== "") parents.set(Number(name), Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]));
  }
  const isBelow = (pid: number): boolean => {
    const parent = parents.get(pid);
    return parent !== undefined && (parent === root || isBelow(parent));
  };
  const pids = [...parents.keys()].filter((pid) => isBelow(pid) || (withRoot && pid === root));
  const sizes = await Promise.all(pids.map(readPss));
  return sizes.reduce((sum, size) => sum + size, 0);
}

async function readPss(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/smaps_rollup`, "latin1").catch(() => "");
  return Number(/^Pss:\s+(\d+) kB/m.exec(text)?.[1] ?? 0) * 1024;
}

async function takeFreePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("there is no free port");
  return address.port;
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

// --- saying it

/** Nearest rank; `share` 0.5 is the median. */
function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

type Measured = {
  rounds: number;
  starts: number[];
  idle: number[];
  loaded: number[];
  floor: Sample[];
  ours: Sample[];
  memory: { bare: number; pillion: number }[];
};

function report(measured: Measured): { rows: Row[]; figures: Record<string, number> } {
  const { starts, idle, loaded, floor, ours, memory } = measured;
  const first = (samples: Sample[], share: number) =>
    percentile(
      samples.map((sample) => sample.firstTextMs),
      share,
    );
  const cpu = (samples: Sample[]) => mean(samples.map((sample) => sample.cpuSeconds));
  const megabytes = (which: "bare" | "pillion") =>
    percentile(
      memory.map((sample) => sample[which]),
      0.5,
    ) /
    (1024 * 1024);
  const f = {
    rounds: measured.rounds,
    bareFirstTextMs: first(floor, 0.5),
    bareFirstTextP90Ms: first(floor, 0.9),
    pillionFirstTextMs: first(ours, 0.5),
    pillionFirstTextP90Ms: first(ours, 0.9),
    addedFirstTextMs: first(ours, 0.5) - first(floor, 0.5),
    firstTextRatio: first(ours, 0.5) / first(floor, 0.5),
    bareCpuSeconds: cpu(floor),
    pillionCpuSeconds: cpu(ours),
    cpuRatio: cpu(ours) / cpu(floor),
    barePssMb: megabytes("bare"),
    pillionPssMb: megabytes("pillion"),
    addedPssMb: megabytes("pillion") - megabytes("bare"),
    startMs: percentile(starts, 0.5),
    startMaxMs: Math.max(...starts),
    healthIdleMs: percentile(idle, 0.5),
    healthIdleP99Ms: percentile(idle, 0.99),
    healthLoadedMs: percentile(loaded, 0.5),
    healthLoadedP99Ms: percentile(loaded, 0.99),
    healthLoadedCalls: loaded.length,
  };
  const ms = (value: number) => `${value.toFixed(value < 10 ? 2 : 0)} ms`;
  const row = (what: string, reached: string, goal = "", met: boolean | null = null): Row => ({
    what,
    goal,
    reached,
    met,
  });
  const rows = [
    row(
      "first text, bare Pi",
      `median ${ms(f.bareFirstTextMs)}, p90 ${ms(f.bareFirstTextP90Ms)}`,
      "the floor",
    ),
    row("first text, Pillion", `median ${ms(f.pillionFirstTextMs)}, p90 ${ms(f.pillionFirstTextP90Ms)}`),
    row(
      "first text, added",
      `${ms(f.addedFirstTextMs)} (ratio ${f.firstTextRatio.toFixed(2)})`,
      "≤ 60 ms median",
      f.addedFirstTextMs <= 60,
    ),
    row("CPU per run, bare Pi", `${f.bareCpuSeconds.toFixed(2)} s`, "the floor"),
    row("CPU per run, Pillion", `${f.pillionCpuSeconds.toFixed(2)} s (ratio ${f.cpuRatio.toFixed(2)})`),
    row("memory of bare Pi (Pss)", `${f.barePssMb.toFixed(1)} MB`, "the floor"),
    row("memory of a sandbox (sum of Pss)", `${f.pillionPssMb.toFixed(1)} MB`),
    row("memory, added a run", `${f.addedPssMb.toFixed(1)} MB`, "≤ 25 MB", f.addedPssMb <= 25),
    row(
      "start to healthy",
      `median ${ms(f.startMs)}, most ${ms(f.startMaxMs)}`,
      "≤ 700 ms",
      f.startMs <= 700,
    ),
    row(
      "/health idle",
      `median ${ms(f.healthIdleMs)}, p99 ${ms(f.healthIdleP99Ms)}`,
      "p99 ≤ 10 ms",
      f.healthIdleP99Ms <= 10,
    ),
    row(`/health under ${CONCURRENT} runs`, `median ${ms(f.healthLoadedMs)}, p99 ${ms(f.healthLoadedP99Ms)}`),
  ];
  return { rows, figures: f };
}

function toTable(rows: readonly Row[]): string {
  const said = rows.map(({ what, reached, goal, met }) => [
    what,
    reached,
    goal,
    met === null ? "" : met ? "reached" : "NOT reached",
  ]);
  const widths = [0, 1, 2].map((column) => Math.max(...said.map((cells) => cells[column]?.length ?? 0)));
  const lines = said.map((cells) =>
    cells
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join("  ")
      .trimEnd(),
  );
  return `${lines.join("\n")}\n`;
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
        "CPU: user and system time that the kernel counted for the run's processes once they were waited for, the\n" +
        "service's own share included. Memory: taken at the first text of an answer that goes on.\n\n" +
        toTable(rows),
);
