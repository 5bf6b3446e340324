/** The report of a run whose end nobody saw. Pure. */
import type { Problem } from "#contract/failure";
import type { Run } from "#contract/run";
import { toTimestamp } from "../kernel/clock.ts";

export function createLostReport(run: Run, failure: Problem): Run {
  return {
    ...run,
    state: "ended",
    outcome: "lost",
    failure,
    stop: { method: "killed", verified: true, ms: 0 },
    timings: { ...run.timings, endedAt: toTimestamp(Date.now()) },
  };
}
