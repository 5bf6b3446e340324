// Containers of the agent image, as a person or an orchestrator would start them: to their end, or held open for a test.
import { spawnSync } from "node:child_process";
import { readEngine } from "../behaviours/open-places.ts";

export type Target = "base" | "slim" | "browser";

export const TARGETS: readonly Target[] = ["base", "slim", "browser"];

/** As a sandbox has it: nothing may be gained or written but in what is mounted. */
export const LOCKED_DOWN = [
  ...["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--network", "none"],
  ...["--pids-limit", "256", "--tmpfs", "/tmp", "--tmpfs", "/workspace:mode=1777"],
];

export type Ended = { readonly status: number | null; readonly stdout: string; readonly stderr: string };

export function toAgentImage(target: Target): string {
  return `${process.env.PILLION_IMAGE_PREFIX ?? "pillion"}-agent:${target}`;
}

/** Any call of the engine, with its end whatever that is. */
export function callDocker(args: readonly string[], input?: string): Ended {
  const { status, stdout, stderr } = spawnSync("docker", args, {
    encoding: "utf8",
    env: readEngine(),
    timeout: 60_000,
    maxBuffer: 64 * 1024 * 1024,
    ...(input === undefined ? {} : { input }),
  });
  return { status, stdout, stderr };
}

/** Runs a command through the image's entry point to its end. */
export function runAgent(target: Target, options: readonly string[], command: readonly string[] = []): Ended {
  return callDocker(["run", "--rm", ...options, toAgentImage(target), ...command]);
}

/** The output of a shell script in a container; throws with what it said where it fails. */
export function readInside(target: Target, script: string, options: readonly string[] = []): string {
  const { status, stdout, stderr } = runAgent(target, options, ["sh", "-c", script]);
  if (status !== 0) throw new Error(`the script in ${target} ended with ${status}: ${stderr}${stdout}`);
  return stdout;
}

/** A container that stays until it is disposed of. */
export class AgentContainer implements Disposable {
  readonly id: string;

  constructor(target: Target, options: readonly string[] = [], command: readonly string[] = []) {
    const { status, stdout, stderr } = callDocker([
      "run",
      "-d",
      ...options,
      toAgentImage(target),
      ...command,
    ]);
    if (status !== 0) throw new Error(`the container did not start: ${stderr}`);
    this.id = stdout.trim();
  }

  exec(command: readonly string[], options: readonly string[] = []): Ended {
    return callDocker(["exec", ...options, this.id, ...command]);
  }

  inspect(format: string): string {
    return callDocker(["inspect", "-f", format, this.id]).stdout.trim();
  }

  get logs(): string {
    const { stdout, stderr } = callDocker(["logs", this.id]);
    return stdout + stderr;
  }

  [Symbol.dispose](): void {
    callDocker(["rm", "-f", "-v", this.id]);
  }
}
