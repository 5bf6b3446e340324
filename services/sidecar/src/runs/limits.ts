/** The limits of one run: how long it may last, how long it may be silent, how many model calls it may make. */
import type { Limits } from "#contract/run";
import { Fault } from "../kernel/fault.ts";

const LIMIT_NAMES = ["wallMs", "idleMs", "steps", "requests", "tokens", "costUsd"] as const;

export type LimitName = (typeof LIMIT_NAMES)[number];

export type ClampedLimits = {
  readonly limits: Limits;
  /** The limits that were asked for higher than the ceiling, and lowered to it. */
  readonly clamped: readonly LimitName[];
};

/** What is in force: a request may only lower the operator's ceiling. A name missing in both is unlimited. */
export function clampLimits(requested: Limits | undefined, ceiling: Limits): ClampedLimits {
  const limits: Limits = {};
  const clamped: LimitName[] = [];
  for (const name of LIMIT_NAMES) {
    const asked = requested?.[name] ?? Number.POSITIVE_INFINITY;
    const most = ceiling[name] ?? Number.POSITIVE_INFINITY;
    const inForce = Math.min(asked, most);
    if (inForce < asked && Number.isFinite(asked)) clamped.push(name);
    if (Number.isFinite(inForce)) limits[name] = inForce;
  }
  return { limits, clamped };
}

/** Time that only goes forward, and one-shot timers on it; tests bring their own. */
export interface Timers {
  /** Milliseconds since some fixed moment; unmoved by changes of the system's clock. */
  now(): number;
  /** Calls back once after `ms`; dispose to cancel. Must not keep the process alive. */
  after(ms: number, callback: () => void): Disposable;
}

export const systemTimers: Timers = {
  now: () => performance.now(),
  after(ms, callback) {
    const timer = setTimeout(callback, ms).unref();
    return { [Symbol.dispose]: () => clearTimeout(timer) };
  },
};

/** setTimeout fires at once when asked for more. */
const TIMER_MAX_MS = 2 ** 31 - 1;

/** Watches one run's limits and tells about the first that is reached, once. */
export class LimitWatch implements Disposable {
  readonly #limits: Limits;
  readonly #onLimit: (fault: Fault) => void;
  readonly #timers: Timers;
  readonly #armed = new Map<"wallMs" | "idleMs", Disposable>();
  #lastTouch = 0;
  #steps = 0;
  #state: "new" | "watching" | "over" = "new";

  /** `onLimit` is called at most once, with deadline_exceeded, idle_timeout or budget_exceeded. */
  constructor(limits: Limits, onLimit: (fault: Fault) => void, timers: Timers = systemTimers) {
    this.#limits = limits;
    this.#onLimit = onLimit;
    this.#timers = timers;
  }

  /** Starts the clock of the run's whole time. Later calls do nothing. */
  start(): void {
    if (this.#state !== "new") return;
    this.#state = "watching";
    const startedAt = this.#timers.now();
    const { wallMs } = this.#limits;
    if (wallMs !== undefined) {
      this.#arm(
        "wallMs",
        wallMs,
        () => startedAt,
        () => toTimeFault("deadline_exceeded", wallMs),
      );
    }
  }

  /** The run gave a sign of life; the first one starts the clock of its silence. Cheap: no timer is touched later. */
  touch(): void {
    if (this.#state !== "watching") return;
    this.#lastTouch = this.#timers.now();
    const { idleMs } = this.#limits;
    if (idleMs === undefined || this.#armed.has("idleMs")) return;
    this.#arm(
      "idleMs",
      idleMs,
      () => this.#lastTouch,
      () => toTimeFault("idle_timeout", idleMs),
    );
  }

  /** Counts a model call that is about to be made; false when the run may not make it. */
  step(): boolean {
    if (this.#state === "over") return false;
    const most = this.#limits.steps;
    if (most === undefined || this.#steps < most) {
      this.#steps += 1;
      return true;
    }
    this.#reach(new Fault("budget_exceeded", `The run used up its limit "steps": ${most} model calls.`));
    return false;
  }

  [Symbol.dispose](): void {
    this.#state = "over";
    for (const timer of this.#armed.values()) timer[Symbol.dispose]();
    this.#armed.clear();
  }

  /** Fires `ms` after what `since` says by then; a timer that comes early (touched, or cut at the maximum) goes on. */
  #arm(name: "wallMs" | "idleMs", ms: number, since: () => number, toLimit: () => Fault): void {
    const leftMs = since() + ms - this.#timers.now();
    if (leftMs <= 0) {
      this.#reach(toLimit());
      return;
    }
    const again = (): void => this.#arm(name, ms, since, toLimit);
    this.#armed.set(name, this.#timers.after(Math.min(Math.ceil(leftMs), TIMER_MAX_MS), again));
  }

  #reach(fault: Fault): void {
    if (this.#state === "over") return;
    this[Symbol.dispose]();
    this.#onLimit(fault);
  }
}

function toTimeFault(code: "deadline_exceeded" | "idle_timeout", ms: number): Fault {
  const what = code === "deadline_exceeded" ? "was not done after" : "gave no sign of life for";
  return new Fault(
    code,
    `The run ${what} ${ms} ms, its limit "${code === "deadline_exceeded" ? "wallMs" : "idleMs"}".`,
  );
}
