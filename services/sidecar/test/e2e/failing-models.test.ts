/** Models that refuse, break off, babble or hang: the run ends with the real cause, never as a quiet success. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { RunEvent } from "#contract/event";
import { type LiveService, openLiveService, runToEnd } from "../fakes/live-service.ts";
import { openScriptedModel, type ScriptedModel, type Turn } from "../fakes/scripted-model.ts";
import { DIALECTS, looking, toScriptedRequest } from "../fakes/scripted-request.ts";

let model: ScriptedModel;
let service: LiveService;

beforeAll(async () => {
  model = await openScriptedModel({});
  service = await openLiveService({ env: { PILLION_PRIVATE_TARGETS: model.url, PILLION_CONCURRENCY: "8" } });
});
afterAll(async () => {
  await service[Symbol.asyncDispose]();
  await model[Symbol.asyncDispose]();
});

describe("a model that fails", () => {
  const failures: Record<string, NonNullable<Turn["fail"]>> = Object.fromEntries([
    ...[401, 403, 429, 500, 503].map((status) => [`${status}`, { status }]),
    ...["drop", "truncate", "garbage", "html"].map((fail) => [fail, fail]),
  ]);

  test.each(DIALECTS)("ends the run as model_refused with its cause, through %s", async (api) => {
    const scripts = Object.entries(failures).map(([name, fail]) => [
      name,
      Array.from({ length: 20 }, () => ({ fail })),
    ]);
    model.reset({ scripts: Object.fromEntries(scripts) });
    const ends = await Promise.all(
      Object.keys(failures).map(async (name) => {
        const { run, events } = await runToEnd(service, toScriptedRequest(model, { api, name }));
        const { outcome, failure, exit } = run;
        const last = events.at(-1);
        return [
          name,
          {
            outcome,
            code: failure?.code,
            detail: failure?.detail,
            exit: exit?.code,
            ...toEnds(events),
            last: last?.type,
          },
        ];
      }),
    );
    const refused = (name: string) => ({
      outcome: "failed",
      code: "model_refused",
      detail: expect.stringContaining(
        name in { 401: 1, 403: 1, 429: 1, 500: 1, 503: 1 } ? name : "The model call failed",
      ),
      exit: 0,
      ends: 1,
      last: "run.ended",
    });
    expect(Object.fromEntries(ends)).toEqual(
      Object.fromEntries(Object.keys(failures).map((name) => [name, refused(name)])),
    );
  });

  test("is asked again where the reason may pass, and the retry is told", async () => {
    await using patient = await openLiveService({
      env: { PILLION_PRIVATE_TARGETS: model.url, PILLION_MODEL_RETRIES: "2" },
    });
    const fail = { status: 429 };
    model.reset({ scripts: { soon: [{ fail, failTimes: 1, text: "Now I can." }], never: [{ fail }] } });
    const soon = await runToEnd(patient, toScriptedRequest(model, { name: "soon" }));
    expect(soon.run).toMatchObject({ outcome: "succeeded", output: "Now I can.", usage: { modelCalls: 2 } });
    const text = "The model call failed for a passing reason; retry 1 in 1000 ms.";
    expect(soon.events).toContainEqual(expect.objectContaining({ type: "notice", topic: "retry", text }));
    const never = await runToEnd(patient, toScriptedRequest(model, { name: "never" }));
    expect(never.run.failure).toMatchObject({ code: "model_refused", retryable: true });
    const lines = patient
      .logs()
      .split("\n")
      .filter((line) => line.includes('"run ended"'));
    expect(lines.map((line) => JSON.parse(line))).toMatchObject([
      { runId: soon.run.id, outcome: "succeeded", modelCalls: 2 },
      { runId: never.run.id, outcome: "failed", code: "model_refused", modelCalls: 3 },
    ]);
    expect(model.requests).toHaveLength(2 + 3);
  });

  test.each([
    ["hang", { idleMs: 1500 }, "idle_timeout"],
    ["hang-before", { idleMs: 1500 }, "idle_timeout"],
    ["hang", { wallMs: 1500 }, "deadline_exceeded"],
    ["hang-before", { wallMs: 1500 }, "deadline_exceeded"],
  ] as const)("%s with %o ends as %s", async (fail, limits, code) => {
    model.reset({ script: [{ fail }] });
    const { run, events } = await runToEnd(service, toScriptedRequest(model, { fields: { limits } }));
    expect(run).toMatchObject({ outcome: "timed_out", failure: { code }, stop: { verified: true } });
    expect({ ...toEnds(events), last: events.at(-1)?.type }).toEqual({ ends: 1, last: "run.ended" });
    expect(run.timings.totalMs).toBeLessThan(8000);
  });

  test("a run that wants more model calls than its limit makes exactly as many", async () => {
    model.reset({ script: looking(5) });
    const { run } = await runToEnd(service, toScriptedRequest(model, { fields: { limits: { steps: 2 } } }));
    expect(run).toMatchObject({
      outcome: "limit_exceeded",
      failure: { code: "budget_exceeded" },
      usage: { modelCalls: 2 },
    });
    expect(model.requests).toHaveLength(2);
  });
});

function toEnds(events: readonly RunEvent[]): { ends: number } {
  return { ends: events.filter(({ type }) => type === "run.ended").length };
}
