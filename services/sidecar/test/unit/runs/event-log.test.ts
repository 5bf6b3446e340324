import { setTimeout as sleep, setImmediate as turn } from "node:timers/promises";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { EventBody, RunEvent } from "#contract/event";
import { NO_EGRESS, type Run } from "#contract/run";
import { Fault } from "../../../src/kernel/fault.ts";
import {
  createEventLog,
  type EventLog,
  QUEUE_MAX_BODIES,
  QUEUE_MAX_CHARS,
  readToEnd,
} from "../../../src/runs/event-log.ts";
import type { Journal } from "../../../src/runs/journal.ts";

const RUN_ID = "run_00000000000000000000000001";

const noUsage = { inputTokens: 0, outputTokens: 0, cacheReadTokens: 0, costUsd: null, modelCalls: 0 };

function runNow(over: Partial<Run> = {}): Run {
  const timings = { createdAt: "2026-11-01T00:00:00.000Z", startedAt: null, endedAt: null };
  return {
    id: RUN_ID,
    state: "running",
    outcome: null,
    output: null,
    model: "demo/tour",
    demo: true,
    usage: noUsage,
    egress: NO_EGRESS,
    stopReason: null,
    exit: null,
    stop: null,
    receipt: null,
    harness: null,
    timings: {
      ...timings,
      queuedMs: null,
      sandboxMs: null,
      preparingMs: null,
      firstOutputMs: null,
      totalMs: null,
    },
    failure: null,
    metadata: {},
    lastSeq: 0,
    ...over,
  };
}

const started: EventBody = {
  type: "run.started",
  runId: RUN_ID,
  state: "queued",
  model: "demo/tour",
  demo: true,
};
const ended: EventBody = {
  type: "run.ended",
  runId: RUN_ID,
  outcome: "succeeded",
  output: null,
  stopReason: null,
  usage: noUsage,
  egress: NO_EGRESS,
  exit: null,
  stop: null,
  failure: null,
};
const delta = (text: string): EventBody => ({ type: "message.delta", text });

/** A journal in memory that answers late and in pages of any size. */
class MemoryJournal implements Journal {
  failure: Fault | undefined;
  readonly events: RunEvent[] = [];
  readonly calls: { events: number; report: Run }[] = [];
  request: unknown;
  refusal: Fault | undefined;
  gate: Promise<void> | undefined;
  readonly #delay: () => number;
  readonly #pageSize: () => number;

  constructor(delay: () => number = () => 0, pageSize: () => number = () => 100) {
    this.#delay = delay;
    this.#pageSize = pageSize;
  }

  async createRun(run: Run, first: RunEvent, request: unknown): Promise<void> {
    this.request = request;
    await this.append(run.id, [first], run);
  }

  async append(_runId: string, events: readonly RunEvent[], report: Run): Promise<void> {
    await this.#pause();
    await this.gate;
    if (this.refusal !== undefined) throw this.refusal;
    expect(report.lastSeq).toBe(events.at(-1)?.seq ?? this.events.length);
    for (const event of events) {
      expect(event.seq).toBe(this.events.length + 1);
      this.events.push(event);
    }
    this.calls.push({ events: events.length, report });
  }

  async readEvents(_runId: string, after: number, limit: number): Promise<RunEvent[]> {
    await this.#pause();
    const page = this.events.filter(({ seq }) => seq > after).slice(0, Math.min(limit, this.#pageSize()));
    await this.#pause();
    return page;
  }

  async readLastSeq(): Promise<number | undefined> {
    return this.events.at(-1)?.seq;
  }

  async readRun(): Promise<Run | undefined> {
    return undefined;
  }
  async listRuns(): Promise<Run[]> {
    return [];
  }
  async readOpenRuns(): Promise<Run[]> {
    return [];
  }
  async deleteRun(): Promise<void> {}
  async check(): Promise<void> {}
  async [Symbol.asyncDispose](): Promise<void> {}

  async #pause(): Promise<void> {
    const ms = this.#delay();
    if (ms > 0) await sleep(ms);
  }
}

async function openLog(journal: Journal, report: () => Run = runNow): Promise<EventLog> {
  const clock = { now: () => Date.UTC(2026, 10, 1) };
  return createEventLog({ journal, report, clock, first: started, request: { prompt: "p" } });
}

async function collect(events: AsyncIterable<RunEvent>): Promise<number[]> {
  const numbers: number[] = [];
  for await (const { seq } of events) numbers.push(seq);
  return numbers;
}

const oneTo = (last: number, from = 1): number[] =>
  Array.from({ length: last - from + 1 }, (_, at) => from + at);
const never = new AbortController().signal;

describe("appending to an event log", () => {
  it("writes the run with its first event, then numbers and dates what follows", async () => {
    const journal = new MemoryJournal();
    const log = await openLog(journal);
    await log.append(delta("a"));
    await log.append(ended);
    const at = "2026-11-01T00:00:00.000Z";
    expect(journal.request).toEqual({ prompt: "p" });
    expect(journal.events).toEqual([
      { seq: 1, at, ...started },
      { seq: 2, at, ...delta("a") },
      { seq: 3, at, ...ended },
    ]);
    expect(log.lastSeq).toBe(3);
  });

  it("keeps the order without awaiting, in calls of at most 100 events", async () => {
    const journal = new MemoryJournal();
    const log = await openLog(journal);
    const texts = Array.from({ length: 250 }, (_, at) => String(at));
    await Promise.all(texts.map((text) => log.append(delta(text))));
    expect(journal.events.slice(1).map((event) => ("text" in event ? event.text : ""))).toEqual(texts);
    expect(journal.calls.map(({ events }) => events)).toEqual([1, 100, 100, 50]);
  });

  it("stores with each call the report as it was at its last event", async () => {
    const journal = new MemoryJournal();
    let output = "";
    const log = await openLog(journal, () => runNow({ output }));
    for (let at = 1; at <= 150; at += 1) {
      output = String(at);
      void log.append(delta("x"));
    }
    output = "saved";
    await log.save();
    expect(journal.calls.map(({ report }) => [report.output, report.lastSeq])).toEqual([
      ["", 1],
      ["100", 101],
      ["saved", 151],
    ]);
  });

  it("resolves only after the journal has", async () => {
    const journal = new MemoryJournal();
    const log = await openLog(journal);
    const gate = Promise.withResolvers<void>();
    journal.gate = gate.promise;
    let isDurable = false;
    const written = log.append(delta("a")).then(() => {
      isDurable = true;
    });
    await turn();
    expect([isDurable, log.lastSeq]).toEqual([false, 1]);
    gate.resolve();
    await written;
    expect(log.lastSeq).toBe(2);
  });

  it("throws once run.ended is queued", async () => {
    const log = await openLog(new MemoryJournal());
    const end = log.append(ended);
    expect(() => log.append(delta("late"))).toThrow(expect.objectContaining({ code: "wrong_state" }));
    await end;
    expect(() => log.append(ended)).toThrow(expect.objectContaining({ code: "wrong_state" }));
    expect(() => log.save()).toThrow(expect.objectContaining({ code: "wrong_state" }));
  });

  it("refuses to queue more than its bounds, but always takes the end", async () => {
    const journal = new MemoryJournal();
    const log = await openLog(journal);
    const gate = Promise.withResolvers<void>();
    journal.gate = gate.promise;
    for (let at = 0; at < QUEUE_MAX_BODIES; at += 1) void log.append(delta("x"));
    expect(() => log.append(delta("one too many"))).toThrow(expect.objectContaining({ code: "internal" }));
    let isDrained = false;
    const drained = log.drained().then(() => {
      isDrained = true;
    });
    const end = log.append(ended);
    await turn();
    expect(isDrained).toBe(false);
    gate.resolve();
    await drained;
    await end;
    expect(journal.events).toHaveLength(QUEUE_MAX_BODIES + 2);
  });

  it("bounds the size of what waits, yet takes a single event of any size", async () => {
    const log = await openLog(new MemoryJournal());
    const big = log.append(delta("x".repeat(QUEUE_MAX_CHARS)));
    expect(() => log.append(delta("y"))).toThrow(expect.objectContaining({ code: "internal" }));
    await big;
    await log.append(delta("y"));
    await log.drained();
    expect(log.lastSeq).toBe(3);
  });

  it("rejects all that waits when a write fails, shows none of it, and takes up the numbers later", async () => {
    const journal = new MemoryJournal();
    const log = await openLog(journal);
    const full = new Fault("storage_full", "full");
    journal.refusal = full;
    const results = await Promise.allSettled([log.append(delta("a")), log.append(ended)]);
    expect(results).toEqual([
      { status: "rejected", reason: full },
      { status: "rejected", reason: full },
    ]);
    await expect(log.drained()).rejects.toBe(full);
    journal.refusal = undefined;
    await log.append(ended);
    expect(await collect(log.watch(0, never))).toEqual([1, 2]);
    await expect(log.drained()).rejects.toBe(full);
  });

  it("leaves no unhandled rejection when nobody awaits", async () => {
    const unhandled: unknown[] = [];
    const onUnhandled = (reason: unknown): void => void unhandled.push(reason);
    process.on("unhandledRejection", onUnhandled);
    const journal = new MemoryJournal();
    const log = await openLog(journal);
    journal.refusal = new Fault("storage_full", "full");
    void log.append(delta("a"));
    await turn();
    process.off("unhandledRejection", onUnhandled);
    expect(unhandled).toEqual([]);
  });
});

describe("watching an event log", () => {
  it("hands over from past to live without gap or duplicate, whatever the pages and delays", async () => {
    const small = fc.infiniteStream(fc.integer({ min: 0, max: 2 }));
    const sizes = fc.infiniteStream(fc.integer({ min: 1, max: 7 }));
    const watchers = fc.array(fc.record({ after: fc.nat({ max: 40 }), joinAt: fc.nat({ max: 40 }) }), {
      minLength: 1,
      maxLength: 6,
    });
    await fc.assert(
      fc.asyncProperty(small, sizes, watchers, fc.nat({ max: 40 }), async (delays, pages, joins, count) => {
        const next = <T>(stream: fc.Stream<T>): T => stream.next().value as T; // an infinite stream has a next
        const journal = new MemoryJournal(
          () => next(delays),
          () => next(pages),
        );
        const log = await openLog(journal);
        const seen: Promise<number[]>[] = [];
        for (let at = 0; at <= 40; at += 1) {
          for (const { after } of joins.filter(({ joinAt }) => joinAt === at)) {
            seen.push(collect(log.watch(after, never)));
          }
          if (at < count) void log.append(delta(String(at)));
          if (at === count) void log.append(ended);
          if (next(delays) === 2) await sleep(1);
        }
        const last = count + 2;
        const expected = joins
          .toSorted((a, b) => a.joinAt - b.joinAt)
          .map(({ after }) => oneTo(last, after + 1));
        expect(await Promise.all(seen)).toEqual(expected.map((numbers) => numbers.filter((n) => n <= last)));
      }),
      { numRuns: 60 },
    );
  });

  it("shows an event only after the journal has it", async () => {
    const journal = new MemoryJournal(() => 1);
    const log = await openLog(journal);
    const watching = (async () => {
      for await (const event of log.watch(0, never)) expect(journal.events).toContain(event);
    })();
    for (let at = 0; at < 50; at += 1) void log.append(delta("x"));
    void log.append(ended);
    await watching;
  });

  it("waits for a number that is not yet written", async () => {
    const log = await openLog(new MemoryJournal());
    const first = log.watch(5, never).next();
    for (let at = 0; at < 10; at += 1) await log.append(delta("x"));
    expect((await first).value).toMatchObject({ seq: 6 });
  });

  it("ends at once behind the end", async () => {
    const log = await openLog(new MemoryJournal());
    await log.append(ended);
    expect(await collect(log.watch(2, never))).toEqual([]);
    expect(await collect(log.watch(99, never))).toEqual([]);
  });

  it("throws cursor_expired where events are missing", async () => {
    const journal = new MemoryJournal();
    const log = await openLog(journal);
    await log.append(delta("a"));
    await log.append(ended);
    journal.events.splice(1, 1);
    const expired = expect.objectContaining({ code: "cursor_expired" });
    await expect(collect(log.watch(0, never))).rejects.toEqual(expired);
    await expect(collect(readToEnd(journal, RUN_ID, 0, never))).rejects.toEqual(expired);
    journal.events.splice(1, 1);
    await expect(collect(log.watch(1, never))).rejects.toEqual(expired);
  });

  it("wakes with the journal's failure", async () => {
    const journal = new MemoryJournal();
    const log = await openLog(journal);
    const watching = collect(log.watch(0, never));
    const broken = new Fault("internal", "broken");
    journal.refusal = broken;
    journal.failure = broken;
    void log.append(delta("x"));
    await expect(watching).rejects.toBe(broken);
  });

  it("leaves no listener behind when 100 watchers are aborted", async () => {
    const { signal, counts } = countedSignal();
    const log = await openLog(new MemoryJournal());
    const watching = Array.from({ length: 100 }, () => collect(log.watch(0, signal.watched)));
    await log.append(delta("a"));
    await turn();
    expect(counts.now).toBe(100);
    signal.source.abort();
    expect(await Promise.all(watching)).toEqual(watching.map(() => [1, 2]));
    expect(counts.now).toBe(0);
    expect(await collect(log.watch(0, signal.watched))).toEqual([]);
    expect(counts.now).toBe(0);
  });

  it("leaves one listener however often it was woken", async () => {
    const { signal, counts } = countedSignal();
    const log = await openLog(new MemoryJournal());
    const watching = collect(log.watch(0, signal.watched));
    for (let at = 0; at < 50; at += 1) {
      await log.append(delta("a"));
      await turn();
      expect(counts.now).toBeLessThanOrEqual(1);
    }
    signal.source.abort();
    expect(await watching).toEqual(oneTo(51));
    expect(counts.now).toBe(0);
  });
});

describe("reading an ended run to its end", () => {
  it("pages through all events after the cursor", async () => {
    const journal = new MemoryJournal();
    const log = await openLog(journal);
    await Promise.all(Array.from({ length: 230 }, () => log.append(delta("x"))));
    await log.append(ended);
    expect(await collect(readToEnd(journal, RUN_ID, 0, never))).toEqual(oneTo(232));
    expect(await collect(readToEnd(journal, RUN_ID, 200, never))).toEqual(oneTo(232, 201));
    expect(await collect(readToEnd(journal, RUN_ID, 232, never))).toEqual([]);
    expect(await collect(readToEnd(journal, RUN_ID, 999, never))).toEqual([]);
  });

  it("says when there is no such run, and ends on abort", async () => {
    const journal = new MemoryJournal();
    const missing = expect.objectContaining({ code: "run_not_found" });
    await expect(collect(readToEnd(journal, RUN_ID, 0, never))).rejects.toEqual(missing);
    const log = await openLog(journal);
    await log.append(ended);
    expect(await collect(readToEnd(journal, RUN_ID, 0, AbortSignal.abort()))).toEqual([]);
  });
});

/** A signal that counts who listens. */
function countedSignal() {
  const source = new AbortController();
  const counts = { now: 0 };
  const watched = source.signal;
  const listening = new Set<unknown>();
  const add = watched.addEventListener.bind(watched);
  const remove = watched.removeEventListener.bind(watched);
  watched.addEventListener = (...args: Parameters<typeof add>) => {
    listening.add(args[1]);
    counts.now = listening.size;
    add(...args);
  };
  watched.removeEventListener = (...args: Parameters<typeof remove>) => {
    listening.delete(args[1]);
    counts.now = listening.size;
    remove(...args);
  };
  return { signal: { source, watched }, counts };
}
