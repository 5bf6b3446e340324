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
  if (graceful !== undefined) return { method: toMethod(graceful), exit: graceful };
  await settle(TERM_MS, process.signal("SIGTERM"));
  const terminated = await settle(TERM_MS, exited);
  if (terminated !== undefined) return { method: toMethod(terminated), exit: terminated };
  await settle(KILL_MS, sandbox.clear());
  return { method: "killed", exit: (await settle(KILL_MS, exited)) ?? UNKNOWN_EXIT };
}

/** One that is gone with its sandbox, or was killed by somebody, did not end because it was asked to. */
function toMethod(exit: Exit): HarnessStop["method"] {
  return exit === UNKNOWN_EXIT || exit.signal === "SIGKILL" ? "killed" : "graceful";
}

/** The work's result, or undefined when it failed or took longer. */
async function settle<T>(ms: number, work: Promise<T>): Promise<T | undefined> {
  try {
    return await within(ms, work, () => new Fault("deadline_exceeded", "late"));
  } catch {
    return undefined;
  }
}
