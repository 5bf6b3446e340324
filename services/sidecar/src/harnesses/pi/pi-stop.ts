/** Ends a Pi: abort, close its input, SIGTERM, SIGKILL, each with its time; then everything else inside is swept. */
import type { Exit } from "#contract/run";
import { within } from "../../kernel/deadline.ts";
import { Fault } from "../../kernel/fault.ts";
import type { Sandbox, SandboxProcess } from "../../sandboxes/sandbox.ts";
import type { HarnessStop } from "../harness.ts";
import type { PiRpc } from "./pi-rpc.ts";

const ABORT_MS = 750;
const CLOSE_MS = 750;
const TERM_MS = 500;
const KILL_MS = 2_000;
const UNKNOWN_EXIT: Exit = { code: null, signal: null, oom: false };

export async function stopPi(rpc: PiRpc, process: SandboxProcess, sandbox: Sandbox): Promise<HarnessStop> {
  const exited = process.exited.catch(() => UNKNOWN_EXIT); // the sandbox is gone, and Pi with it
  rpc.discard();
  await settle(ABORT_MS, rpc.ask({ type: "abort" }));
  rpc.closeInput();
  const graceful = await settle(CLOSE_MS, exited);
  if (graceful !== undefined) return { method: "graceful", exit: graceful };
  await settle(TERM_MS, process.signal("SIGTERM"));
  const terminated = await settle(TERM_MS, exited);
  if (terminated !== undefined) return { method: "graceful", exit: terminated };
  await settle(KILL_MS, sandbox.clear());
  return { method: "killed", exit: (await settle(KILL_MS, exited)) ?? UNKNOWN_EXIT };
}

/** The work's result, or undefined when it failed or took longer. */
async function settle<T>(ms: number, work: Promise<T>): Promise<T | undefined> {
  try {
    return await within(ms, work, () => new Fault("deadline_exceeded", "late"));
  } catch {
    return undefined;
  }
}
