import { describe, expect, it } from "vitest";
import { RunState } from "#contract/run";
import { findNextState, nextState, type RunMove } from "../../../src/runs/run-state.ts";

const MOVES: readonly RunMove[] = ["prepare", "start", "wait", "resume", "stop", "end"];

const TABLE: Record<RunState, Record<RunMove, RunState | undefined>> = {
  queued: row({ prepare: "preparing", stop: "stopping", end: "ended" }),
  preparing: row({ start: "running", stop: "stopping", end: "ended" }),
  running: row({ wait: "waiting", stop: "stopping", end: "ended" }),
  waiting: row({ resume: "running", stop: "stopping", end: "ended" }),
  stopping: row({ end: "ended" }),
  ended: row({}),
};

function row(moves: Partial<Record<RunMove, RunState>>): Record<RunMove, RunState | undefined> {
  const none = { prepare: undefined, start: undefined, wait: undefined, resume: undefined };
  return { ...none, stop: undefined, end: undefined, ...moves };
}

describe("the states of a run", () => {
  for (const from of RunState.options) {
    for (const move of MOVES) {
      const to = TABLE[from][move];
      if (to === undefined) {
        it(`refuse that a run that is ${from} should ${move}`, () => {
          expect(findNextState(from, move)).toBe(undefined);
          expect(() => nextState(from, move)).toThrow(
            expect.objectContaining({
              code: "wrong_state",
              message: `A run that is ${from} cannot ${move}.`,
            }),
          );
        });
      } else {
        it(`lead from ${from} by ${move} to ${to}`, () => {
          expect(findNextState(from, move)).toBe(to);
          expect(nextState(from, move)).toBe(to);
        });
      }
    }
  }

  it("all lead to the end, and nothing leads out of it", () => {
    const open = RunState.options.filter((state) => state !== "ended");
    expect(open.map((state) => nextState(state, "end"))).toEqual(open.map(() => "ended"));
    expect(MOVES.map((move) => findNextState("ended", move))).toEqual(MOVES.map(() => undefined));
  });
});
