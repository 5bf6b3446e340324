/** The report of a run whose end nobody saw; `verified` where it was seen that nothing of it is left. Pure. */
import type { Problem } from "#contract/failure";
import type { Run } from "#contract/run";
import { toTimestamp } from "../kernel/clock.ts";

export function createLostReport(run: Run, failure: Problem, verified: boolean): Run {
  return {
    ...run,
    state: "ended",
    outcome: "lost",
    failure,
    stop: { method: "killed", verified, ms: 0 },
    timings: { ...run.timings, endedAt: toTimestamp(Date.now()) },
  };
}
