// The story of one run on a real journal: whatever the sandbox or the harness does, it ends once, with its first cause.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { EventBody } from "#contract/event";
import type { Profile } from "../../src/agents/profile.ts";
import { Dialer } from "../../src/broker/dialer.ts";
import type { OpenHarness, PromptEnd } from "../../src/harnesses/harness.ts";
import { Fault } from "../../src/kernel/fault.ts";
import { type ConductorParts, conduct } from "../../src/runs/conductor.ts";
import { createEventLog } from "../../src/runs/event-log.ts";
import { type Journal, openJournal } from "../../src/runs/journal.ts";
import { ResultStore } from "../../src/runs/result-store.ts";
import { ActiveRun } from "../../src/runs/run.ts";
import { createRunId } from "../../src/runs/run-id.ts";
import { toSpec } from "../behaviours/open-places.ts";
import { FakeHarness } from "../fakes/fake-harness.ts";
import { HostileGuard, type HostileScript, sending } from "../fakes/hostile-guard.ts";

let directory: string;
let journal: Journal;
let complaints: unknown[];

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "pillion-conductor-"));
  journal = await openJournal({ file: join(directory, "journal.db") });
  complaints = [];
});
afterEach(async () => {
  await journal[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true, force: true });
});

const PROFILE: Profile = {
  model: {
    provider: "demo",
    name: "tour",
    api: "openai-completions",
    reasoning: false,
    contextWindow: 1000,
    maxTokens: 100,
    price: null,
  },
  endpoint: { kind: "demo" },
  tools: [],
  instructions: "",
  skills: [],
  thinking: "off",
  hasShell: false,
};

async function openRun(): Promise<ActiveRun> {
  const run = new ActiveRun({
    id: createRunId(),
    request: {
      harness: "fake",
      prompt: "Hello",
      workspace: { kind: "empty" },
      sandbox: { kind: "auto", network: "none" },
      role: "worker",
    },
    profile: PROFILE,
    createdMs: Date.now(),
    redact: (value) => value,
  });
  const first = {
    type: "run.started",
    runId: run.id,
    state: "queued",
    model: "demo/tour",
    demo: true,
  } as const;
  run.attach(await createEventLog({ journal, report: () => run.draft(), first, request: {} }));
  return run;
}

const EMPTY = JSON.stringify({ files: [], truncated: false });

async function conductOn(
  script: HostileScript,
  parts: Partial<ConductorParts> = {},
  act: (run: ActiveRun) => void = () => undefined,
) {
  const run = await openRun();
  const guard = new HostileGuard({ ...script, answers: { changes: sending(EMPTY), ...script.answers } });
  const conducted = conduct(run, {
    place: guard,
    spec: toSpec(run.id),
    harness: new FakeHarness("Good day."),
    limits: { wallMs: 20_000, idleMs: 20_000, steps: 10 },
    clamped: [],
    broker: { dialer: new Dialer({ privateTargets: [] }), isPlain: () => false },
    egress: { rules: [], patterns: [], credentials: [] },
    leaseLimits: { requests: 100, bytes: 1_000_000 },
    prepareMs: 5_000,
    keepMs: 5_000,
    results: new ResultStore(directory, 1024),
    openDoor: () => () => undefined,
    onFailure: () => undefined,
    onCleanUpFailure: (error) => complaints.push(error),
    ...parts,
  });
  act(run);
  await conducted;
  const events = await journal.readEvents(run.id, 0, 100);
  const ends = events.filter(({ type }) => type === "run.ended").length;
  const { state, outcome, failure, stop } = run.report();
  return {
    types: events.map(({ type }) => type),
    ends,
    ...{ state, outcome, code: failure?.code ?? null, method: stop?.method, verified: stop?.verified },
  };
}

test("a run that goes well is told from its start to its one end", async () => {
  expect(await conductOn({})).toEqual({
    types: ["run.started", "notice", "message", "message.delta", "message", "run.ended"],
    ends: 1,
    ...{ state: "ended", outcome: "succeeded", code: null, method: "graceful", verified: true },
  });
  expect(complaints).toEqual([]);
});

test("an end that meets a full disk is written when there is room, once, and nobody hears of it before", async () => {
  const whole = journal;
  let refusals = 0;
  journal = {
    ...bindAll(whole),
    append: async (runId, events, run) => {
      if (events.at(-1)?.type !== "run.ended" || refusals >= 3) return whole.append(runId, events, run);
      refusals += 1;
      throw new Fault("storage_full", "The disk is full.");
    },
  };
  let run: ActiveRun | undefined;
  const seen: unknown[] = [];
  const watching = setInterval(() => seen.push(run?.report().outcome), 10);
  const ended = await conductOn({}, {}, (active) => {
    run = active;
  });
  clearInterval(watching);
  expect({ ...ended, refusals }).toMatchObject({ ends: 1, outcome: "succeeded", refusals: 3 });
  const before = seen.filter((outcome) => outcome !== undefined).slice(0, -2);
  expect(before).toEqual(before.map(() => null));
  journal = whole;
});

function bindAll(of: Journal): Journal {
  const names = [
    "createRun",
    "append",
    "readEvents",
    "readRun",
    "readLastSeq",
    "listRuns",
    "readOpenRuns",
    "deleteRun",
    "check",
  ] as const;
  const bound = Object.fromEntries(names.map((name) => [name, of[name].bind(of)]));
  return Object.assign(Object.create(of), bound, { [Symbol.asyncDispose]: () => of[Symbol.asyncDispose]() });
}

const never = (): void => undefined;

test("a guard that never hands the changes over costs the results, not the run's end", async () => {
  const ended = await conductOn({ answers: { changes: never } }, { keepMs: 200 });
  expect(ended).toMatchObject({ ends: 1, outcome: "succeeded", code: null });
  expect(complaints).toMatchObject([{ code: "sandbox_lost" }]);
});

test("a guard that drips the changes without end costs the results, not the run's end", async () => {
  let drip: NodeJS.Timeout | undefined;
  const changes: NonNullable<HostileScript["answers"]>["changes"] = ({ id }, guard) => {
    const stream = guard.openStream(`/data?id=${id}`);
    drip = setInterval(() => stream.destroyed || stream.write(" "), 20);
  };
  const ended = await conductOn({ answers: { changes } }, { keepMs: 200 });
  clearInterval(drip);
  expect(ended).toMatchObject({ ends: 1, outcome: "succeeded", code: null });
  expect(complaints).toMatchObject([{ code: "sandbox_lost" }]);
});

test("a set-up that hangs ends at its own deadline", async () => {
  const ended = await conductOn({ answers: { snapshot: never } }, { prepareMs: 200 });
  expect(ended).toMatchObject({ ends: 1, outcome: "failed", code: "harness_not_started" });
});

test("processes that are left are a complaint, and the stop is not called verified only where the sandbox stayed", async () => {
  const clear: NonNullable<HostileScript["answers"]>["clear"] = ({ id }, guard) =>
    guard.tell({ kind: "done", id, value: { killed: 1, left: 2 } });
  const ended = await conductOn({ answers: { clear } });
  expect(ended).toMatchObject({ ends: 1, outcome: "succeeded", verified: true });
  expect(complaints).toMatchObject([{ code: "sandbox_lost" }]);
});

/** Says one word and then what the test wants. */
class Talking extends FakeHarness {
  readonly #then: () => Promise<PromptEnd>;

  constructor(then: () => Promise<PromptEnd>) {
    super("");
    this.#then = then;
  }

  override async start() {
    const started = await super.start();
    const then = this.#then;
    async function* prompt(): AsyncGenerator<EventBody, PromptEnd, void> {
      yield { type: "message.delta", text: "Well" };
      return then();
    }
    const claim = async (): Promise<OpenHarness> => ({ prompt });
    return Object.assign(started, { claim });
  }
}

const silence = (): Promise<PromptEnd> => new Promise(() => undefined);

test("a sandbox that is lost while the agent works ends the run as sandbox_lost", async () => {
  let guard: HostileGuard | undefined;
  const snapshot: NonNullable<HostileScript["answers"]>["snapshot"] = ({ id }, own) => {
    guard = own;
    own.tell({ kind: "done", id });
  };
  const harness = new Talking(async () => {
    guard?.session?.destroy();
    return silence();
  });
  expect(await conductOn({ answers: { snapshot } }, { harness })).toMatchObject({
    ...{ ends: 1, outcome: "failed", code: "sandbox_lost" },
  });
});

test("what broke because a run was cancelled does not become its cause", async () => {
  let run: ActiveRun | undefined;
  const harness = new Talking(async () => {
    run?.stop(new Fault("cancelled", "The run was cancelled by its caller."));
    throw new Fault("harness_crashed", "Pi ended.");
  });
  const ended = await conductOn({}, { harness }, (active) => {
    run = active;
  });
  expect(ended).toMatchObject({ ends: 1, outcome: "cancelled", code: "cancelled" });
});

test("an agent that is silent ends at its idle limit, and set-up before it does not count as silence", async () => {
  const slowly: NonNullable<HostileScript["answers"]>["snapshot"] = ({ id }, own) =>
    void setTimeout(() => own.tell({ kind: "done", id }), 600);
  const limits = { wallMs: 20_000, idleMs: 300, steps: 10 };
  const ended = await conductOn({ answers: { snapshot: slowly } }, { limits, harness: new Talking(silence) });
  expect(ended).toMatchObject({ ends: 1, outcome: "timed_out", code: "idle_timeout" });
  expect(ended.types).toContain("message.delta"); // it had got that far
});

test("what throws without a name is internal, and its words stay in the log", async () => {
  const harness = new Talking(() => Promise.reject(new Error("secret path /srv/x")));
  const ended = await conductOn({}, { harness });
  expect(ended).toMatchObject({ ends: 1, outcome: "failed", code: "internal" });
  expect(JSON.stringify(ended)).not.toContain("/srv/x");
});
