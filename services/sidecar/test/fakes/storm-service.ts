// The built service as a child that tests may kill at any moment, and what of it can be seen from outside: processes, descriptors, directories.
import { type ChildProcess, spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { request as httpRequest, type IncomingMessage } from "node:http";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { NODE_FLAGS, PROGRAM } from "./live-service.ts";

const UIDS = 64;
/** What container engines and other tests mount at the same time; no local sandbox mounts anything of the kind. */
const OTHERS_MOUNT = / - (overlay|nsfs) | pillion-test |\/pillion-own-engine-/;

export interface StormService {
  readonly pid: number;
  readonly url: string;
  /** First user id of this service's sandboxes; no other service has it. */
  readonly uidBase: number;
  /** Milliseconds from the spawn to the line that says ready. */
  readonly readyMs: number;
  /** All that it wrote, stdout and stderr. */
  readLog(): string;
  /** SIGKILL; resolves when it is gone. */
  kill(): Promise<void>;
  /** SIGTERM; resolves with its exit code. */
  stop(): Promise<number | null>;
}

export type Starting = { readonly ready: Promise<StormService>; kill(): Promise<void> };

/** A range of user ids that most surely nobody else uses, so that a sandbox's processes can be told from all others. */
export function pickUidBase(): number {
  return 1_000_000 + randomInt(30_000_000) * UIDS;
}

/** Throws with the log when the service ends before it is ready. */
export function startStormService(
  home: string,
  uidBase: number,
  env: Readonly<Record<string, string>> = {},
): Starting {
  const startedMs = performance.now();
  const child = spawn(process.execPath, [...NODE_FLAGS, PROGRAM, "serve"], {
    stdio: ["ignore", "pipe", "pipe"],
    env: {
      PATH: process.env.PATH,
      PILLION_HOME: home,
      PILLION_PORT: "0",
      PILLION_SANDBOX: "local",
      PILLION_UID_BASE: String(uidBase),
      ...env,
    },
  });
  const exited = once(child, "exit");
  const kill = async (): Promise<void> => {
    child.kill("SIGKILL");
    await exited;
  };
  const ready = waitUntilReady(child, startedMs, uidBase, kill, exited);
  ready.catch(() => undefined);
  return { ready, kill };
}

function waitUntilReady(
  child: ChildProcess,
  startedMs: number,
  uidBase: number,
  kill: () => Promise<void>,
  exited: Promise<unknown[]>,
): Promise<StormService> {
  let log = "";
  const { promise, resolve, reject } = Promise.withResolvers<StormService>();
  child.once("exit", (code, signal) => reject(new Error(`the service ended (${signal ?? code}):\n${log}`)));
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding("utf8").on("data", (part: string) => {
      log += part;
      const url = /"address":"([^"]+)"/.exec(log)?.[1];
      if (url === undefined || child.pid === undefined) return;
      const readyMs = performance.now() - startedMs;
      const stop = async (): Promise<number | null> => {
        child.kill("SIGTERM");
        await exited;
        return child.exitCode;
      };
      resolve({ pid: child.pid, url, uidBase, readyMs, readLog: () => log, kill, stop });
    });
  }
  return promise;
}

export type Answer = { readonly status: number; readonly body: string };

/** One request on a connection of its own, so that no keep-alive is mistaken for a leak. */
export async function call(
  url: string,
  method = "GET",
  body?: unknown,
  headers: Readonly<Record<string, string>> = {},
): Promise<Answer> {
  const response = await openCall(url, method, body, headers);
  return { status: response.statusCode ?? 0, body: await text(response) };
}

export async function openCall(
  url: string,
  method = "GET",
  body?: unknown,
  headers: Readonly<Record<string, string>> = {},
): Promise<IncomingMessage> {
  const type = body === undefined ? {} : { "content-type": "application/json" };
  const outgoing = httpRequest(url, { method, agent: false, headers: { ...type, ...headers } });
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  outgoing.once("response", resolve).once("error", reject);
  outgoing.end(body === undefined ? undefined : JSON.stringify(body));
  return promise;
}

export type SeenProcess = {
  readonly pid: number;
  readonly ppid: number;
  /** As /proc tells it: R, S, T (stopped), Z … */
  readonly state: string;
  readonly commandLine: string;
  readonly namespace: string;
};

/**
 * All processes that belong to a service: it, its descendants, whoever carries its data directory in command line
 * or environment, and whoever lives in a sandbox with one of its user ids. Zombies are not alive.
 */
export function readFamily(home: string, uidBase: number, pid?: number): SeenProcess[] {
  const all = readAllProcesses();
  const seeds = all.filter(
    (seen) => seen.pid === pid || carries(seen, home) || hasSandboxRoot(seen, uidBase),
  );
  const family = new Set(seeds.map((seen) => seen.pid));
  for (let size = 0; size !== family.size; ) {
    size = family.size;
    for (const seen of all) if (family.has(seen.ppid)) family.add(seen.pid);
  }
  return all.filter((seen) => family.has(seen.pid));
}

/** Every living process but this one. */
export function readAllProcesses(): SeenProcess[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .map((name) => readProcess(Number(name)))
    .filter((seen) => seen !== undefined && seen.state !== "Z") as SeenProcess[];
}

function readProcess(pid: number): SeenProcess | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    const [state = "", ppid = "0"] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const commandLine = readFileSync(`/proc/${pid}/cmdline`, "latin1").replaceAll("\0", " ");
    return {
      pid,
      ppid: Number(ppid),
      state,
      commandLine,
      namespace: attempt(() => readlinkSync(`/proc/${pid}/ns/pid`)),
    };
  } catch {
    return undefined; // gone meanwhile
  }
}

function carries({ pid, commandLine }: SeenProcess, home: string): boolean {
  return (
    commandLine.includes(home) || attempt(() => readFileSync(`/proc/${pid}/environ`, "latin1")).includes(home)
  );
}

/** A sandbox's own /etc/passwd names the user id that its run was given; PID 1 is root and has no other mark. */
function hasSandboxRoot({ pid, namespace }: SeenProcess, uidBase: number): boolean {
  if (namespace === readlinkSync("/proc/self/ns/pid")) return false;
  const uid = /^agent:x:(\d+):/m.exec(
    attempt(() => readFileSync(`/proc/${pid}/root/etc/passwd`, "latin1")),
  )?.[1];
  return uid !== undefined && Number(uid) >= uidBase && Number(uid) < uidBase + UIDS;
}

function attempt(read: () => string): string {
  try {
    return read();
  } catch {
    return "";
  }
}

export type Traces = {
  readonly processes: string[];
  /** What the service's descriptors point at, numbers that differ each time cut off. */
  readonly descriptors: string[];
  /** Directories under the data directory and files there, a run's kept results left out. */
  readonly entries: string[];
  readonly temporary: string[];
  readonly mounts: string[];
};

/** All that a service leaves in the machine. `temporary` is the directory it was given as TMPDIR. */
export function readTraces(home: string, service: StormService, temporary: string): Traces {
  const entries = existsSync(home) ? readdirSync(home, { recursive: true, encoding: "utf8" }) : [];
  return {
    processes: readFamily(home, service.uidBase, service.pid)
      .map(({ commandLine }) => commandLine)
      .sort(),
    descriptors: readdirSync(`/proc/${service.pid}/fd`)
      .map((fd) => attempt(() => readlinkSync(`/proc/${service.pid}/fd/${fd}`)).replace(/:\[\d+\]$/, ""))
      .filter((target) => target !== "")
      .sort(),
    entries: entries
      .filter((path) => !/^results\/run_[0-9a-z]+(\/(files\.json|files\.tar|diff\.patch))?$/.test(path))
      .sort(),
    temporary: readdirSync(temporary),
    mounts: readFileSync(`/proc/${service.pid}/mountinfo`, "latin1")
      .split("\n")
      .filter((line) => !OTHERS_MOUNT.test(line)),
  };
}

/** Answers how many milliseconds it took until `isSo`, or undefined when it never was in time. */
export async function waitUntil(isSo: () => boolean, timeoutMs: number): Promise<number | undefined> {
  const startedMs = performance.now();
  while (!isSo()) {
    if (performance.now() - startedMs > timeoutMs) return undefined;
    await sleep(20);
  }
  return performance.now() - startedMs;
}
