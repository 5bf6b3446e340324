/** How a run's end becomes the exit code of `pillion run`. */
import type { FailureCode } from "#contract/failure";
import type { Run } from "#contract/run";

export const EXIT = {
  succeeded: 0,
  failed: 1,
  usage: 2,
  timedOut: 124,
  sandbox: 125,
  notExecutable: 126,
  notFound: 127,
  cancelled: 130,
  killed: 137,
} as const;

const BY_FAILURE: Partial<Record<FailureCode, number>> = {
  invalid_request: EXIT.usage,
  deadline_exceeded: EXIT.timedOut,
  idle_timeout: EXIT.timedOut,
  sandbox_unavailable: EXIT.sandbox,
  isolation_unavailable: EXIT.sandbox,
  image_missing: EXIT.sandbox,
  harness_unverified: EXIT.notExecutable,
  harness_not_started: EXIT.notExecutable,
  harness_unavailable: EXIT.notFound,
  cancelled: EXIT.cancelled,
  out_of_memory: EXIT.killed,
  sandbox_lost: EXIT.killed,
  lost: EXIT.killed,
};

/** The exit code for a failure, also for one that came before there was a run. */
export function toFailureExitCode(code: FailureCode): number {
  return BY_FAILURE[code] ?? EXIT.failed;
}

/** The exit code for a run: 0 only when it has ended well. */
export function toExitCode(run: Run): number {
  if (run.outcome === "succeeded") return EXIT.succeeded;
  if (run.outcome === "cancelled") return EXIT.cancelled;
  if (run.outcome === "timed_out") return EXIT.timedOut;
  if (run.exit?.oom === true || run.outcome === "lost") return EXIT.killed;
  const code = run.failure === null ? EXIT.failed : toFailureExitCode(run.failure.code);
  return code === EXIT.failed && run.exit?.signal === "SIGKILL" ? EXIT.killed : code;
}
