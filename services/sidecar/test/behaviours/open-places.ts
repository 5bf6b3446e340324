// Sandboxes for the behaviour suites: the real kinds of place, each with its own data directory, and the fake.
import { execFileSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { chmodSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { Fault } from "../../src/kernel/fault.ts";
import {
  killProcess,
  type ProcessId,
  readChildPids,
  readProcessIds,
} from "../../src/kernel/process-table.ts";
import { DockerPlaces, type DockerPlacesOptions } from "../../src/sandboxes/docker/docker-places.ts";
import { LocalPlaces } from "../../src/sandboxes/local/local-places.ts";
import { UnisolatedPlaces } from "../../src/sandboxes/local/unisolated-places.ts";
import { openSandbox } from "../../src/sandboxes/open-sandbox.ts";
import type { FillFile, PlaceKind, Reference, Sandbox, SandboxSpec } from "../../src/sandboxes/sandbox.ts";
import { FakeSandbox } from "../fakes/fake-sandbox.ts";

export const PRODUCT_DIR = join(import.meta.dirname, "../../../../dist/product");

/** What scripts/images.sh has built. */
export const AGENT_IMAGE = `${process.env.PILLION_IMAGE_PREFIX ?? "pillion"}-agent:base`;

export type SandboxWishes = {
  readonly readOnly?: boolean;
  readonly executable?: boolean;
  /** A reader's files, which some kinds have to bring in before. */
  readonly files?: readonly FillFile[];
  readonly references?: readonly Reference[];
  readonly network?: "none" | "open";
  readonly image?: string;
  readonly acceptDoor?: (connection: Duplex) => void;
  readonly productDir?: string;
  /** A caller's own directory as workspace. */
  readonly path?: string;
  /** What else must not be seen inside. */
  readonly hidden?: readonly string[];
  readonly workspaceBytes?: number;
  readonly pids?: number;
  /** Processes are counted by user: a test that counts them needs users that no other test has. */
  readonly uidBase?: number;
};

export type OpenedSandbox = AsyncDisposable & {
  readonly sandbox: Sandbox;
  /** A program that is given this argument is seen by `readLeftovers`. */
  readonly token: string;
  /** Ends the guard from outside, as a crash would. */
  killGuard(): Promise<void>;
  /** What of this sandbox still stands on the machine; for a fake, its directories. */
  readLeftovers(): Promise<string[]>;
};

export type SandboxMaker = {
  readonly name: string;
  /** False where a reader cannot be had. */
  readonly hasReaders: boolean;
  open(wishes?: SandboxWishes): Promise<OpenedSandbox>;
};

export const LOCAL: SandboxMaker = {
  name: "the local sandbox",
  hasReaders: true,
  open: (wishes) =>
    openReal(
      wishes,
      (home, productDir) =>
        new LocalPlaces({
          ...toCommon(home, productDir),
          uidBase: wishes?.uidBase ?? 251_000,
          hidden: [home, ...(wishes?.hidden ?? [])],
        }),
    ),
};

export const UNISOLATED: SandboxMaker = {
  name: "the one without isolation",
  hasReaders: false,
  open: (wishes) => openReal(wishes, (home, productDir) => new UnisolatedPlaces(toCommon(home, productDir))),
};

/** The engine that `npm test` has set up, with the image that it has built. */
export function toDockerPlaces(instance: string, more: Partial<DockerPlacesOptions> = {}): DockerPlaces {
  return new DockerPlaces({
    host: readEngineHost(),
    image: AGENT_IMAGE,
    runtime: "runc",
    limits: { cpus: 4, memoryBytes: 2 * 1024 ** 3 },
    instance,
    version: "0.0.0",
    lifetimeMs: 600_000,
    profileDir: join(PRODUCT_DIR, "docker"),
    ...more,
  });
}

export const DOCKER = toDockerMaker("the docker sandbox", () => ({}));

/** gVisor: another kernel between the run and the machine's. */
export const RUNSC = toDockerMaker("the docker sandbox under runsc", () => ({ runtime: "runsc" }));

/** Containers of the same engine by other settings, which are asked for when one is opened. */
export function toDockerMaker(name: string, more: () => Partial<DockerPlacesOptions>): SandboxMaker {
  return { name, hasReaders: true, open };

  async function open(wishes: SandboxWishes = {}): Promise<OpenedSandbox> {
    const places = toDockerPlaces(`test${randomUUID().slice(0, 8)}`, more());
    const runId = `run_${randomUUID()}`;
    const refuse = (connection: Duplex): void => void connection.destroy();
    const spec = toSpec(runId, wishes);
    const signal = AbortSignal.timeout(20_000);
    await places.probe();
    const sandbox = await openSandbox(places, spec, wishes.acceptDoor ?? refuse, signal);
    return {
      sandbox,
      token: runId,
      async killGuard() {
        const format = "{{.State.Pid}} {{.HostConfig.Runtime}}";
        const [pid = "", runtime] = docker(["inspect", "-f", format, toContainerName(runId)]).split(" ");
        const guard = await findGuardOf(Number(pid), runtime === "runsc");
        if (guard === undefined || !killProcess(guard, "SIGKILL"))
          throw new Error("there is no guard to kill");
      },
      readLeftovers: async () =>
        docker(["ps", "-aq", "--filter", `label=org.pillion.run=${runId}`])
          .split("\n")
          .filter(Boolean),
      [Symbol.asyncDispose]: () => sandbox.close(),
    };

    function toContainerName(run: string): string {
      return docker(["ps", "-q", "--filter", `label=org.pillion.run=${run}`]);
    }
  }
}

/** The engine's init is the container's first process; the guard is its child. gVisor's first process is all of it. */
async function findGuardOf(firstPid: number, isGvisor: boolean): Promise<ProcessId | undefined> {
  if (!isGvisor) return (await readChildPids(firstPid))[0];
  return (await readProcessIds(() => true)).find(({ pid }) => pid === firstPid);
}

let engine: { readonly [name: string]: string } | undefined;

/** The environment by which the engine's own client finds it. */
export function readEngine(): { readonly [name: string]: string } {
  const script = join(import.meta.dirname, "../../../../scripts/engine.sh");
  engine ??= Object.fromEntries(
    execFileSync("bash", ["-c", `eval "$(${script} env)" && env`], { encoding: "utf8" })
      .split("\n")
      .map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]),
  );
  return engine;
}

export function readEngineHost(): string {
  return readEngine().DOCKER_HOST ?? "";
}

/** Path of the client that `docker` calls. */
export function findDockerClient(): string {
  return execFileSync("bash", ["-c", "command -v docker"], { encoding: "utf8", env: readEngine() }).trim();
}

/** `more` is added to the client's environment. */
export function docker(args: readonly string[], more: Readonly<Record<string, string>> = {}): string {
  const env = { ...readEngine(), ...more };
  return execFileSync("docker", args, { encoding: "utf8", env, stdio: ["ignore", "pipe", "pipe"] }).trim();
}

export function readRuntimes(): string[] {
  return Object.keys(JSON.parse(docker(["info", "--format", "{{json .Runtimes}}"])));
}

export const FAKE: SandboxMaker = {
  name: "the fake",
  hasReaders: false,
  async open(wishes) {
    if (wishes?.readOnly) throw new Fault("isolation_unavailable", "The fake has no read-only workspace.");
    const sandbox = new FakeSandbox();
    const token = randomUUID();
    return {
      sandbox,
      token,
      killGuard: async () => sandbox.lose(),
      readLeftovers: async () => [
        ...(await readProcessIds((line) => line.includes(token))).map(({ pid }) => `process ${pid}`),
        ...[sandbox.directory].filter(existsSync),
      ],
      [Symbol.asyncDispose]: () => sandbox.close(),
    };
  },
};

function toCommon(home: string, productDir: string) {
  return { home, productDir, nodePath: process.execPath, instance: `test${randomUUID().slice(0, 8)}` };
}

export function toSpec(runId: string, wishes: SandboxWishes = {}): SandboxSpec {
  return {
    runId,
    requestedKind: "local",
    workspace:
      wishes.path === undefined
        ? { kind: "scratch", bytes: wishes.workspaceBytes ?? 16 * 1024 * 1024 }
        : { kind: "bind", path: wishes.path },
    readOnly: wishes.readOnly ?? false,
    ...(wishes.files === undefined ? {} : { initialFiles: wishes.files }),
    references: wishes.references ?? [],
    network: wishes.network ?? "none",
    ...(wishes.image === undefined ? {} : { image: wishes.image }),
    pids: wishes.pids ?? 128,
    executable: wishes.executable ?? false,
  };
}

async function openReal(
  wishes: SandboxWishes = {},
  toPlaces: (home: string, productDir: string) => PlaceKind,
): Promise<OpenedSandbox> {
  const home = mkdtempSync(join(tmpdir(), "pillion-sandbox-"));
  chmodSync(home, 0o755);
  const runId = `run_${randomUUID()}`;
  const places = toPlaces(home, wishes.productDir ?? PRODUCT_DIR);
  const refuse = (connection: Duplex): void => void connection.destroy();
  const signal = AbortSignal.timeout(20_000);
  const sandbox = await openSandbox(places, toSpec(runId, wishes), wishes.acceptDoor ?? refuse, signal);
  return {
    sandbox,
    token: runId,
    async killGuard() {
      const guard = await findGuard(runId);
      if (guard === undefined || !killProcess(guard, "SIGKILL")) throw new Error("there is no guard to kill");
    },
    readLeftovers: async () => [
      ...(await readProcessIds((line) => line.includes(runId))).map(({ pid }) => `process ${pid}`),
      ...[join(home, "runs", runId)].filter(existsSync),
    ],
    async [Symbol.asyncDispose]() {
      await sandbox.close();
      rmSync(home, { recursive: true, force: true });
    },
  };
}

/** The guard is the process with its program's name that stands in or below a process with the run's id. */
export async function findGuard(runId: string): Promise<ProcessId | undefined> {
  const waiting = await readProcessIds((line) => line.includes(runId));
  for (let id = waiting.shift(); id !== undefined; id = waiting.shift()) {
    const line = await readFile(`/proc/${id.pid}/cmdline`, "utf8").catch(() => "");
    if (line.includes("guard/main.mjs\0{") && line.split("\0")[0]?.endsWith("node")) return id;
    waiting.push(...(await readChildPids(id.pid)));
  }
  return undefined;
}
