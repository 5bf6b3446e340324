/** The runs and events on disk. The database lives on a worker thread; here its rows become runs and events again. */
import { Worker } from "node:worker_threads";
import { RunEvent } from "#contract/event";
import { Run } from "#contract/run";
import { within } from "../kernel/deadline.ts";
import { Fault } from "../kernel/fault.ts";
import type { EventText, JournalError, JournalReply, JournalRow } from "./journal-file.ts";
import type { JournalMessage, JournalOpening, JournalSaying } from "./journal-worker.ts";
import type { RunQuery } from "./run-store.ts";

/** Most events of one `append`. */
export const APPEND_MAX_EVENTS = 100;

/**
 * Every write resolves only after its commit is on disk. All calls throw Faults: `storage_full` when the disk refuses,
 * `draining` after disposal, `internal` when the journal is unusable or a row does not parse.
 */
export interface Journal extends AsyncDisposable {
  /** Why the journal can no longer be used, once its thread is gone. */
  readonly failure: Fault | undefined;
  /** `first` is numbered 1. `request` goes to disk as it is: the caller takes every secret out before. */
  createRun(run: Run, first: RunEvent, request: unknown): Promise<void>;
  /**
   * Writes events and the run's new report in one transaction; no events means the report alone.
   * Throws `run_not_found`, `wrong_state` after `run.ended`, `internal` for a gap in the numbers.
   */
  append(runId: string, events: readonly RunEvent[], run: Run): Promise<void>;
  /** Events after number `after` in order; fewer than `limit` when they are big, none when there are no more. */
  readEvents(runId: string, after: number, limit: number): Promise<RunEvent[]>;
  readRun(runId: string): Promise<Run | undefined>;
  /** Number of the last event, or undefined when there is no such run. */
  readLastSeq(runId: string): Promise<number | undefined>;
  /** Newest first; fewer than asked for when their results are long, none only when there are no more. */
  listRuns(query: RunQuery): Promise<Run[]>;
  /** Runs that have not ended, oldest first. */
  readOpenRuns(): Promise<Run[]>;
  /** Forgets an ended run and its events. Throws `run_not_found`, `wrong_state` while it is going on. */
  deleteRun(runId: string): Promise<void>;
  /** Writes something and waits for the disk. */
  check(): Promise<void>;
}

export type JournalOptions = {
  /** Path of the database file; its folder is made when missing and belongs to one instance at a time. */
  readonly file: string;
  readonly workerUrl?: URL;
  /** Called once when the thread dies; from then on every call rejects with this fault. */
  readonly onFailure?: (fault: Fault) => void;
};

const CLOSE_MAX_MS = 15_000;
const OLDEST_SQLITE = "3.51.3";

/** Throws `internal` when another instance holds the journal, a newer version wrote it, or it cannot be opened. */
export async function openJournal(options: JournalOptions): Promise<Journal> {
  refuseOldSqlite(process.versions.sqlite ?? "none");
  // No inherited flags and no environment: the thread needs neither, and secrets may be among them.
  const worker = new Worker(options.workerUrl ?? toWorkerUrl(import.meta.url), {
    name: "journal",
    workerData: { file: options.file },
    execArgv: [],
    env: {},
  });
  const opening = Promise.withResolvers<JournalOpening>();
  const onSaying = (saying: JournalOpening): void => opening.resolve(saying);
  const onEnd = (cause: unknown): void => opening.reject(toOpeningFault("unusable", cause));
  worker.once("message", onSaying).once("error", onEnd).once("exit", onEnd);
  try {
    const answer = await opening.promise;
    if (!answer.opened) throw toOpeningFault(answer.reason, new Error(answer.error));
  } finally {
    worker.off("error", onEnd).off("exit", onEnd);
  }
  return new WorkerJournal(worker, options.onFailure ?? (() => undefined));
}

/** Releases before 3.51.3 can corrupt a database in WAL mode. Throws `internal`. */
export function refuseOldSqlite(version: string): void {
  const numbers = version.split(".").map(Number);
  const oldest = OLDEST_SQLITE.split(".").map(Number);
  const differing = oldest.findIndex((number, at) => numbers[at] !== number);
  if (differing === -1 || Number(numbers[differing]) > Number(oldest[differing])) return;
  throw new Fault(
    "internal",
    `This Node carries SQLite ${version}; the journal needs ${OLDEST_SQLITE} or newer. Use a newer Node 24.`,
  );
}

class WorkerJournal implements Journal {
  readonly #worker: Worker;
  readonly #exited: Promise<void>;
  readonly #waiting = new Map<number, PromiseWithResolvers<readonly JournalRow[]>>();
  readonly #onFailure: (fault: Fault) => void;
  #nextId = 1;
  #failure: Fault | undefined;
  #closing: Promise<void> | undefined;

  constructor(worker: Worker, onFailure: (fault: Fault) => void) {
    this.#worker = worker;
    this.#onFailure = onFailure;
    const exited = Promise.withResolvers<void>();
    this.#exited = exited.promise;
    worker.on("message", (saying: JournalSaying) => {
      if ("replies" in saying) for (const reply of saying.replies) this.#settle(reply);
    });
    worker.on("error", (error) => this.#fail(error));
    worker.on("messageerror", (error) => this.#fail(error));
    worker.on("exit", (code) => {
      this.#fail(new Error(`the journal's thread ended with code ${code}`));
      exited.resolve();
    });
  }

  get failure(): Fault | undefined {
    return this.#failure;
  }

  async createRun(run: Run, first: RunEvent, request: unknown): Promise<void> {
    refuseMismatch(run.id, [first], run);
    await this.#ask({
      op: "create",
      runId: run.id,
      state: run.state,
      metadata: JSON.stringify(run.metadata),
      report: JSON.stringify(run),
      request: JSON.stringify(request ?? null),
      events: [toText(first)],
    });
  }

  async append(runId: string, events: readonly RunEvent[], run: Run): Promise<void> {
    refuseMismatch(runId, events, run);
    const report = JSON.stringify(run);
    await this.#ask({ op: "append", runId, state: run.state, report, events: events.map(toText) });
  }

  async readEvents(runId: string, after: number, limit: number): Promise<RunEvent[]> {
    const rows = await this.#ask({ op: "events", runId, after, limit });
    return rows.map(toEvent);
  }

  async readRun(runId: string): Promise<Run | undefined> {
    const [row] = await this.#ask({ op: "run", runId });
    return row === undefined ? undefined : toRun(row);
  }

  async readLastSeq(runId: string): Promise<number | undefined> {
    const [row] = await this.#ask({ op: "lastSeq", runId });
    return row?.seq;
  }

  async listRuns(query: RunQuery): Promise<Run[]> {
    const rows = await this.#ask({
      op: "list",
      before: query.before ?? "~", // sorts after every id
      state: query.state ?? null,
      metadata: JSON.stringify(query.metadata ?? {}),
      limit: query.limit,
    });
    return rows.map(toRun);
  }

  async readOpenRuns(): Promise<Run[]> {
    const rows = await this.#ask({ op: "open" });
    return rows.map(toRun);
  }

  async deleteRun(runId: string): Promise<void> {
    await this.#ask({ op: "delete", runId });
  }

  async check(): Promise<void> {
    await this.#ask({ op: "check" });
  }

  /** Writes all that was asked before, then closes; a thread that hangs on its disk is ended. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    if (this.#failure !== undefined) {
      await this.#worker.terminate();
      return;
    }
    const message: JournalMessage = { id: 0, request: { op: "close" } };
    this.#worker.postMessage(message);
    const late = (): Fault => new Fault("internal", "The journal did not close in time.");
    await within(CLOSE_MAX_MS, this.#exited, late).catch(() => this.#worker.terminate());
  }

  async #ask(request: Exclude<JournalMessage["request"], { op: "close" }>): Promise<readonly JournalRow[]> {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#closing !== undefined) throw new Fault("draining", "The journal is closed.");
    const id = this.#nextId++;
    const reply = Promise.withResolvers<readonly JournalRow[]>();
    this.#waiting.set(id, reply);
    const message: JournalMessage = { id, request };
    this.#worker.postMessage(message);
    return reply.promise;
  }

  #settle(reply: JournalReply): void {
    const waiting = this.#waiting.get(reply.id);
    this.#waiting.delete(reply.id);
    if ("rows" in reply) waiting?.resolve(reply.rows);
    else waiting?.reject(toReplyFault(reply.error));
  }

  #fail(cause: unknown): void {
    const isWanted = this.#closing !== undefined && this.#waiting.size === 0;
    if (this.#failure !== undefined || isWanted) return;
    const fault = new Fault("internal", "The journal is unusable; the service has to be started anew.", {
      cause,
    });
    this.#failure = fault;
    for (const { reject } of this.#waiting.values()) reject(fault);
    this.#waiting.clear();
    this.#onFailure(fault);
  }
}

function toWorkerUrl(from: string): URL {
  return new URL(from.endsWith(".ts") ? "./journal-worker.ts" : "./journal-worker.mjs", from);
}

/** Keeps report and events in step: what is written together must tell the same. */
function refuseMismatch(runId: string, events: readonly RunEvent[], run: Run): void {
  const last = events.at(-1);
  const isWrong =
    run.id !== runId ||
    events.length > APPEND_MAX_EVENTS ||
    (last !== undefined && run.lastSeq !== last.seq) ||
    (run.state === "ended") !== (last?.type === "run.ended");
  if (isWrong) throw new Fault("internal", `Events and report of run ${runId} do not belong together.`);
}

function toText(event: RunEvent): EventText {
  return { seq: event.seq, type: event.type, body: JSON.stringify(event) };
}

function toEvent({ runId, seq, text }: JournalRow): RunEvent {
  const parsed = RunEvent.safeParse(toJson(text));
  if (parsed.success && parsed.data.seq === seq) return parsed.data;
  throw new Fault("internal", `Event ${seq} of run ${runId} in the journal is damaged.`, {
    cause: parsed.error,
  });
}

function toRun({ runId, seq, text }: JournalRow): Run {
  const parsed = Run.safeParse(toJson(text));
  if (parsed.success && parsed.data.id === runId && parsed.data.lastSeq === seq) return parsed.data;
  throw new Fault("internal", `The report of run ${runId} at event ${seq} in the journal is damaged.`, {
    cause: parsed.error,
  });
}

function toJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // no schema takes it
  }
}

function toOpeningFault(reason: Exclude<JournalOpening, { opened: true }>["reason"], cause: unknown): Fault {
  const details = {
    in_use: "Another Pillion is using this data directory; stop it, or choose another one with PILLION_HOME.",
    newer: "The journal was written by a newer Pillion; start that version, or choose another directory.",
    foreign: "The journal's file belongs to another program; choose another directory.",
    unusable: "The journal cannot be opened; the log has the cause.",
  };
  return new Fault("internal", details[reason], { cause });
}

/** SQLite's primary result codes for a disk that does not take a write. */
const DISK_CODES: readonly number[] = [8 /* READONLY */, 10 /* IOERR */, 13 /* FULL */, 14 /* CANTOPEN */];

function toReplyFault({ message, errcode }: JournalError): Fault {
  const cause = new Error(`${message} (SQLite ${errcode})`);
  if (message === "run_not_found") return new Fault("run_not_found", "There is no such run.", { cause });
  if (message === "run_ended") return new Fault("wrong_state", "The run has ended.", { cause });
  if (message === "run_open") return new Fault("wrong_state", "The run has not ended.", { cause });
  if (DISK_CODES.includes(errcode & 0xff)) {
    return new Fault("storage_full", "The journal cannot be written; is the disk full?", { cause });
  }
  return new Fault("internal", "The journal refused; the log has the cause.", { cause });
}
