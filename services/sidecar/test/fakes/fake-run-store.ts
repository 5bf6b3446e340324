/** A RunStore in memory whose runs end when the test says so. */
import { EventEmitter, once } from "node:events";
import { Readable } from "node:stream";
import type { EventBody, RunEvent } from "#contract/event";
import { type ChangedFiles, NO_EGRESS, type Run, type RunOutcome, type RunRequest } from "#contract/run";
import { Fault } from "../../src/kernel/fault.ts";
import type { Readiness, RunQuery, RunStore } from "../../src/runs/run-store.ts";

const AT = "2026-01-02T03:04:05.678Z";
const ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz";

type Entry = { run: Run; readonly events: RunEvent[]; readonly request: RunRequest };

export class FakeRunStore implements RunStore {
  /** What was created, in order. */
  readonly requests: RunRequest[] = [];
  readonly cancelled: string[] = [];
  /** Thrown by the next call of anything. */
  failure: unknown;
  /** Events up to this number count as no longer kept. */
  expiredUntil = 0;
  ready: Readiness = { ready: true, checks: { journal: { ok: true, detail: "writable" } } };
  files = new Map<string, Uint8Array>();
  /** Bytes promised by `openFile` beyond those that come. */
  missingBytes = 0;
  watching = 0;
  /** Events taken by watchers. */
  pulled = 0;
  /** Called with each new run's id. */
  onCreate: (id: string) => void = () => undefined;

  readonly #entries = new Map<string, Entry>();
  readonly #changed = new EventEmitter().setMaxListeners(0);

  async create(request: RunRequest): Promise<Run> {
    this.#fail();
    const id = toId(this.#entries.size);
    const model = typeof request.model === "string" ? request.model : (request.model?.name ?? "demo/tour");
    this.requests.push(request);
    this.#entries.set(id, { run: toRun(id, model, request.metadata ?? {}), events: [], request });
    this.emit(id, { type: "run.started", runId: id, state: "queued", model, demo: false });
    const run = this.#entry(id).run;
    this.onCreate(id);
    return run;
  }

  async read(id: string): Promise<Run> {
    this.#fail();
    return this.#entry(id).run;
  }

  async list(query: RunQuery): Promise<Run[]> {
    this.#fail();
    return [...this.#entries.values()]
      .map(({ run }) => run)
      .reverse()
      .filter((run) => query.before === undefined || run.id < query.before)
      .filter((run) => query.state === undefined || run.state === query.state)
      .filter((run) =>
        Object.entries(query.metadata ?? {}).every(([key, value]) => run.metadata[key] === value),
      )
      .slice(0, query.limit);
  }

  async *watch(id: string, after: number, signal: AbortSignal): AsyncGenerator<RunEvent> {
    this.#fail();
    if (after < this.expiredUntil) throw new Fault("cursor_expired", "These events are no longer kept.");
    const entry = this.#entry(id);
    this.watching += 1;
    try {
      for (let next = after; ; ) {
        const event = entry.events[next];
        if (event === undefined) {
          if (entry.run.state === "ended") return;
          await once(this.#changed, id, { signal });
          this.#fail();
          continue;
        }
        next += 1;
        this.pulled += 1;
        yield event;
        signal.throwIfAborted();
      }
    } finally {
      this.watching -= 1;
    }
  }

  async waitForEnd(id: string, signal: AbortSignal): Promise<Run> {
    while (this.#entry(id).run.state !== "ended") {
      signal.throwIfAborted();
      try {
        await once(this.#changed, id, { signal });
      } catch {
        throw signal.reason;
      }
    }
    return this.#entry(id).run;
  }

  async cancel(id: string): Promise<Run> {
    this.#fail();
    const entry = this.#entry(id);
    this.cancelled.push(id);
    if (entry.run.state !== "ended") entry.run = { ...entry.run, state: "stopping" };
    return entry.run;
  }

  async remove(id: string): Promise<void> {
    this.#fail();
    if (this.#entry(id).run.state !== "ended") throw new Fault("wrong_state", "The run is still going on.");
    this.#entries.delete(id);
  }

  async readChanges(id: string): Promise<ChangedFiles> {
    this.#fail();
    this.#entry(id);
    const files = [...this.files].map(([path, bytes]) => ({
      path,
      change: "added" as const,
      kind: "file" as const,
      size: bytes.byteLength,
      executable: false,
    }));
    return { runId: id, files, truncated: false };
  }

  async openFile(id: string, path: string): Promise<{ size: number; stream: Readable }> {
    this.#fail();
    this.#entry(id);
    const bytes = this.files.get(path);
    if (bytes === undefined) throw new Fault("not_found", "The run has no such file.");
    return { size: bytes.byteLength + this.missingBytes, stream: Readable.from([Buffer.from(bytes)]) };
  }

  async openTar(id: string): Promise<Readable> {
    this.#fail();
    this.#entry(id);
    return Readable.from([Buffer.from("tar of "), Buffer.from(id)]);
  }

  async readDiff(id: string): Promise<string> {
    this.#fail();
    this.#entry(id);
    return "--- a/x\n+++ b/x\n";
  }

  async readiness(): Promise<Readiness> {
    this.#fail();
    return this.ready;
  }

  /** Writes an event as the conductor would. */
  emit(id: string, body: EventBody): void {
    const entry = this.#entry(id);
    const seq = entry.events.length + 1;
    entry.events.push({ ...body, seq, at: AT } as RunEvent); // a body and its envelope make the event
    entry.run = { ...entry.run, lastSeq: seq };
    this.#changed.emit(id);
  }

  /** Ends the run with its last event. */
  end(id: string, outcome: RunOutcome = "succeeded", output: string | null = "done"): void {
    const { run } = this.#entry(id);
    this.#entry(id).run = { ...run, state: "ended", outcome, output };
    const { usage, exit, stop, failure } = run;
    this.emit(id, {
      type: "run.ended",
      runId: id,
      outcome,
      output,
      stopReason: "stop",
      usage,
      egress: NO_EGRESS,
      exit,
      stop,
      failure,
    });
  }

  /** Wakes the run's watchers, so that a `failure` set before reaches them. */
  wake(id: string): void {
    this.#changed.emit(id);
  }

  #entry(id: string): Entry {
    const entry = this.#entries.get(id);
    if (entry === undefined) throw new Fault("run_not_found", "There is no such run.");
    return entry;
  }

  #fail(): void {
    const { failure } = this;
    this.failure = undefined;
    if (failure !== undefined) throw failure;
  }
}

/** The id of the nth run of a fake store, from 0. */
export function toId(index: number): string {
  return `run_${"0".repeat(24)}${ALPHABET[Math.floor(index / 32) % 32]}${ALPHABET[index % 32]}`;
}

function toRun(id: string, model: string, metadata: Record<string, string>): Run {
  return {
    id,
    state: "running",
    outcome: null,
    output: null,
    model,
    demo: false,
    usage: { inputTokens: 0, outputTokens: 0, cacheReadTokens: 0, costUsd: null, modelCalls: 0 },
    egress: NO_EGRESS,
    stopReason: null,
    exit: null,
    stop: null,
    receipt: null,
    harness: null,
    timings: {
      createdAt: AT,
      startedAt: null,
      endedAt: null,
      queuedMs: null,
      sandboxMs: null,
      preparingMs: null,
      firstOutputMs: null,
      totalMs: null,
    },
    failure: null,
    metadata,
    lastSeq: 0,
  };
}
