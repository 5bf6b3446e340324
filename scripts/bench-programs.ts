// The programs that the benches measure: the scripted model, bare Pi and the service, each started as its users would.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { get, type IncomingMessage, request } from "node:http";
import { createServer } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { Sample } from "./bench-report.ts";

export const PROJECT = fileURLToPath(new URL("..", import.meta.url));
export const PI_CLI = join(
  PROJECT,
  "dist/product/pi/node_modules/@earendil-works/pi-coding-agent/dist/bundle/cli.js",
);
export const SERVICE = join(PROJECT, "dist/pillion.mjs");
const MODEL_SERVER = join(PROJECT, "services/sidecar/test/fakes/scripted-model-main.ts");
const TOOLS = "read,grep,find,ls,edit,write";
/** Long enough that processes can be looked at in the middle of the answer. */
const CHUNK_MS = 200;

export const script = {
  scripts: {
    fast: [{ text: ["Hello, ", "here ", "I ", "am."] }],
    slow: [{ text: toWords(5), chunkDelayMs: CHUNK_MS }],
    long: [{ text: toWords(25), chunkDelayMs: CHUNK_MS }],
  },
};

function toWords(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `word ${index} `);
}

export type ModelName = keyof typeof script.scripts;
export type Running = AsyncDisposable & { readonly pid: number; readonly port: number };

export async function startModel(scriptFile: string): Promise<Running> {
  const child = spawn(process.execPath, [MODEL_SERVER, scriptFile], { stdio: ["ignore", "pipe", "inherit"] });
  for await (const line of createInterface({ input: child.stdout })) {
    return toRunning(child, Number(JSON.parse(line).port));
  }
  throw new Error("the scripted model did not start");
}

export async function writeBareHome(scratch: string, baseUrl: string): Promise<string> {
  const agentDir = join(scratch, "agent");
  await mkdir(join(scratch, "workspace"), { recursive: true });
  await mkdir(agentDir, { recursive: true });
  const models = Object.keys(script.scripts).map((id) => ({ id, contextWindow: 128_000, maxTokens: 16_384 }));
  const provider = { baseUrl, api: "openai-completions", apiKey: "bench-key", models };
  await writeFile(join(agentDir, "models.json"), JSON.stringify({ providers: { bench: provider } }));
  return agentDir;
}

/** As all who start the service give them to Node. */
function readNodeFlags(): string[] {
  return readFileSync(join(PROJECT, "dist/node-flags"), "utf8").trim().split(" ");
}

/** From spawn until /health answers 200. */
export async function startService(
  home: string,
  modelPort: number,
  more: Readonly<Record<string, string>> = {},
): Promise<{ running: Running; healthyMs: number }> {
  await mkdir(home, { recursive: true });
  const port = await takeFreePort();
  const began = performance.now();
  const child = spawn(process.execPath, [...readNodeFlags(), SERVICE, "serve"], {
    stdio: ["ignore", "ignore", "pipe"],
    env: {
      PATH: process.env.PATH,
      HOME: home,
      PILLION_HOME: join(home, "data"),
      PILLION_PORT: String(port),
      PILLION_PRIVATE_TARGETS: `http://127.0.0.1:${modelPort}`,
      PILLION_LOG_LEVEL: "fatal",
      ...more,
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

export type OnText = () => Promise<void>;

export async function runBare(
  scratch: string,
  agentDir: string,
  name: ModelName,
  onText?: OnText,
): Promise<Sample> {
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

export async function runPillion(
  service: Running,
  baseUrl: string,
  name: ModelName,
  onText?: OnText,
): Promise<Sample & { readonly runId: string }> {
  const began = performance.now();
  let firstTextMs = Number.NaN;
  let outcome = "no end";
  let runId = "";
  for await (const event of openRun(service.port, baseUrl, name)) {
    if (Number.isNaN(firstTextMs) && event.type === "message.delta") {
      firstTextMs = performance.now() - began;
      await onText?.();
    }
    if (event.type === "run.ended") outcome = JSON.stringify(event);
    runId = event.runId ?? runId;
  }
  if (!outcome.includes('"succeeded"') || Number.isNaN(firstTextMs))
    throw new Error(`a run failed: ${outcome}`);
  return { firstTextMs, runId };
}

export async function* openRun(
  port: number,
  baseUrl: string,
  name: ModelName,
): AsyncGenerator<{ type: string; runId?: string }> {
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

export function isHealthy(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const asked = get({ host: "127.0.0.1", port, path: "/health", agent: false }, (response) => {
      response.resume();
      response.once("end", () => resolve(response.statusCode === 200));
    });
    asked.once("error", () => resolve(false));
  });
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
