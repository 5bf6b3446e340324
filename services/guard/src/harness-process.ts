/** The harness as the guard's child: its stdio goes through the pipe, its end is told. */
import { type ChildProcess, spawn } from "node:child_process";
import { PIPE_PATHS } from "#contract/pipe";
import { LimitEvents } from "./limit-events.ts";
import type { Link } from "./link.ts";

export type StartOptions = {
  readonly program: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
};

export class HarnessProcess {
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  /** Starts the program with nothing but the given environment; rejects when it cannot be started. */
  static start(link: Link, options: StartOptions): Promise<HarnessProcess> {
    const child = spawn(options.program, options.args, {
      cwd: options.cwd,
      env: options.env,
      stdio: ["pipe", "pipe", "pipe"],
      detached: true, // its own group, so that a signal reaches its children too
    });
    const { promise, resolve, reject } = Promise.withResolvers<HarnessProcess>();
    child.once("error", reject);
    child.once("spawn", () => {
      carry(child, link);
      resolve(new HarnessProcess(child));
    });
    return promise;
  }

  get pid(): number {
    return this.#child.pid ?? -1;
  }

  /** Signals the harness's whole group; a group that is gone is fine. */
  signal(signal: NodeJS.Signals): void {
    if (this.#child.pid === undefined) return;
    try {
      process.kill(-this.#child.pid, signal);
    } catch {
      this.#child.kill(signal);
    }
  }
}

function carry(child: ChildProcess, link: Link): void {
  const { stdin, stdout, stderr } = child;
  if (stdin === null || stdout === null || stderr === null) throw new Error("the harness has no stdio");
  const stdio = link.open(PIPE_PATHS.stdio);
  stdout.pipe(stdio);
  stdio.pipe(stdin);
  stdin.on("error", () => undefined); // EPIPE: the harness closed its input
  const errors = link.open(PIPE_PATHS.stderr);
  stderr.pipe(errors);
  errors.resume();
  const events = new LimitEvents();
  // "close" would wait for grandchildren that hold the descriptors; the exit is what matters.
  child.once("exit", async (code, signal) => {
    // One that ended by itself was not killed, whatever became of its children.
    const oom = signal === "SIGKILL" && (await events.hasJustRunOutOfMemory());
    const pidsLimit = await events.hasMetPidsLimit();
    link.tell({ kind: "exited", code, signal, oom, ...(pidsLimit ? { pidsLimit } : {}) });
  });
}
