/** One run while it is going on: its state, what is known of it so far, and the one cause that may stop it. */
import type { Duplex } from "node:stream";
import type { EgressSummary } from "#contract/egress";
import type { EventBody } from "#contract/event";
import type { RunHarness } from "#contract/harness";
import {
  type Exit,
  NO_EGRESS,
  type Run,
  type RunOutcome,
  type RunRequest,
  type RunState,
  type Stop,
  type Usage,
} from "#contract/run";
import type { Receipt } from "#contract/sandbox";
import type { Profile } from "../agents/profile.ts";
import { toTimestamp } from "../kernel/clock.ts";
import { type Fault, toFault, toProblem } from "../kernel/fault.ts";
import type { Sandbox } from "../sandboxes/sandbox.ts";
import type { EventLog } from "./event-log.ts";
import { findNextState, nextState, type RunMove } from "./run-state.ts";

const FIRST_WAIT_MS = 250;
const MAX_WAIT_MS = 5_000;
const NO_USAGE: Usage = { inputTokens: 0, outputTokens: 0, cacheReadTokens: 0, costUsd: 0, modelCalls: 0 };

export type RunEnding = {
  readonly outcome: RunOutcome;
  readonly failure: Fault | null;
  readonly output: string | null;
  readonly stopReason: string | null;
  readonly exit: Exit | null;
  readonly stop: Stop | null;
};

export type ActiveRunOptions = {
  readonly id: string;
  readonly request: RunRequest;
  readonly profile: Profile;
  readonly createdMs: number;
  /** Takes the run's own secrets out of whatever is written down. */
  readonly redact: <T>(value: T) => T;
};

export class ActiveRun {
  readonly id: string;
  readonly request: RunRequest;
  readonly profile: Profile;
  /** Aborts with a Fault when the run is to stop; the first cause wins. */
  readonly stopped: AbortSignal;
  /** Resolves when `run.ended` is on disk. */
  readonly ended: Promise<void>;
  /** The live sandbox, while there is one. */
  sandbox: Sandbox | undefined;
  readonly #redact: <T>(value: T) => T;
  readonly #createdMs: number;
  readonly #stop = new AbortController();
  readonly #end = Promise.withResolvers<void>();
  #log: EventLog | undefined;
  #state: RunState = "queued";
  #usage = NO_USAGE;
  #egress: EgressSummary = NO_EGRESS;
  #receipt: Receipt | null = null;
  #harness: RunHarness | null = null;
  #startedMs: number | null = null;
  #sandboxMs: number | null = null;
  #promptedMs: number | null = null;
  #firstOutputMs: number | null = null;
  #stopAskedMs: number | null = null;
  #endedMs: number | null = null;
  #ending: RunEnding | null = null;
  #isEndWritten = false;

  constructor(options: ActiveRunOptions) {
    this.id = options.id;
    this.request = options.request;
    this.profile = options.profile;
    this.#redact = options.redact;
    this.#createdMs = options.createdMs;
    this.stopped = this.#stop.signal;
    this.ended = this.#end.promise;
  }

  get state(): RunState {
    return this.#state;
  }

  get log(): EventLog {
    if (this.#log === undefined) throw new Error("the run has no log yet");
    return this.#log;
  }

  get model(): string {
    return `${this.profile.model.provider}/${this.profile.model.name}`;
  }

  get isDemo(): boolean {
    return this.profile.endpoint.kind === "demo";
  }

  get stopAskedMs(): number | null {
    return this.#stopAskedMs;
  }

  attach(log: EventLog): void {
    this.#log = log;
  }

  move(move: RunMove): void {
    this.#state = nextState(this.#state, move);
    if (move === "prepare") this.#startedMs = Date.now();
    if (move === "start") this.#promptedMs = Date.now();
    this.log.save().catch(() => undefined); // a journal that fails ends the run at its next event
  }

  /** Asks the run to stop; later causes are ignored. */
  stop(cause: Fault): void {
    if (this.#stop.signal.aborted || this.#state === "ended") return;
    this.#stopAskedMs = Date.now();
    if (findNextState(this.#state, "stop") !== undefined) this.move("stop");
    this.#stop.abort(cause);
  }

  /** Writes an event down; slow disks slow the run, not the memory. */
  async tell(body: EventBody): Promise<void> {
    if (body.type === "usage") this.#usage = body.total;
    if (body.type === "message.delta") this.#firstOutputMs ??= Date.now();
    this.log.append(this.#redact(body)).catch(() => undefined); // drained() tells
    await this.log.drained();
  }

  /** What the harness has told of its calls. */
  get usage(): Usage {
    return this.#usage;
  }

  /** What the broker saw: it goes before what the harness says of itself. */
  noteEgress(egress: EgressSummary, usage: Usage): void {
    this.#egress = egress;
    this.#usage = usage;
  }

  async noteSandbox(sandbox: Sandbox): Promise<void> {
    this.sandbox = sandbox;
    this.#sandboxMs = Date.now();
    this.#receipt = sandbox.receipt;
  }

  /** Records and tells what isolation and which harness the run really has. */
  async notePlace(receipt: Receipt, harness: RunHarness): Promise<void> {
    this.#receipt = receipt;
    this.#harness = harness;
    const where = receipt.isolated
      ? `an isolated ${receipt.kind} sandbox`
      : "NO isolation, by the operator's setting";
    const text = `${harness.id} ${harness.version} runs in ${where}.`;
    const level = receipt.isolated ? "info" : "warning";
    await this.tell({ type: "notice", level, topic: "sandbox", text, receipt, harness });
  }

  /**
   * Writes the last event. Resolves when it is on disk; a full disk is waited for, and the run is `stopping` until then.
   * Rejects when the journal can never be written again; the next start then finds the run.
   */
  async end(ending: RunEnding): Promise<void> {
    try {
      for (
        let waitMs = FIRST_WAIT_MS;
        !(await this.#tryEnd(ending));
        waitMs = Math.min(waitMs * 2, MAX_WAIT_MS)
      ) {
        await new Promise((resolve) => setTimeout(resolve, waitMs));
      }
    } finally {
      this.#end.resolve();
    }
  }

  async #tryEnd(ending: RunEnding): Promise<boolean> {
    this.#state = "ended";
    this.#endedMs = Date.now();
    this.#ending = { ...ending, output: this.#redact(ending.output) };
    const { outcome, output, stopReason, exit, stop } = ending;
    const [usage, failure] = [this.#usage, this.#toFailure()];
    const last: EventBody = {
      type: "run.ended",
      runId: this.id,
      outcome,
      output,
      stopReason,
      usage,
      egress: this.#egress,
      exit,
      stop,
      failure,
    };
    try {
      await this.log.append(this.#redact(last));
      this.#isEndWritten = true;
      return true;
    } catch (error) {
      // What is not written was not: until it is, nobody is told of an end.
      this.#state = "stopping";
      this.#endedMs = null;
      this.#ending = null;
      if (toFault(error).code !== "storage_full") throw error;
      return false;
    }
  }

  /** The run as a caller sees it now: an end that is not on disk yet is none. `lastSeq` is the journal's to set. */
  report(): Run {
    const draft = this.draft();
    if (draft.state !== "ended" || this.#isEndWritten) return draft;
    const timings = { ...draft.timings, endedAt: null, totalMs: null };
    const nothing = { outcome: null, output: null, stopReason: null, exit: null, stop: null, failure: null };
    return { ...draft, ...nothing, state: "stopping", timings };
  }

  /** The run as it is to be written down, with its end. */
  draft(): Run {
    const ending = this.#ending;
    return {
      id: this.id,
      state: this.#state,
      outcome: ending?.outcome ?? null,
      output: ending?.output ?? null,
      model: this.model,
      demo: this.isDemo,
      usage: this.#usage,
      egress: this.#egress,
      stopReason: ending?.stopReason ?? null,
      exit: ending?.exit ?? null,
      stop: ending?.stop ?? null,
      receipt: this.#receipt,
      harness: this.#harness,
      timings: this.#toTimings(),
      failure: this.#toFailure(),
      metadata: this.request.metadata ?? {},
      lastSeq: this.#log?.lastSeq ?? 1,
    };
  }

  #toFailure(): Run["failure"] {
    const failure = this.#ending?.failure ?? null;
    return failure === null ? null : this.#redact(toProblem(failure, { runId: this.id }));
  }

  #toTimings(): Run["timings"] {
    const since = (from: number | null, to: number | null): number | null =>
      from === null || to === null ? null : to - from;
    return {
      createdAt: toTimestamp(this.#createdMs),
      startedAt: this.#startedMs === null ? null : toTimestamp(this.#startedMs),
      endedAt: this.#endedMs === null ? null : toTimestamp(this.#endedMs),
      queuedMs: since(this.#createdMs, this.#startedMs),
      sandboxMs: since(this.#startedMs, this.#sandboxMs),
      preparingMs: since(this.#startedMs, this.#promptedMs),
      firstOutputMs: since(this.#startedMs, this.#firstOutputMs),
      totalMs: since(this.#createdMs, this.#endedMs),
    };
  }
}

/** One connection from inside a sandbox to the sidecar. */
export type AcceptDoor = (connection: Duplex) => void;
