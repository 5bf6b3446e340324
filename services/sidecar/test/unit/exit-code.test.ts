// Exit codes: each end of a run is told apart, and only success is 0.
import { expect, test } from "vitest";
import { FailureCode } from "#contract/failure";
import { NO_EGRESS, type Run } from "#contract/run";
import { toExitCode, toFailureExitCode } from "../../src/exit-code.ts";
import { Fault, toProblem } from "../../src/kernel/fault.ts";

const ENDED: Run = {
  id: "run_00000000000000000000000000",
  state: "ended",
  outcome: "succeeded",
  output: "done",
  model: "demo/tour",
  demo: true,
  usage: { inputTokens: 1, outputTokens: 1, cacheReadTokens: 0, costUsd: null, modelCalls: 1 },
  egress: NO_EGRESS,
  stopReason: "stop",
  exit: { code: 0, signal: null, oom: false },
  stop: null,
  receipt: null,
  harness: null,
  timings: {
    createdAt: "2026-01-01T00:00:00.000Z",
    startedAt: null,
    endedAt: null,
    queuedMs: null,
    sandboxMs: null,
    preparingMs: null,
    firstOutputMs: null,
    totalMs: null,
  },
  failure: null,
  metadata: {},
  lastSeq: 2,
};

function failedWith(code: FailureCode, more: Partial<Run> = {}): Run {
  return { ...ENDED, outcome: "failed", failure: toProblem(new Fault(code, "why")), ...more };
}

test.each<[string, Run, number]>([
  ["success", ENDED, 0],
  ["a run that has not ended", { ...ENDED, state: "running", outcome: null }, 1],
  ["a model that refused", failedWith("model_refused"), 1],
  ["a used-up budget", failedWith("budget_exceeded", { outcome: "limit_exceeded" }), 1],
  ["a request that is not valid", failedWith("invalid_request"), 2],
  ["a used-up time", failedWith("deadline_exceeded", { outcome: "timed_out" }), 124],
  ["silence", failedWith("idle_timeout", { outcome: "timed_out" }), 124],
  ["no sandbox", failedWith("sandbox_unavailable"), 125],
  ["no isolation", failedWith("isolation_unavailable"), 125],
  ["a harness that did not start", failedWith("harness_not_started"), 126],
  ["a harness that is not there", failedWith("harness_unavailable"), 127],
  ["a cancelled run", failedWith("cancelled", { outcome: "cancelled" }), 130],
  ["a lost sandbox", failedWith("sandbox_lost"), 137],
  ["a lost run", failedWith("lost", { outcome: "lost" }), 137],
  ["no memory left", failedWith("out_of_memory"), 137],
  [
    "a kernel that killed",
    failedWith("harness_crashed", { exit: { code: null, signal: null, oom: true } }),
    137,
  ],
  ["a kill", failedWith("harness_crashed", { exit: { code: null, signal: "SIGKILL", oom: false } }), 137],
  ["a crash", failedWith("harness_crashed", { exit: { code: 1, signal: null, oom: false } }), 1],
  [
    "a timeout that ended in a kill",
    {
      ...failedWith("deadline_exceeded"),
      outcome: "timed_out",
      exit: { code: null, signal: "SIGKILL", oom: false },
    },
    124,
  ],
])("%s", (_name, run, code) => {
  expect(toExitCode(run)).toBe(code);
});

test("every failure has a code of the contract, and never 0", () => {
  for (const code of FailureCode.options)
    expect([1, 2, 124, 125, 126, 127, 130, 137]).toContain(toFailureExitCode(code));
});
