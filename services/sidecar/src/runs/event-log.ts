/** One run's events: numbered, dated, on disk, and only then shown to whoever watches. */
import type { EventBody, RunEvent } from "#contract/event";
import type { Run } from "#contract/run";
import { type Clock, systemClock, toTimestamp } from "../kernel/clock.ts";
import { Fault, toFault } from "../kernel/fault.ts";
import { APPEND_MAX_EVENTS, type Journal } from "./journal.ts";

/** What may wait to be written; beyond it `append` throws, so callers wait for `drained()`. */
export const QUEUE_MAX_BODIES = 1000;
export const QUEUE_MAX_CHARS = 4 * 1024 * 1024;

const PAGE_EVENTS = 100;

export type EventLogOptions = {
  readonly journal: Journal;
  readonly runId: string;
  /** Number of the last event that is in the journal already. */
  readonly lastSeq: number;
  /** The run as it is now, never changed afterwards; asked in every `append`. Its `lastSeq` is set here. */
  readonly report: () => Run;
  readonly clock?: Clock;
};

type Queued = PromiseWithResolvers<void> & {
  /** Undefined: only the report is written. */
  readonly body: EventBody | undefined;
  readonly at: string;
  readonly run: Run;
  readonly chars: number;
};

/** Writes a new run with its first event and opens its log. `request` holds no secrets: it goes to disk. */
export async function createEventLog(
  options: Omit<EventLogOptions, "runId" | "lastSeq"> & {
    readonly first: EventBody;
    readonly request: unknown;
  },
): Promise<EventLog> {
  const { first, request, ...rest } = options;
  const clock = options.clock ?? systemClock;
  const run = { ...options.report(), lastSeq: 1 };
  await options.journal.createRun(run, toEvent(first, 1, toTimestamp(clock.now())), request);
  return new EventLog({ ...rest, runId: run.id, lastSeq: 1 });
}

export class EventLog {
  readonly #journal: Journal;
  readonly #runId: string;
  readonly #report: () => Run;
  readonly #clock: Clock;
  readonly #queue: Queued[] = [];
  readonly #watchers = new Wakers();
  readonly #drainers = new Wakers();
  #queuedChars = 0;
  #lastSeq: number;
  /** `closing` once run.ended waits in the queue, `ended` once it is on disk. */
  #state: "open" | "closing" | "ended" = "open";
  #isWriting = false;
  #failure: Fault | undefined;

  constructor(options: EventLogOptions) {
    this.#journal = options.journal;
    this.#runId = options.runId;
    this.#lastSeq = options.lastSeq;
    this.#report = options.report;
    this.#clock = options.clock ?? systemClock;
  }

  /** Number of the last event on disk. */
  get lastSeq(): number {
    return this.#lastSeq;
  }

  /**
   * Queues an event; resolves when it is on disk. Need not be awaited one by one: order is kept, `drained()` tells of
   * failures, and a rejection nobody awaits is not unhandled. A failed write rejects all that waits behind it; nothing
   * of it was shown, and a later append takes up the numbers.
   * Throws `wrong_state` after `run.ended`, `internal` when the queue is full (`run.ended` always has room).
   */
  append(body: EventBody): Promise<void> {
    if (this.#state !== "open") throw new Fault("wrong_state", "The run has ended.");
    const written = this.#enqueue(body, JSON.stringify(body).length);
    if (body.type === "run.ended") this.#state = "closing";
    return written;
  }

  /** Writes the run's report without an event, in order with the events. Throws `wrong_state` after `run.ended`. */
  save(): Promise<void> {
    if (this.#state !== "open") throw new Fault("wrong_state", "The run has ended.");
    return this.#enqueue(undefined, 0);
  }

  /** Resolves when the queue is at most half full. Rejects with the first write that ever failed. */
  async drained(): Promise<void> {
    while (this.#failure === undefined && this.#isHalfFull()) await this.#drainers.sleep();
    if (this.#failure !== undefined) throw this.#failure;
  }

  /**
   * Events after number `after`, past then live, pulled from the journal page by page; ends after `run.ended` and when
   * `signal` aborts (a watcher asleep is only woken by these). A number not yet written waits.
   * Throws `cursor_expired` when an event is missing, `internal` when the journal has failed.
   */
  async *watch(after: number, signal: AbortSignal): AsyncGenerator<RunEvent, void, undefined> {
    let cursor = after;
    while (!signal.aborted) {
      // Nothing is awaited between this comparison and falling asleep, so no wake-up can be lost.
      if (cursor < this.#lastSeq) {
        for (const event of await readPage(this.#journal, this.#runId, cursor)) {
          if (signal.aborted) return;
          yield event;
          cursor = event.seq;
        }
      } else if (this.#state === "ended") {
        return;
      } else if (this.#journal.failure !== undefined) {
        throw this.#journal.failure;
      } else {
        await this.#watchers.sleep(signal);
      }
    }
  }

  #enqueue(body: EventBody | undefined, chars: number): Promise<void> {
    if (body?.type !== "run.ended" && this.#isFull(chars)) {
      throw new Fault("internal", "Events come faster than they are waited for.");
    }
    const at = toTimestamp(this.#clock.now());
    const queued = { ...Promise.withResolvers<void>(), body, at, run: this.#report(), chars };
    queued.promise.catch(() => undefined);
    this.#queue.push(queued);
    this.#queuedChars += chars;
    if (!this.#isWriting) {
      this.#isWriting = true;
      queueMicrotask(() => this.#writeQueue()); // what is appended in the same breath goes along
    }
    return queued.promise;
  }

  async #writeQueue(): Promise<void> {
    while (this.#queue.length > 0) {
      const batch = this.#queue.slice(0, APPEND_MAX_EVENTS);
      try {
        await this.#write(batch);
        this.#leave(batch.length);
        for (const { resolve } of batch) resolve();
      } catch (error) {
        this.#giveUp(toFault(error));
      }
      this.#watchers.wake();
      this.#drainers.wake();
    }
    this.#isWriting = false;
  }

  async #write(batch: readonly Queued[]): Promise<void> {
    const events: RunEvent[] = [];
    for (const { body, at } of batch) {
      if (body !== undefined) events.push(toEvent(body, this.#lastSeq + events.length + 1, at));
    }
    const report = batch.at(-1)?.run ?? this.#report();
    const lastSeq = this.#lastSeq + events.length;
    await this.#journal.append(this.#runId, events, { ...report, lastSeq });
    this.#lastSeq = lastSeq;
    if (events.at(-1)?.type === "run.ended") this.#state = "ended";
  }

  #giveUp(fault: Fault): void {
    this.#failure ??= fault;
    if (this.#state === "closing") this.#state = "open";
    for (const { reject } of this.#leave(this.#queue.length)) reject(fault);
  }

  #leave(count: number): Queued[] {
    const left = this.#queue.splice(0, count);
    for (const { chars } of left) this.#queuedChars -= chars;
    return left;
  }

  #isFull(moreChars: number): boolean {
    const isTooMuch = this.#queuedChars > 0 && this.#queuedChars + moreChars > QUEUE_MAX_CHARS;
    return this.#queue.length >= QUEUE_MAX_BODIES || isTooMuch;
  }

  #isHalfFull(): boolean {
    return this.#queue.length > QUEUE_MAX_BODIES / 2 || this.#queuedChars > QUEUE_MAX_CHARS / 2;
  }
}

/**
 * The events of a run that has ended, after number `after`; ends after the last one and when `signal` aborts.
 * Throws `run_not_found`, and `cursor_expired` when an event is missing.
 */
export async function* readToEnd(
  journal: Journal,
  runId: string,
  after: number,
  signal: AbortSignal,
): AsyncGenerator<RunEvent, void, undefined> {
  const lastSeq = await journal.readLastSeq(runId);
  if (lastSeq === undefined) throw new Fault("run_not_found", "There is no such run.");
  for (let cursor = after; cursor < lastSeq; ) {
    for (const event of await readPage(journal, runId, cursor)) {
      if (signal.aborted) return;
      yield event;
      cursor = event.seq;
    }
  }
}

/** At least one event after `cursor`, where the caller knows that there is one. */
async function readPage(journal: Journal, runId: string, cursor: number): Promise<RunEvent[]> {
  const page = await journal.readEvents(runId, cursor, PAGE_EVENTS);
  const isWhole = page.length > 0 && page.every((event, at) => event.seq === cursor + 1 + at);
  if (!isWhole)
    throw new Fault("cursor_expired", `Events of this run after number ${cursor} are no longer kept.`);
  return page;
}

function toEvent(body: EventBody, seq: number, at: string): RunEvent {
  return { ...body, seq, at };
}

/** Sleepers that are all woken together; one that aborts leaves nothing behind. */
class Wakers {
  readonly #sleepers = new Set<() => void>();

  sleep(signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return Promise.resolve();
    const { promise, resolve } = Promise.withResolvers<void>();
    const wake = (): void => {
      this.#sleepers.delete(wake);
      signal?.removeEventListener("abort", wake);
      resolve();
    };
    this.#sleepers.add(wake);
    signal?.addEventListener("abort", wake, { once: true });
    return promise;
  }

  wake(): void {
    for (const wake of [...this.#sleepers]) wake();
  }
}
