/** The life of a run: which moves lead from which state to which. */
import type { RunState } from "#contract/run";
import { Fault } from "../kernel/fault.ts";

export type RunMove = "prepare" | "start" | "wait" | "resume" | "stop" | "end";

/** What is not in this table cannot happen. A run that settles by itself ends without `stopping`. */
export const RUN_MOVES = {
  queued: { prepare: "preparing", stop: "stopping", end: "ended" },
  preparing: { start: "running", stop: "stopping", end: "ended" },
  running: { wait: "waiting", stop: "stopping", end: "ended" },
  waiting: { resume: "running", stop: "stopping", end: "ended" },
  stopping: { end: "ended" },
  ended: {},
} as const satisfies Record<RunState, Partial<Record<RunMove, RunState>>>;

/** The state after `move`, or undefined where the table has no such move. */
export function findNextState(from: RunState, move: RunMove): RunState | undefined {
  const moves: Partial<Record<RunMove, RunState>> = RUN_MOVES[from];
  return moves[move];
}

/** The state after `move`. Throws `wrong_state` where the table has no such move. */
export function nextState(from: RunState, move: RunMove): RunState {
  const to = findNextState(from, move);
  if (to === undefined) throw new Fault("wrong_state", `A run that is ${from} cannot ${move}.`);
  return to;
}
