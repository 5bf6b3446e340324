// What Pillion costs over bare Pi, measured interleaved in one run against one scripted model: `pnpm bench [--rounds N] [--json]`.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { get, type IncomingMessage, request } from "node:http";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { type Probe, type Row, report, type Sample, toTable } from "./bench-report.ts";
import { readCpuSeconds, readPss, readTree } from "./process-usage.ts";

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
/** Long enough that processes can be looked at in the middle of the answer. */
const CHUNK_MS = 200;
const CPU_SAMPLE_MS = 25;
const PROBED_ROUNDS = 5;

const script = {
  scripts: {
    fast: [{ text: ["Hello, ", "here ", "I ", "am."] }],
    slow: [{ text: toWords(5), chunkDelayMs: CHUNK_MS }],
    long: [{ text: toWords(25), chunkDelayMs: CHUNK_MS }],
  },
};

function toWords(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `word ${index} `);
}

type ModelName = keyof typeof script.scripts;
type Running = AsyncDisposable & { readonly pid: number; readonly port: number };
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
  const models = Object.keys(script.scripts).map((id) => ({ id, contextWindow: 128_000, maxTokens: 16_384 }));
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
    stdio: ["ignore", "ignore", "pipe"],
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
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    said = (said + text).slice(-4096);
  });
  while (!(await isHealthy(port))) {
    if (child.exitCode !== null)
      throw new Error(`the service ended with exit code ${child.exitCode}: ${said}`);
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

type OnText = () => Promise<void>;

async function runBare(scratch: string, agentDir: string, name: ModelName, onText?: OnText): Promise<Sample> {
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
  for await (const line of createInterface({ input: child.stdout })) {
    const record = JSON.parse(line);
    if (Number.isNaN(firstTextMs) && record.assistantMessageEvent?.type === "text_delta") {
      firstTextMs = performance.now() - began;
      await onText?.();
    }
    if (record.type === "agent_settled") break;
  }
  child.stdin.end();
  await ended;
  if (Number.isNaN(firstTextMs)) throw new Error("bare Pi gave no text");
  return { firstTextMs };
}

async function runPillion(
  service: Running,
  baseUrl: string,
  name: ModelName,
  onText?: OnText,
): Promise<Sample> {
  const began = performance.now();
  let firstTextMs = Number.NaN;
  let outcome = "no end";
  for await (const event of openRun(service.port, baseUrl, name)) {
    if (Number.isNaN(firstTextMs) && event.type === "message.delta") {
      firstTextMs = performance.now() - began;
      await onText?.();
    }
    if (event.type === "run.ended") outcome = JSON.stringify(event);
  }
  if (!outcome.includes('"succeeded"') || Number.isNaN(firstTextMs))
    throw new Error(`a run failed: ${outcome}`);
  return { firstTextMs };
}

async function* openRun(port: number, baseUrl: string, name: ModelName): AsyncGenerator<{ type: string }> {
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
