/** All runs of this instance: accepts them within capacity, starts them in order, answers for live and ended ones. */
import type { Readable } from "node:stream";
import type { RunEvent } from "#contract/event";
import type { ChangedFiles, Limits, Run, RunRequest } from "#contract/run";
import { type Profile, type ProfileContext, resolveProfile } from "../agents/profile.ts";
import type { Lease, LeaseParts } from "../broker/lease.ts";
import type { Harness } from "../harnesses/harness.ts";
import { systemClock } from "../kernel/clock.ts";
import { unlessAborted, within } from "../kernel/deadline.ts";
import { Fault, toFault } from "../kernel/fault.ts";
import type { PlaceList } from "../sandboxes/place-list.ts";
import type { PlaceKind, SandboxSpec } from "../sandboxes/sandbox.ts";
import { toSecretForms } from "../secret-forms.ts";
import { conduct } from "./conductor.ts";
import { createEventLog, readToEnd } from "./event-log.ts";
import type { Journal } from "./journal.ts";
import { refuseWithoutPrice } from "./known-price.ts";
import { type ClampedLimits, clampLimits } from "./limits.ts";
import { type ResultStore, readChangeList, readDiffText } from "./result-store.ts";
import { type AcceptDoor, ActiveRun } from "./run.ts";
import { type EgressContext, type RunEgress, resolveEgress } from "./run-egress.ts";
import { createRunId } from "./run-id.ts";
import { toStoredRequest } from "./run-input.ts";
import type { Readiness, RunQuery, RunStore } from "./run-store.ts";
import { toSandboxSpec } from "./sandbox-spec.ts";

export type RegistryOptions = {
  readonly journal: Journal;
  readonly results: ResultStore;
  readonly places: PlaceList;
  readonly harnesses: ReadonlyMap<string, Harness>;
  readonly profiles: ProfileContext;
  readonly concurrency: number;
  readonly queue: number;
  readonly ceiling: Limits & {
    readonly wallMs: number;
    readonly idleMs: number;
    readonly steps: number;
    readonly requests: number;
  };
  /** Most bytes of a run through its door. */
  readonly egressBytes: number;
  readonly egress: EgressContext;
  readonly broker: LeaseParts;
  readonly prepareMs: number;
  readonly pids: number;
  readonly workspaceBytes: number;
  readonly workspaceRoots: readonly string[];
  readonly referenceRoots: readonly string[];
  readonly allowedImages: readonly string[];
  readonly hasOpenNetwork: boolean;
  readonly protectedPaths: readonly string[];
  openDoor(lease: Lease): AcceptDoor;
  /** Adds secrets that nothing written down may show; disposing forgets them. */
  guardSecrets(secrets: readonly string[]): { redact<T>(value: T): T } & Disposable;
  /** A run has ended and its end is written down. */
  onEnd(run: Run): void;
  /** Why a run ended badly, with its cause: for the log. */
  onFailure(runId: string, fault: Fault): void;
  onCleanUpFailure(runId: string, error: unknown): void;
};

/** A request with everything decided that can be decided before it starts. */
type ResolvedRun = {
  readonly place: PlaceKind;
  readonly spec: SandboxSpec;
  readonly harness: Harness;
  readonly egress: RunEgress;
  readonly limits: ClampedLimits;
};

type Waiting = { readonly run: ActiveRun; start(): void };

const RETRY_AFTER_S = 5;
/** Less than a probe's patience, so that it hears what is wrong. */
const LOOK_MS = 700;
const KEEP_MS = 60_000;
/** Most time for a run that was told to stop, its results kept, until its end is written. */
const END_MS = 90_000;

export class RunRegistry implements RunStore {
  readonly #options: RegistryOptions;
  readonly #live = new Map<string, ActiveRun>();
  readonly #waiting: Waiting[] = [];
  #accepting = 0;
  #running = 0;
  #draining = false;

  constructor(options: RegistryOptions) {
    this.#options = options;
  }

  async create(request: RunRequest): Promise<Run> {
    const options = this.#options;
    // What can never work is told as such, also by a service that is busy.
    const harness = this.#findHarness(request);
    const profile = resolveProfile(request, options.profiles);
    const egress = resolveEgress(request, profile, options.egress);
    const limits = clampLimits(request.limits, options.ceiling);
    refuseWithoutPrice(limits, request, profile, options.profiles.isCostLimited);
    const place = await options.places.choose(request.sandbox);
    this.#refuseWhenFull();
    this.#accepting += 1;
    try {
      const id = createRunId();
      const spec = await toSandboxSpec(id, request, profile, place.kind, options);
      await place.admit?.(spec);
      const secrets = options.guardSecrets(toSecrets(request, egress, profile));
      const run = new ActiveRun({
        id,
        request,
        profile,
        createdMs: Date.now(),
        redact: (value) => secrets.redact(value),
      });
      await this.#record(run).catch((error: unknown) => {
        secrets[Symbol.dispose]();
        throw error;
      });
      this.#live.set(id, run);
      void run.ended.then(() => secrets[Symbol.dispose]());
      this.#enqueue(run, { place, spec, harness, egress, limits });
      return run.report();
    } finally {
      this.#accepting -= 1;
    }
  }

  async read(id: string): Promise<Run> {
    const run = await this.#options.journal.readRun(id);
    if (run === undefined) throw notFound();
    const live = this.#live.get(id);
    return live === undefined || run.state === "ended" ? run : { ...live.report(), lastSeq: run.lastSeq };
  }

  list(query: RunQuery): Promise<Run[]> {
    return this.#options.journal.listRuns(query);
  }

  watch(id: string, after: number, signal: AbortSignal): AsyncIterable<RunEvent> {
    const live = this.#live.get(id);
    return live === undefined
      ? readToEnd(this.#options.journal, id, after, signal)
      : live.log.watch(after, signal);
  }

  async waitForEnd(id: string, signal: AbortSignal): Promise<Run> {
    const live = this.#live.get(id);
    if (live !== undefined) await unlessAborted(live.ended, signal);
    return this.read(id);
  }

  async cancel(id: string): Promise<Run> {
    this.#live.get(id)?.stop(new Fault("cancelled", "The run was cancelled by its caller."));
    return this.read(id);
  }

  async remove(id: string): Promise<void> {
    if (this.#live.has(id)) throw new Fault("wrong_state", "The run is still going on; cancel it first.");
    await this.#options.journal.deleteRun(id);
    await this.#options.results.remove(id);
  }

  async readChanges(id: string): Promise<ChangedFiles> {
    const sandbox = await this.#liveSandbox(id);
    if (sandbox === undefined) return this.#options.results.readChanges(id);
    return { runId: id, ...(await readChangeList(await sandbox.openChanges())) };
  }

  async readDiff(id: string): Promise<string> {
    const sandbox = await this.#liveSandbox(id);
    if (sandbox === undefined) return this.#options.results.readDiff(id);
    return readDiffText(await sandbox.openDiff());
  }

  async openFile(id: string, path: string): Promise<{ size: number | null; stream: Readable }> {
    const sandbox = await this.#liveSandbox(id);
    if (sandbox === undefined) return this.#options.results.openFile(id, path);
    return { size: null, stream: await sandbox.openFile(path) };
  }

  async openTar(id: string): Promise<Readable> {
    const sandbox = await this.#liveSandbox(id);
    if (sandbox === undefined) return this.#options.results.openTar(id);
    return sandbox.openTar(this.#options.results.maxTarBytes);
  }

  async readiness(): Promise<Readiness> {
    const { journal, places } = this.#options;
    const late = () => new Fault("sandbox_unavailable", "does not answer in time");
    const [written, sandbox] = await Promise.all([
      journal.check().then(
        () => ({ ok: true, detail: "can be written" }),
        () => ({ ok: false, detail: "cannot be written" }),
      ),
      within(LOOK_MS, places.look(), late).then(
        () => ({ ok: places.inForce !== null, detail: places.inForce?.detail ?? toLack(places) }),
        (error: unknown) => ({ ok: false, detail: toFault(error).message }),
      ),
    ]);
    const checks = {
      accepting: { ok: !this.#draining, detail: this.#draining ? "shutting down" : "accepting runs" },
      journal: written,
      sandbox,
    };
    return { ready: Object.values(checks).every(({ ok }) => ok), checks };
  }

  /** Refuses new runs from now on; those that are going on get `graceMs`, then are stopped. Resolves when all have ended. */
  async drain(graceMs: number): Promise<void> {
    this.#draining = true;
    const runs = [...this.#live.values()];
    const ended = Promise.all(runs.map((run) => run.ended));
    const timer = setTimeout(() => {
      for (const run of runs)
        run.stop(new Fault("draining", "The service was shut down before the run was done."));
    }, graceMs);
    // A run whose end cannot be written (the disk is full) is told as lost by the next start.
    const late = () => new Fault("storage_full", "Some runs' ends could not be written down.");
    await within(graceMs + END_MS, ended, late).finally(() => clearTimeout(timer));
  }

  #refuseWhenFull(): void {
    if (this.#draining) {
      throw new Fault("draining", "The service is shutting down and takes no new runs.", {
        retryAfterS: RETRY_AFTER_S,
      });
    }
    const { concurrency, queue } = this.#options;
    if (this.#live.size + this.#accepting < concurrency + queue) return;
    const detail = `All ${concurrency} places are taken and ${queue} runs wait.`;
    throw new Fault("overloaded", detail, { retryAfterS: RETRY_AFTER_S });
  }

  #findHarness(request: RunRequest): Harness {
    const harness = this.#options.harnesses.get(request.harness);
    if (harness !== undefined) return harness;
    const known = [...this.#options.harnesses.keys()].join(", ");
    const message = `this version has no such harness; known: ${known}`;
    throw new Fault("invalid_request", `The harness "${request.harness}" cannot be used: ${message}.`, {
      errors: [{ path: "/harness", message }],
    });
  }

  async #record(run: ActiveRun): Promise<void> {
    const log = await createEventLog({
      journal: this.#options.journal,
      report: () => run.draft(),
      clock: systemClock,
      first: { type: "run.started", runId: run.id, state: "queued", model: run.model, demo: run.isDemo },
      request: toStoredRequest(run.request),
    });
    run.attach(log);
  }

  #enqueue(run: ActiveRun, resolved: ResolvedRun): void {
    const start = (): void => {
      this.#running += 1;
      void this.#conduct(run, resolved).finally(() => {
        this.#running -= 1;
        this.#live.delete(run.id);
        this.#options.onEnd(run.report());
        this.#startNext();
      });
    };
    this.#waiting.push({ run, start });
    run.stopped.addEventListener("abort", () => this.#leaveQueue(run), { once: true });
    this.#startNext();
  }

  #startNext(): void {
    while (this.#running < this.#options.concurrency) {
      const next = this.#waiting.shift();
      if (next === undefined) return;
      next.start();
    }
  }

  /** A run that is stopped while it waits ends without ever having had a sandbox. */
  #leaveQueue(run: ActiveRun): void {
    const index = this.#waiting.findIndex((waiting) => waiting.run === run);
    const [left] = index === -1 ? [] : this.#waiting.splice(index, 1);
    left?.start();
  }

  #conduct(
    run: ActiveRun,
    { place, spec, harness, egress, limits: { limits, clamped } }: ResolvedRun,
  ): Promise<void> {
    const { ceiling, egressBytes, broker, prepareMs, results, openDoor, onFailure, onCleanUpFailure } =
      this.#options;
    return conduct(run, {
      place,
      spec,
      harness,
      broker,
      egress,
      leaseLimits: {
        requests: limits.requests ?? ceiling.requests,
        bytes: egressBytes,
        tokens: limits.tokens,
        costUsd: limits.costUsd,
      },
      limits: {
        wallMs: limits.wallMs ?? ceiling.wallMs,
        idleMs: limits.idleMs ?? ceiling.idleMs,
        steps: limits.steps ?? ceiling.steps,
      },
      clamped: clamped.map((name) => `${name} ${limits[name]}`),
      prepareMs,
      keepMs: KEEP_MS,
      results,
      openDoor,
      onFailure: (fault) => onFailure(run.id, fault),
      onCleanUpFailure: (error) => onCleanUpFailure(run.id, error),
    });
  }

  /** The sandbox of a run that has one; undefined once it has ended. Throws run_not_found, wrong_state before there is one. */
  async #liveSandbox(id: string): Promise<ActiveRun["sandbox"]> {
    const run = await this.read(id);
    const live = this.#live.get(id);
    if (run.state === "ended" || live === undefined) return undefined;
    if (live.sandbox !== undefined && (run.state === "running" || run.state === "waiting"))
      return live.sandbox;
    throw new Fault("wrong_state", `The run is ${run.state}; its workspace cannot be read now.`, {
      retryAfterS: 1,
    });
  }
}

/** Also those that the run has no use for: nothing that a caller calls secret is written down. */
function toSecrets(request: RunRequest, egress: RunEgress, profile: Profile): string[] {
  const header = profile.endpoint.kind === "http" ? profile.endpoint.header : null;
  const held = [...(request.credentials ?? []), ...egress.credentials, ...(header === null ? [] : [header])];
  const values = held.flatMap(({ value }) => value ?? []);
  return [...new Set(values.flatMap(toSecretForms))];
}

function notFound(): Fault {
  return new Fault("run_not_found", "There is no such run.");
}

/** What is wrong with the engine is what an operator can mend from outside. */
function toLack({ probes }: PlaceList): string {
  const engine = probes.find(({ kind }) => kind === "docker");
  return engine === undefined ? "no sandbox can be had" : `no sandbox can be had: ${engine.detail}`;
}
