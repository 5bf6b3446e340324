import { describe, expect, it } from "vitest";
import type { Limits } from "#contract/run";
import type { Fault } from "../../../src/kernel/fault.ts";
import { clampLimits, LimitWatch, systemTimers, type Timers } from "../../../src/runs/limits.ts";

class ManualTimers implements Timers {
  #nowMs = 1000;
  readonly pending = new Set<{ at: number; callback: () => void }>();

  now(): number {
    return this.#nowMs;
  }

  after(ms: number, callback: () => void): Disposable {
    const timer = { at: this.#nowMs + ms, callback };
    this.pending.add(timer);
    return { [Symbol.dispose]: () => void this.pending.delete(timer) };
  }

  pass(ms: number): void {
    const until = this.#nowMs + ms;
    for (;;) {
      const due = [...this.pending].filter(({ at }) => at <= until).sort((a, b) => a.at - b.at)[0];
      if (due === undefined) break;
      this.pending.delete(due);
      this.#nowMs = due.at;
      due.callback();
    }
    this.#nowMs = until;
  }
}

function watch(limits: Limits) {
  const timers = new ManualTimers();
  const faults: string[] = [];
  const onLimit = (fault: Fault): void => void faults.push(`${fault.code}: ${fault.message}`);
  return { timers, faults, watch: new LimitWatch(limits, onLimit, timers) };
}

describe("clamped limits", () => {
  const ceiling = { wallMs: 1000, idleMs: 100, steps: 10 };

  it("are the operator's ceiling when nothing is asked for", () => {
    expect(clampLimits(undefined, ceiling)).toEqual({ limits: ceiling, clamped: [] });
    expect(clampLimits({}, ceiling)).toEqual({ limits: ceiling, clamped: [] });
  });

  it("are lowered by a request, name by name", () => {
    expect(clampLimits({ wallMs: 999, steps: 10 }, ceiling)).toEqual({
      limits: { wallMs: 999, idleMs: 100, steps: 10 },
      clamped: [],
    });
  });

  it("never rise above the ceiling, and say which were cut", () => {
    expect(clampLimits({ wallMs: 1001, idleMs: 1, steps: 11 }, ceiling)).toEqual({
      limits: { wallMs: 1000, idleMs: 1, steps: 10 },
      clamped: ["wallMs", "steps"],
    });
  });

  it("take what is asked where the operator set no ceiling", () => {
    expect(clampLimits({ wallMs: 5 }, { steps: 2 })).toEqual({
      limits: { wallMs: 5, steps: 2 },
      clamped: [],
    });
    expect(clampLimits(undefined, {})).toEqual({ limits: {}, clamped: [] });
  });
});

describe("a limit watch", () => {
  it("tells once that the time is used up, however lively the run is", () => {
    const { timers, faults, watch: limits } = watch({ wallMs: 1000, idleMs: 300 });
    limits.start();
    for (let at = 0; at < 20; at += 1) {
      timers.pass(100);
      limits.touch();
    }
    expect(faults).toEqual(['deadline_exceeded: The run was not done after 1000 ms, its limit "wallMs".']);
    expect(timers.pending.size).toBe(0);
  });

  it("tells that the run is silent, counted from its last sign of life", () => {
    const { timers, faults, watch: limits } = watch({ idleMs: 300 });
    limits.start();
    timers.pass(1000); // being set up is not silence
    limits.touch();
    timers.pass(299);
    limits.touch();
    timers.pass(299);
    limits.touch();
    timers.pass(299);
    expect(faults).toEqual([]);
    timers.pass(1);
    expect(faults).toEqual(['idle_timeout: The run gave no sign of life for 300 ms, its limit "idleMs".']);
  });

  it("allows exactly as many model calls as asked", () => {
    const { faults, watch: limits } = watch({ steps: 2 });
    limits.start();
    expect([limits.step(), limits.step()]).toEqual([true, true]);
    expect(faults).toEqual([]);
    expect([limits.step(), limits.step()]).toEqual([false, false]);
    expect(faults).toEqual(['budget_exceeded: The run used up its limit "steps": 2 model calls.']);
  });

  it("tells only the first limit that is reached", () => {
    const { timers, faults, watch: limits } = watch({ wallMs: 100, idleMs: 100, steps: 1 });
    limits.start();
    limits.touch();
    timers.pass(1000);
    expect(faults).toHaveLength(1);
    expect(limits.step()).toBe(false);
    expect(faults).toHaveLength(1);
  });

  it("is silent before its start and after its disposal", () => {
    const { timers, faults, watch: limits } = watch({ wallMs: 100, idleMs: 100 });
    timers.pass(1000);
    limits.touch();
    limits.start();
    limits.start();
    limits.touch();
    limits.touch();
    expect(timers.pending.size).toBe(2);
    limits[Symbol.dispose]();
    timers.pass(1000);
    limits.start();
    limits.touch();
    expect(faults).toEqual([]);
    expect(timers.pending.size).toBe(0);
  });

  it("waits for limits longer than a timer can be", () => {
    const month = 2 ** 31 + 1000;
    const { timers, faults, watch: limits } = watch({ wallMs: month });
    limits.start();
    timers.pass(month - 1);
    expect(faults).toEqual([]);
    timers.pass(1);
    expect(faults).toHaveLength(1);
  });

  it("sets no limit where none is asked for", () => {
    const { timers, faults, watch: limits } = watch({});
    limits.start();
    timers.pass(1e9);
    for (let call = 0; call < 1000; call += 1) expect(limits.step()).toBe(true);
    expect(faults).toEqual([]);
  });

  it("runs on the real clock", async () => {
    const limit = Promise.withResolvers<Fault>();
    using limits = new LimitWatch({ idleMs: 20 }, limit.resolve, systemTimers);
    limits.start();
    limits.touch();
    const hold = setTimeout(() => limit.reject(new Error("no limit in 5 s")), 5000);
    const fault = await limit.promise;
    clearTimeout(hold);
    expect(fault.code).toBe("idle_timeout");
  });
});
