/** What the doors (HTTP and command line) may ask of runs; `run-registry.ts` is the real one. */
import type { Readable } from "node:stream";
import type { RunEvent } from "#contract/event";
import type { ChangedFiles, Run, RunRequest, RunState } from "#contract/run";

export type RunQuery = {
  /** At most this many, newest first. */
  readonly limit: number;
  /** Runs older than this id. */
  readonly before?: string;
  readonly state?: RunState;
  /** Every pair must be present on the run. */
  readonly metadata?: Readonly<Record<string, string>>;
};

export type Readiness = {
  readonly ready: boolean;
  readonly checks: Readonly<Record<string, { ok: boolean; detail: string }>>;
};

export interface RunStore {
  /**
   * Accepts a run; when this resolves, its first event is in the journal.
   * Throws Faults: invalid_request, forbidden, execution_disabled, overloaded, draining, storage_full, sandbox_unavailable, …
   */
  create(request: RunRequest): Promise<Run>;
  /** Throws run_not_found. */
  read(id: string): Promise<Run>;
  /** Newest first; may be fewer than asked for when their results are long, none only when there are no more. */
  list(query: RunQuery): Promise<Run[]>;
  /**
   * Events after number `after`, from the journal, past then live, ending itself after `run.ended`.
   * Pulls: nothing is buffered for a slow reader. Always ends when `signal` aborts.
   * Throws run_not_found, cursor_expired.
   */
  watch(id: string, after: number, signal: AbortSignal): AsyncIterable<RunEvent>;
  /** The run once it has ended; throws the signal's reason when that aborts first. */
  waitForEnd(id: string, signal: AbortSignal): Promise<Run>;
  /** Idempotent; the run comes back `stopping`, or ended if it already was. */
  cancel(id: string): Promise<Run>;
  /** Forgets an ended run and its files; throws wrong_state while it is going on. */
  remove(id: string): Promise<void>;
  /** What the run changed in its workspace, live or after its end. */
  readChanges(id: string): Promise<ChangedFiles>;
  /** One file; its size is null while the run goes on, because it may change. Throws not_found. */
  openFile(id: string, path: string): Promise<{ size: number | null; stream: Readable }>;
  /** All changed files as a tar stream. */
  openTar(id: string): Promise<Readable>;
  /** Unified diff of all changes. */
  readDiff(id: string): Promise<string>;
  readiness(): Promise<Readiness>;
}
