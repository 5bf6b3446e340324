/** The local kind of sandbox: namespaces of this machine, made with util-linux, ended by the kernel when the lifeline closes. */
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { mkdir, readlink } from "node:fs/promises";
import { join } from "node:path";
import { Duplex } from "node:stream";
import type { GuardView } from "#contract/guard";
import type { Receipt } from "#contract/sandbox";
import { within } from "../../kernel/deadline.ts";
import { Fault } from "../../kernel/fault.ts";
import { killProcess, readChildPids, readProcessIds } from "../../kernel/process-table.ts";
import { openBoundWorkspace } from "../bound-directory.ts";
import { toGuardCommand } from "../guard-command.ts";
import { type BoundReferences, findForeignReferences, openBoundReferences } from "../references.ts";
import type { Place, PlaceEnd, PlaceKind, PlaceProbe, SandboxPaths, SandboxSpec } from "../sandbox.ts";
import { type Identity, IdentityPool, toIdentity } from "./identity.ts";
import { readSystemLinks, toBindFlags, toFstab } from "./mount-table.ts";
import { toLocalReceipt, toMissing } from "./receipt.ts";

const NOFILE = 4096;
const END_MS = 5_000;
const SEAL_MS = 5_000;
const SWEEP_ROUNDS = 80;
const SWEEP_PAUSE_MS = 25;
const STDERR_CHARS = 4_096;
const LAST_WORDS_MS = 100;
const MARKER = "pillion-sandbox-init";

export const LOCAL_PATHS: SandboxPaths = {
  workspace: "/workspace",
  home: "/home/agent",
  temp: "/tmp",
  node: "/opt/node/node",
  product: "/opt/pillion",
  path: "/opt/pillion/bin:/usr/local/bin:/usr/bin:/bin:/opt/node",
};

export type LocalPlacesOptions = {
  /** Data directory; it is hidden inside, and an empty directory in it is where roots are mounted. */
  readonly home: string;
  /** Directory with guard/, pi/, extension/, bin/. */
  readonly productDir: string;
  readonly nodePath: string;
  /** Names this instance in process titles, so that a sweep never touches another's. */
  readonly instance: string;
  readonly uidBase: number;
  /** Files and directories that must not be seen inside even if they lie under a system directory. */
  readonly hidden: readonly string[];
  /** A compile cache made by this very build, or undefined. */
  readonly compileCache?: string | undefined;
};

export class LocalPlaces implements PlaceKind {
  readonly kind = "local";
  readonly #options: LocalPlacesOptions;
  readonly #identities: IdentityPool;
  readonly #initScript: string;

  constructor(options: LocalPlacesOptions) {
    this.#options = options;
    this.#identities = new IdentityPool(options.uidBase);
    this.#initScript = readFileSync(join(options.productDir, "guard/init.sh"), "utf8");
  }

  async probe(): Promise<PlaceProbe> {
    const spec: SandboxSpec = {
      runId: "probe",
      requestedKind: "local",
      workspace: { kind: "scratch", bytes: 1024 * 1024 },
      readOnly: false,
      references: [],
      network: "none",
      pids: 64,
      executable: false,
    };
    try {
      const place = await this.open(spec, AbortSignal.timeout(END_MS));
      // The guard is not spoken to: that PID 1 came up and sealed shows that every namespace can be had.
      await place.seal(false).finally(() => place[Symbol.asyncDispose]());
      return {
        kind: "local",
        available: true,
        isolated: true,
        detail: "namespaces of this machine",
        missing: toMissing(process.getuid?.() !== 0),
      };
    } catch (error) {
      const cause = error instanceof Error && error.cause instanceof Error ? `: ${error.cause.message}` : "";
      const detail = `namespaces cannot be had here${cause.slice(0, 300)}`;
      return { kind: "local", available: false, isolated: false, detail, missing: [] };
    }
  }

  async open(spec: SandboxSpec, signal: AbortSignal): Promise<Place> {
    signal.throwIfAborted();
    await using bound =
      spec.workspace.kind === "bind"
        ? await openBoundWorkspace(spec.workspace.path, process.getuid?.() === 0)
        : undefined;
    await using held = new AsyncDisposableStack();
    const references = held.use(await openBoundReferences(spec.references));
    const identity = await toIdentity(bound, this.#identities);
    held.defer(() => identity.release());
    const child = await this.#spawn(spec, identity, bound?.cwd);
    return new LocalPlace(child, identity, spec, references, held.move());
  }

  /** The kernel ends a namespace with its lifeline; this looks whether it did, and ends what it finds. */
  async sweep(): Promise<number> {
    const mark = `${MARKER}-${this.#options.instance}`;
    const seen = new Set<number>();
    for (let round = 0; round < SWEEP_ROUNDS; round += 1) {
      const ids = await readProcessIds((commandLine) => commandLine.includes(mark));
      if (ids.length === 0) return seen.size;
      for (const id of ids) {
        seen.add(id.pid);
        // The child is PID 1 of the namespace, and everything in it ends with it.
        for (const child of await readChildPids(id.pid)) killProcess(child, "SIGKILL");
        killProcess(id, "SIGKILL");
      }
      await new Promise((resolve) => setTimeout(resolve, SWEEP_PAUSE_MS));
    }
    throw new Fault("sandbox_lost", "Processes of an earlier run could not be ended.");
  }

  /** `workspace` leads to the directory to bind; it is given as working directory, which keeps it through the namespace's start. */
  async #spawn(spec: SandboxSpec, identity: Identity, workspace: string | undefined): Promise<ChildProcess> {
    const root = join(this.#options.home, "root");
    await mkdir(root, { recursive: true, mode: 0o755 });
    const fstab = toFstab(root, spec, identity, this.#options);
    const guard = toGuardCommand(LOCAL_PATHS, spec.references);
    return spawn(
      "unshare",
      [
        ...(identity.userNamespace ? ["--user", "--map-root-user"] : []),
        ...["--pid", "--fork", "--mount", "--propagation", "private", "--ipc", "--net", "--uts", "--"],
        ...["bash", "--noprofile", "--norc", "-c", this.#initScript],
        `${MARKER}-${this.#options.instance}-${spec.runId}`,
        ...[
          root,
          fstab,
          (await readSystemLinks()).join(" "),
          workspace === undefined ? "-" : toBindFlags(spec),
        ],
        ...[String(identity.uid), String(identity.gid), String(NOFILE), String(spec.pids), ...guard],
      ],
      {
        stdio: ["pipe", "pipe", "pipe", "pipe"],
        cwd: workspace ?? "/",
        env: toGuardEnvironment(this.#options.compileCache !== undefined),
      },
    );
  }
}

function toGuardEnvironment(hasCache: boolean): Record<string, string> {
  return {
    PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    LANG: "C.UTF-8",
    UV_THREADPOOL_SIZE: "2",
    ...(hasCache ? { NODE_COMPILE_CACHE: "/opt/cache" } : {}),
  };
}

class LocalPlace implements Place {
  readonly paths = LOCAL_PATHS;
  readonly pipe: Duplex;
  readonly ended: Promise<PlaceEnd>;
  readonly #child: ChildProcess;
  readonly #identity: Identity;
  readonly #spec: SandboxSpec;
  readonly #references: BoundReferences;
  readonly #held: AsyncDisposable;
  readonly #lifeline: Duplex;

  /** `held` is what is let go when the place has ended. */
  constructor(
    child: ChildProcess,
    identity: Identity,
    spec: SandboxSpec,
    references: BoundReferences,
    held: AsyncDisposable,
  ) {
    const { stdin, stdout, stderr } = child;
    const lifeline = child.stdio[3];
    if (stdin === null || stdout === null || stderr === null || !(lifeline instanceof Duplex)) {
      throw new Fault("internal", "A child process came without its pipes.");
    }
    this.#child = child;
    this.#identity = identity;
    this.#spec = spec;
    this.#references = references;
    this.#held = held;
    this.#lifeline = lifeline;
    lifeline.on("error", () => undefined);
    this.pipe = Duplex.from({ readable: stdout, writable: stdin });
    this.pipe.on("error", () => undefined); // a pipe that breaks is told by its close and by the exit
    let errors = "";
    stderr.setEncoding("utf8");
    stderr.on("data", (text: string) => {
      errors = (errors + text).slice(-STDERR_CHARS);
    });
    const { promise, resolve } = Promise.withResolvers<PlaceEnd>();
    this.ended = promise;
    child.once("error", (error) => resolve({ detail: error.message }));
    child.once("exit", (code, signal) => {
      const tell = (): void => {
        const last = errors.trim().split("\n").at(-1) ?? "";
        resolve({ detail: `the sandbox's first process ended (${signal ?? code}) ${last}`.trim() });
      };
      // Its last words may still be on their way.
      child.once("close", tell);
      setTimeout(tell, LAST_WORDS_MS).unref();
    });
  }

  async seal(readOnlyWorkspace: boolean): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#lifeline.once("data", () => resolve());
    this.#lifeline.write(readOnlyWorkspace ? "read-only\n" : "read-write\n");
    const unavailable = (cause?: unknown) =>
      new Fault("isolation_unavailable", "The sandbox could not be sealed on this machine.", { cause });
    const ended = this.ended.then(({ detail }) => Promise.reject(unavailable(new Error(detail))));
    ended.catch(() => undefined);
    await within(SEAL_MS, Promise.race([promise, ended]), unavailable);
  }

  toReceipt(view: GuardView): Receipt {
    const foreign = findForeignReferences(view, this.#references);
    if (foreign.length === 0) return toLocalReceipt(view, this.#spec, this.#identity);
    throw new Fault(
      "forbidden",
      `A reference's directory was moved or replaced before it was mounted: ${foreign.join(", ")}.`,
    );
  }

  /** Closing the lifeline ends PID 1, and the kernel ends everything in its namespace before PID 1 is gone. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#lifeline.destroy();
    this.pipe.destroy();
    const late = () => new Fault("sandbox_lost", "The sandbox did not end in time.");
    try {
      await within(END_MS, this.ended, late).catch(() => this.#force(late));
    } finally {
      await this.#held[Symbol.asyncDispose]();
    }
  }

  async #force(late: () => Fault): Promise<void> {
    if (this.#child.pid === undefined) return;
    for (const id of await readChildPids(this.#child.pid)) killProcess(id, "SIGKILL");
    await within(END_MS, this.ended, late);
  }
}

/** Identity of a namespace of the sidecar itself, to compare with what the guard saw. */
export async function readOwnNamespace(name: string): Promise<string> {
  return readlink(`/proc/self/ns/${name}`);
}
