/** Where probes run: a real run's container, made by the service's own docker sandbox, and containers without its protection. */
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { Duplex } from "node:stream";
import type { DockerPlacesOptions } from "../../src/sandboxes/docker/docker-places.ts";
import { openSandbox } from "../../src/sandboxes/open-sandbox.ts";
import type { Sandbox, SandboxSpec } from "../../src/sandboxes/sandbox.ts";
import { AGENT_IMAGE, docker, readEngine, toDockerPlaces, toSpec } from "../behaviours/open-places.ts";
import { HAND_SCRIPT, Hand } from "./hand.ts";

const MiB = 1024 * 1024;

export type RunWishes = {
  readonly limits?: DockerPlacesOptions["limits"];
  readonly spec?: Partial<SandboxSpec>;
  /** Another engine than the shared one. */
  readonly engine?: string;
};

export type OpenedRun = AsyncDisposable & {
  readonly sandbox: Sandbox;
  readonly hand: Hand;
  /** The engine's name for the container. */
  readonly container: string;
  /** How many connections its door took. */
  doorCalls(): number;
};

/** A run that may execute what it writes, as one has that may use a shell: the harder case to defend. */
export async function openRun({ limits, spec = {}, engine }: RunWishes = {}): Promise<OpenedRun> {
  const instance = `escape${randomUUID().slice(0, 8)}`;
  const places = toDockerPlaces(instance, {
    limits: limits ?? { cpus: 2, memoryBytes: 1024 * MiB },
    ...(engine === undefined ? {} : { host: engine }),
  });
  await places.probe();
  let calls = 0;
  const refuse = (connection: Duplex): void => {
    calls += 1;
    connection.destroy();
  };
  const whole = { ...toSpec(`run_${randomUUID()}`, { executable: true, workspaceBytes: 64 * MiB }), ...spec };
  const sandbox = await openSandbox(places, whole, refuse, AbortSignal.timeout(30_000));
  try {
    await sandbox.seal();
    const env = { PATH: sandbox.paths.path, HOME: sandbox.paths.home };
    const { stdio } = await sandbox.start({ program: sandbox.paths.node, args: ["-e", HAND_SCRIPT], env });
    return {
      sandbox,
      hand: new Hand(stdio),
      container: docker(
        ["ps", "-q", "--no-trunc", "--filter", `label=org.pillion.run=${whole.runId}`],
        toClientEnv(engine),
      ),
      doorCalls: () => calls,
      [Symbol.asyncDispose]: () => sandbox.close(),
    };
  } catch (error) {
    await sandbox.close();
    throw error;
  }
}

export type OpenedControl = AsyncDisposable & {
  readonly container: string;
  /** A new hand in it; root unless told otherwise. */
  hand(user?: string): Hand;
};

/** What the probes need of root's rights; none for modules, clocks or a restart. */
const CAPABILITIES: readonly string[] = [
  ...["SYS_ADMIN", "SYS_PTRACE", "NET_ADMIN", "SYS_RAWIO", "SYSLOG", "SYS_NICE", "DAC_READ_SEARCH"],
  ...["SYS_PACCT", "SYS_TTY_CONFIG"],
];

/** What takes a container's walls down, but those between it and other work on this machine: its namespaces stay its own. */
export const UNPROTECTED: readonly string[] = [
  ...CAPABILITIES.flatMap((name) => ["--cap-add", name]),
  ...["--security-opt", "seccomp=unconfined", "--security-opt", "systempaths=unconfined"],
  ...["--security-opt", "apparmor=unconfined", "--cgroupns", "private"],
];

/** A container of the same image as plain `docker run` makes it, with more flags; on the shared engine unless told otherwise. */
export async function openControl(flags: readonly string[] = [], engine?: string): Promise<OpenedControl> {
  const own = ["--label", "org.pillion.test=escape", "--rm", "--init", "--entrypoint", "sleep"];
  const run = ["run", "--detach", ...own, "--user", "0", ...flags, AGENT_IMAGE, "600"];
  const container = docker(run, toClientEnv(engine));
  return {
    container,
    hand: (user = "0") => new Hand(execIn(container, user, ["node", "-e", HAND_SCRIPT], engine)),
    async [Symbol.asyncDispose]() {
      docker(["rm", "--force", container], toClientEnv(engine));
    },
  };
}

function toClientEnv(engine: string | undefined): Record<string, string> {
  return engine === undefined ? {} : { DOCKER_HOST: engine };
}

function execIn(
  container: string,
  user: string,
  command: readonly string[],
  engine: string | undefined,
): Duplex {
  const child = spawn("docker", ["exec", "--interactive", "--user", user, container, ...command], {
    env: { ...readEngine(), ...toClientEnv(engine) },
    stdio: ["pipe", "pipe", "inherit"],
  });
  return Duplex.from({ readable: child.stdout, writable: child.stdin });
}
