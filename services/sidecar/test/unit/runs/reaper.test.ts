import { expect, test } from "vitest";
import type { Timers } from "../../../src/runs/limits.ts";
import { openReaper } from "../../../src/runs/reaper.ts";

/** Time that goes on when the test says so. */
class OwnTimers implements Timers {
  #waiting: { readonly atMs: number; readonly callback: () => void }[] = [];
  #nowMs = 0;

  now(): number {
    return this.#nowMs;
  }

  after(ms: number, callback: () => void): Disposable {
    const entry = { atMs: this.#nowMs + ms, callback };
    this.#waiting.push(entry);
    return {
      [Symbol.dispose]: () => {
        this.#waiting = this.#waiting.filter((other) => other !== entry);
      },
    };
  }

  /** Also lets what was started by it go on as far as it can. */
  async pass(ms: number): Promise<void> {
    this.#nowMs += ms;
    const due = this.#waiting.filter(({ atMs }) => atMs <= this.#nowMs);
    this.#waiting = this.#waiting.filter(({ atMs }) => atMs > this.#nowMs);
    for (const { callback } of due) callback();
    await new Promise((resolve) => setImmediate(resolve));
  }
}

function begin(reap: () => Promise<number>) {
  const timers = new OwnTimers();
  const told: unknown[] = [];
  const reaper = openReaper(
    {
      everyMs: 1_000,
      reap,
      onReaped: (count) => told.push(count),
      onFailure: (error) => told.push(error),
    },
    timers,
  );
  return { timers, told, reaper };
}

test("looks again and again, and tells only of what it removed", async () => {
  const counts = [0, 3, 0, 1];
  let looks = 0;
  const { timers, told } = begin(async () => counts[looks++] ?? 0);
  expect(looks).toBe(0); // the start has swept already
  for (let round = 0; round < 4; round += 1) await timers.pass(1_000);
  expect([looks, told]).toEqual([4, [3, 1]]);
});

test("tells of a failure once, and again only after it had worked", async () => {
  const failure = new Error("the engine is gone");
  const works = [false, false, true, false];
  let looks = 0;
  const { timers, told } = begin(async () => {
    if (works[looks++]) return 0;
    throw failure;
  });
  for (let round = 0; round < 4; round += 1) await timers.pass(1_000);
  expect([looks, told]).toEqual([4, [failure, failure]]);
});

test("waits for a look that takes long, and looks no more when it was disposed", async () => {
  const looks: PromiseWithResolvers<number>[] = [];
  const { timers, reaper } = begin(() => {
    const look = Promise.withResolvers<number>();
    looks.push(look);
    return look.promise;
  });
  for (let round = 0; round < 3; round += 1) await timers.pass(1_000);
  expect(looks).toHaveLength(1);
  looks[0]?.resolve(0);
  await timers.pass(0);
  await timers.pass(1_000);
  expect(looks).toHaveLength(2);
  reaper[Symbol.dispose]();
  looks[1]?.resolve(0);
  for (let round = 0; round < 3; round += 1) await timers.pass(1_000);
  expect(looks).toHaveLength(2);
});
