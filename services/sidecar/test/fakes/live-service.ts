/** The built service as a real child process: free port, data directory and environment of its own. */
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import type { RunEvent } from "#contract/event";
import type { Run } from "#contract/run";

export const PROGRAM = join(import.meta.dirname, "../../../../dist/pillion.mjs");

const START_MS = 20_000;
const STOP_MS = 20_000;

export type ServiceEnd = { readonly code: number | null; readonly signal: NodeJS.Signals | null };

export interface LiveService extends AsyncDisposable {
  /** Origin without a slash at the end. */
  readonly url: string;
  readonly port: number;
  readonly pid: number;
  /** The data directory; removed when this is disposed. */
  readonly home: string;
  /** The directory that the service and its sandboxes use as the system's temporary one. */
  readonly tmp: string;
  readonly ended: Promise<ServiceEnd>;
  /** All that was written so far, stdout before stderr. */
  logs(): string;
  kill(signal: NodeJS.Signals): void;
}

const Ready = z.looseObject({ msg: z.literal("ready"), address: z.url() });

type ProgramOptions = {
  readonly env?: Readonly<Record<string, string>>;
  /** What stands before the arguments: the program of this clone, or something that becomes it or another copy. */
  readonly command?: readonly [string, ...string[]];
};

type ServiceOptions = ProgramOptions & {
  /** How the test reaches the address that the service tells; at that address unless told otherwise. */
  readonly toReachable?: (address: string) => Promise<string>;
};

/** Node's flags for the service, as the build wrote them down for all who start it. */
export const NODE_FLAGS = readFileSync(join(PROGRAM, "../node-flags"), "utf8").trim().split(" ");

/** The program of this clone. */
export const COMMAND = [process.execPath, ...NODE_FLAGS, PROGRAM] as const;

/** Resolves when `/health` answers. Throws with the logs where the service ends first or takes longer than 20 s. */
export async function openLiveService(options: ServiceOptions = {}): Promise<LiveService> {
  const directory = await mkdtemp(join(tmpdir(), "pillion-live-"));
  const [home, tmp] = [join(directory, "home"), await mkdtemp(join(directory, "tmp-"))];
  const env = {
    ...toCleanEnv(directory),
    TMPDIR: tmp,
    PILLION_HOME: home,
    PILLION_PORT: "0",
    PILLION_SANDBOX: "local", // whatever else the machine has
    PILLION_LOG_LEVEL: "info",
    PILLION_MODEL_RETRIES: "0",
    ...options.env,
  };
  const [file, ...args] = options.command ?? COMMAND;
  const child = spawn(file, [...args, "serve"], { env, stdio: ["ignore", "pipe", "pipe"] });
  const output = collect(child);
  const ended = toEnd(child);
  let isMeantToEnd = false;
  const stop = async (): Promise<void> => {
    const hasEnded = child.exitCode !== null || child.signalCode !== null;
    if (hasEnded && !isMeantToEnd) throw new Error(`the service ended by itself:\n${output().slice(-8_000)}`);
    child.kill("SIGTERM");
    const late = setTimeout(() => child.kill("SIGKILL"), STOP_MS);
    await ended;
    clearTimeout(late);
    await rm(directory, { recursive: true, force: true });
  };
  try {
    const url = await findAddress(child, output, options.toReachable);
    return {
      url,
      port: Number(new URL(url).port),
      pid: child.pid ?? 0,
      home,
      tmp,
      ended,
      logs: output,
      kill: (signal) => {
        isMeantToEnd = true;
        child.kill(signal);
      },
      [Symbol.asyncDispose]: stop,
    };
  } catch (error) {
    isMeantToEnd = true;
    await stop();
    throw error;
  }
}

export type ProgramEnd = ServiceEnd & { readonly stdout: string; readonly stderr: string };

type LineOptions = ProgramOptions & { readonly tmp?: string };

/** Starts the built command line; its stdin is open. */
export function startProgram(args: readonly string[], options: LineOptions = {}) {
  const tmp = options.tmp ?? tmpdir();
  const [file, ...before] = options.command ?? COMMAND;
  const child = spawn(file, [...before, ...args], {
    env: { ...toCleanEnv(tmp), TMPDIR: tmp, PILLION_SANDBOX: "local", ...options.env },
  });
  child.stdin.on("error", () => undefined); // a program that never reads
  return { child, ended: toEnd(child) };
}

/** Runs the built command line to its end. */
export async function runProgram(
  args: readonly string[],
  options: LineOptions & { readonly stdin?: string } = {},
): Promise<ProgramEnd> {
  const { child, ended } = startProgram(args, options);
  let [stdout, stderr] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  child.stdin.end(options.stdin ?? "");
  return { ...(await ended), stdout, stderr };
}

/** Asks for a run and waits for its end. Throws with the answer where it was refused. */
export async function runToEnd(
  service: LiveService,
  request: object,
): Promise<{ run: Run; events: RunEvent[] }> {
  const response = await post(service, "/run", request);
  const text = await response.text();
  if (response.status !== 200) throw new Error(`refused with ${response.status}: ${text}`);
  const run: Run = JSON.parse(text);
  return { run, events: await readEvents(service, run.id) };
}

export function post(
  service: LiveService,
  path: string,
  body: object,
  headers: Record<string, string> = {},
): Promise<Response> {
  return fetch(service.url + path, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(body),
  });
}

/** All events from the first to `run.ended`; waits for that. */
export async function readEvents(service: LiveService, runId: string): Promise<RunEvent[]> {
  const response = await fetch(`${service.url}/v1/runs/${runId}/events`, {
    headers: { accept: "application/x-ndjson" },
  });
  const lines = (await response.text()).trimEnd().split("\n");
  return lines.map((line): RunEvent => JSON.parse(line));
}

export async function getJson<T>(service: LiveService, path: string): Promise<T> {
  return (await fetch(service.url + path)).json() as Promise<T>; // the test that asks compares the whole
}

/** Nothing of the developer's own settings may reach the service. */
function toCleanEnv(home: string): Record<string, string> {
  return { PATH: process.env.PATH ?? "/usr/bin:/bin", HOME: home };
}

function collect(child: ChildProcess): () => string {
  const texts = ["", ""];
  [child.stdout, child.stderr].forEach((stream, index) => {
    stream?.setEncoding("utf8").on("data", (text: string) => {
      texts[index] += text;
    });
  });
  return () => texts.join("");
}

function toEnd(child: ChildProcess): Promise<ServiceEnd> {
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => resolve({ code, signal }));
  });
}

async function findAddress(
  child: ChildProcess,
  output: () => string,
  toReachable: (address: string) => Promise<string> = async (address) => address,
): Promise<string> {
  const deadline = performance.now() + START_MS;
  let url: string | undefined;
  while (performance.now() < deadline) {
    if (child.exitCode !== null || child.signalCode !== null)
      throw new Error(`the service ended early:\n${output()}`);
    const address = output().split("\n").flatMap(toAddress)[0];
    if (address !== undefined) url ??= await toReachable(address);
    if (url !== undefined && (await isHealthy(url))) return url;
    await sleep(20);
  }
  throw new Error(`the service was not healthy within ${START_MS} ms:\n${output()}`);
}

function toAddress(line: string): string[] {
  if (!line.includes('"ready"') || !line.endsWith("}")) return [];
  const ready = Ready.safeParse(JSON.parse(line));
  return ready.success ? [ready.data.address] : [];
}

async function isHealthy(url: string): Promise<boolean> {
  return fetch(`${url}/health`).then(
    ({ status }) => status === 200,
    () => false,
  );
}
