/** The story of one run: lease, sandbox, harness, events, end. Everything below throws Faults; here they become the end. */
import type { Run, Stop, Usage } from "#contract/run";
import { toDoorEnvironment } from "../broker/door-environment.ts";
import { Lease, type LeaseLimits, type LeaseParts } from "../broker/lease.ts";
import type { Harness, HarnessStop, OpenHarness, PromptEnd, StartedHarness } from "../harnesses/harness.ts";
import { openDeadline, unlessAborted, within } from "../kernel/deadline.ts";
import { Fault, toFault } from "../kernel/fault.ts";
import { toMoney } from "../model-price.ts";
import { openSandbox } from "../sandboxes/open-sandbox.ts";
import { toReferenceFiles } from "../sandboxes/references.ts";
import type { PlaceKind, Sandbox, SandboxSpec } from "../sandboxes/sandbox.ts";
import { LimitWatch } from "./limits.ts";
import type { ResultStore } from "./result-store.ts";
import type { AcceptDoor, ActiveRun, RunEnding } from "./run.ts";
import type { RunEgress } from "./run-egress.ts";
import { toInstructions, toPrompt, toSkillFiles, toWorkspaceFiles } from "./run-input.ts";

export type ConductorParts = {
  readonly place: PlaceKind;
  readonly spec: SandboxSpec;
  readonly harness: Harness;
  readonly limits: { readonly wallMs: number; readonly idleMs: number; readonly steps: number };
  readonly broker: LeaseParts;
  readonly egress: RunEgress;
  readonly leaseLimits: LeaseLimits;
  /** The limits that were asked for higher than the operator allows, each with what is in force. */
  readonly clamped: readonly string[];
  /** Most time from the start to the prompt. */
  readonly prepareMs: number;
  /** Most time for taking the changes out: a guard that was taken over may begin an answer and never end it. */
  readonly keepMs: number;
  readonly results: ResultStore;
  /** Serves what comes through the lease's door. */
  openDoor(lease: Lease): AcceptDoor;
  /** Why the run ended badly, with its cause: for the log. */
  onFailure(fault: Fault): void;
  onCleanUpFailure(error: unknown): void;
};

/** Takes a run from its start to its last event. Never throws. */
export async function conduct(run: ActiveRun, parts: ConductorParts): Promise<void> {
  const ending = await perform(run, parts).catch((thrown: unknown) => toEnding(run, toFault(thrown)));
  if (ending.failure !== null) parts.onFailure(ending.failure);
  await run.end(ending).catch(parts.onCleanUpFailure);
}

async function perform(run: ActiveRun, parts: ConductorParts): Promise<RunEnding> {
  run.move("prepare");
  using limits = new LimitWatch(parts.limits, (fault) => run.stop(fault));
  limits.start();
  const lease = openLease(run, parts, limits);
  await using held = new AsyncDisposableStack();
  held.defer(() => settleLease(run, lease));
  using setUp = openDeadline(parts.prepareMs, () => toLateFault(run), run.stopped);
  const sandbox = await openSandbox(parts.place, parts.spec, parts.openDoor(lease), setUp.signal);
  await run.noteSandbox(sandbox);
  let harness: StartedHarness | undefined;
  try {
    const starting = startHarness(run, sandbox, lease, parts).then((started) => {
      harness = started;
      return prepare(run, sandbox, started, lease, parts);
    });
    const open = await unlessAborted(Promise.race([starting, sandbox.lost]), setUp.signal);
    run.move("start");
    limits.touch(); // from here on silence counts; setting up has its own deadline
    const prompted = pump(run, open.prompt(toPrompt(run.request)), limits);
    const end = await unlessAborted(Promise.race([prompted, sandbox.lost]), run.stopped);
    lease.end();
    return toEnding(run, end.failure, end, await windDown(run, sandbox, harness, parts));
  } catch (thrown) {
    lease.end();
    return toEnding(run, toFault(thrown), null, await windDown(run, sandbox, harness, parts));
  }
}

/** By how far it came: a run without a sandbox waits for the machine, one with a sandbox for its harness. */
function toLateFault(run: ActiveRun): Fault {
  if (run.sandbox === undefined)
    return new Fault("sandbox_unavailable", "The sandbox could not be set up in time.", { retryable: true });
  return new Fault("harness_not_started", "The run could not be set up in time.");
}

/** What the run may spend and reach. It ends with the run, at once; what was going on then is written down. */
function openLease(
  run: ActiveRun,
  { broker, egress, leaseLimits }: ConductorParts,
  limits: LimitWatch,
): Lease {
  const { model, endpoint } = run.profile;
  const lease = new Lease(
    {
      runId: run.id,
      model: model.name,
      api: model.api,
      upstream: endpoint,
      price: model.price,
      maxTokens: model.maxTokens,
      egress: egress.rules,
      patterns: egress.patterns,
      credentials: egress.credentials,
      limits: leaseLimits,
      onModelCall: () => !run.stopped.aborted && limits.step(),
      onExceeded: (fault) => run.stop(fault),
      tell: (event) => run.tell(event),
    },
    broker,
  );
  run.stopped.addEventListener("abort", () => lease.end(), { once: true });
  return lease;
}

/** The broker's own account goes before what a harness says of itself. */
async function settleLease(run: ActiveRun, lease: Lease): Promise<void> {
  await lease.settle();
  const told = run.usage;
  const seen = toUsage(lease, told.modelCalls);
  run.noteEgress(lease.audit.summary(), seen);
  const { doubtedCalls } = lease;
  if (doubtedCalls > 0) {
    const text = `The provider reported far less than ${doubtedCalls} of the model calls showed; the estimate was counted.`;
    await run.tell({ type: "notice", level: "warning", topic: "usage", text }).catch(() => undefined);
  }
  if (run.stopped.aborted || isSameUsage(told, seen)) return;
  const text = `The harness told of ${toWords(told)}; the broker saw ${toWords(seen)}, which counts.`;
  await run.tell({ type: "notice", level: "warning", topic: "usage", text }).catch(() => undefined);
}

function toUsage({ budget }: Lease, modelCalls: number): Usage {
  const { inputTokens, outputTokens, cacheReadTokens, costUsd, calls } = budget.used;
  return {
    ...{ inputTokens, outputTokens, cacheReadTokens },
    costUsd: costUsd === null ? null : toMoney(costUsd),
    modelCalls: Math.max(calls, modelCalls),
  };
}

function isSameUsage(one: Usage, other: Usage): boolean {
  return (["inputTokens", "outputTokens", "cacheReadTokens"] as const).every(
    (name) => one[name] === other[name],
  );
}

function toWords({ inputTokens, outputTokens, cacheReadTokens }: Usage): string {
  return `${inputTokens} tokens of input, ${outputTokens} of output and ${cacheReadTokens} read from the cache`;
}

/** The harness starts, closed, while the workspace is being filled: it does nothing before its claim. */
async function startHarness(
  run: ActiveRun,
  sandbox: Sandbox,
  { placeholder, credentials }: Lease,
  parts: ConductorParts,
): Promise<StartedHarness> {
  const filled = fillSandbox(run, sandbox, parts.spec);
  filled.catch(() => undefined);
  const env = toDoorEnvironment({
    port: sandbox.doorPort,
    placeholder,
    credentials,
    isProxy: parts.spec.network === "none",
  });
  const started = await parts.harness.start(sandbox, { tools: run.profile.tools, env, signal: run.stopped });
  await filled;
  return started;
}

async function fillSandbox(run: ActiveRun, sandbox: Sandbox, { references }: SandboxSpec): Promise<void> {
  await sandbox.fill("workspace", toWorkspaceFiles(run.request));
  await sandbox.fill("references", toReferenceFiles(references));
  await sandbox.fill("home", toSkillFiles(run.profile.skills));
  await sandbox.seal();
}

async function prepare(
  run: ActiveRun,
  sandbox: Sandbox,
  harness: StartedHarness,
  lease: Lease,
  { clamped, spec, egress }: ConductorParts,
): Promise<OpenHarness> {
  const { extensionSha256 } = harness;
  const receipt =
    extensionSha256 === null ? sandbox.receipt : { ...sandbox.receipt, harness: { extensionSha256 } };
  await run.notePlace(receipt, harness.harness);
  if (clamped.length > 0) {
    const text = `Lowered to the operator's ceiling: ${clamped.join(", ")}.`;
    await run.tell({ type: "notice", level: "warning", topic: "limit", text });
  }
  const { model, tools, skills, thinking } = run.profile;
  return harness.claim({
    model,
    baseUrl: `http://127.0.0.1:${sandbox.doorPort}/model`,
    placeholder: lease.placeholder,
    tools,
    instructions: toInstructions(
      run.profile,
      spec.references,
      spec.network === "none" ? egress.patterns : [],
    ),
    thinking,
    skills: skills.map(({ name, description }) => ({
      name,
      description,
      path: `${sandbox.paths.home}/skills/${name}/SKILL.md`,
    })),
  });
}

async function pump(
  run: ActiveRun,
  events: AsyncGenerator<Parameters<ActiveRun["tell"]>[0], PromptEnd, void>,
  limits: LimitWatch,
): Promise<PromptEnd> {
  for (;;) {
    const next = await events.next();
    if (next.done) return next.value;
    limits.touch();
    if (run.stopped.aborted) throw run.stopped.reason;
    await run.tell(next.value);
  }
}

/** Stops the harness, keeps what the run changed, and destroys the sandbox; says how it ended and whether that was seen. */
async function windDown(
  run: ActiveRun,
  sandbox: Sandbox,
  harness: StartedHarness | undefined,
  parts: ConductorParts,
): Promise<Pick<RunEnding, "exit" | "stop">> {
  const startedMs = run.stopAskedMs ?? Date.now();
  let stopped: HarnessStop | undefined;
  // Without a namespace a process can hide from the sweep, so an empty look proves nothing.
  let verified = sandbox.receipt.isolated;
  try {
    stopped = await harness?.stop();
    await sandbox.clear();
    const late = () => new Fault("sandbox_lost", "The workspace's changes could not be read in time.");
    const unkept = await within(parts.keepMs, parts.results.keep(run.id, sandbox), late);
    for (const { text, cause } of unkept) {
      if (cause !== undefined) parts.onCleanUpFailure(cause);
      await tellOfResults(run, text);
    }
  } catch (error) {
    parts.onCleanUpFailure(error); // the first cause is the run's end; this one is for the log
    await tellOfResults(run, "What the run changed in its workspace could not be kept.");
  }
  run.sandbox = undefined;
  try {
    await sandbox.close();
  } catch (error) {
    verified = false;
    parts.onCleanUpFailure(error);
  }
  const stop: Stop = { method: stopped?.method ?? "killed", verified, ms: Date.now() - startedMs };
  return { exit: stopped?.exit ?? null, stop };
}

/** A notice that cannot be written must not cost the run its end. */
async function tellOfResults(run: ActiveRun, text: string): Promise<void> {
  await run.tell({ type: "notice", level: "warning", topic: "results", text }).catch(() => undefined);
}

/** First cause wins: why the run was told to stop goes before whatever broke because of it. */
function toEnding(
  run: ActiveRun,
  failure: Fault | null,
  end: PromptEnd | null = null,
  wound: Pick<RunEnding, "exit" | "stop"> = { exit: null, stop: toStopBeforeStart(run) },
): RunEnding {
  const cause = run.stopped.aborted ? toFault(run.stopped.reason) : failure;
  return {
    outcome: toOutcome(cause),
    failure: cause,
    output: end?.output ?? null,
    stopReason: end?.stopReason ?? null,
    ...wound,
  };
}

/** A run that was stopped before it had a sandbox: there never was anything to be left alive. */
function toStopBeforeStart({ stopped, stopAskedMs }: ActiveRun): Stop | null {
  if (!stopped.aborted || stopAskedMs === null) return null;
  return { method: "graceful", verified: true, ms: Date.now() - stopAskedMs };
}

function toOutcome(cause: Fault | null): NonNullable<Run["outcome"]> {
  if (cause === null) return "succeeded";
  switch (cause.code) {
    case "cancelled":
    case "draining":
      return "cancelled";
    case "deadline_exceeded":
    case "idle_timeout":
      return "timed_out";
    case "budget_exceeded":
      return "limit_exceeded";
    case "lost":
      return "lost";
    default:
      return "failed";
  }
}
