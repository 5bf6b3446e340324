/** Runs that would spend ten times what they may, with the real Pi: ended by the call that crosses the limit, whoever lies. */
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import type { ModelApi } from "#contract/extension";
import type { Limits, Run } from "#contract/run";
import { AGENT_IMAGE } from "../behaviours/open-places.ts";
import { toDockerEnv } from "../fakes/docker-env.ts";
import { type LiveService, openLiveService, post, runToEnd } from "../fakes/live-service.ts";
import { makeLyingProgram } from "../fakes/lying-program.ts";
import {
  type ModelRequest,
  openScriptedModel,
  readCap,
  type ScriptedModel,
  type Turn,
} from "../fakes/scripted-model.ts";
import { DIALECTS, looking, toScriptedRequest } from "../fakes/scripted-request.ts";

/** US dollars per million tokens. */
const PRICE = { input: 1, output: 10, cacheRead: 0.1, cacheWrite: 1.25 };
const CALL = { input: 3_000, output: 7_000, cacheRead: 0 };
const TURNS = 40;
/** Each is about four calls of the script, which wants forty. */
const LIMITS = { tokens: 40_000, costUsd: 0.29, requests: 4 };
const CASES = 50;
const AT_ONCE = 3;

type LimitName = keyof typeof LIMITS;
type Case = {
  readonly name: string;
  readonly api: ModelApi;
  readonly limit: LimitName;
  readonly place: "local" | "docker";
  /** Whether the provider keeps to the cap that it is sent. */
  readonly keepsCap: boolean;
};

let model: ScriptedModel;
let services: Record<Case["place"], LiveService>;

beforeAll(async () => {
  model = await openScriptedModel({});
  services = {
    local: await openLiveService({ env: { PILLION_PRIVATE_TARGETS: model.url } }),
    docker: await openLiveService({
      env: toDockerEnv(model, { PILLION_IMAGE: AGENT_IMAGE.replace(/:base$/, ":slim") }),
    }),
  };
});
afterAll(async () => {
  for (const service of Object.values(services)) await service[Symbol.asyncDispose]();
  await model[Symbol.asyncDispose]();
});

const turns = (keepsCap: boolean) => looking(TURNS).map((turn) => ({ ...turn, usage: CALL, keepsCap }));
const toCases = (): Case[] =>
  Array.from({ length: CASES }, (_, index) => {
    const [api = DIALECTS[0], limit = "tokens"] = [
      DIALECTS[index % 3],
      (["tokens", "costUsd", "requests"] as const)[Math.floor(index / 3) % 3],
    ];
    const place = Math.floor(index / 9) % 2 === 0 ? "local" : "docker";
    return { name: `case-${index}`, api, limit, place, keepsCap: Math.floor(index / 18) % 2 === 0 };
  });

/** A request to the model of that name, whose price is known. */
function toPricedRequest(api: ModelApi, name: string, fields: object): object {
  const request = toScriptedRequest(model, { api, name, fields });
  const endpoint = "model" in request && typeof request.model === "object" ? request.model : {};
  return { ...request, model: { ...endpoint, price: PRICE } };
}

const readRequests = (name: string): ModelRequest[] =>
  model.requests.filter(
    ({ body }) => typeof body === "object" && body !== null && "model" in body && body.model === name,
  );
const toTokens = (usage: { input: number; output: number }) => usage.input + usage.output;
const toUsd = (usage: { input: number; output: number }) =>
  (usage.input * PRICE.input + usage.output * PRICE.output) / 1e6;

/** What was not as it should be; nothing for a run that ended well. */
function findFaults({ name, limit, keepsCap }: Case, run: Run): string[] {
  const faults: string[] = [];
  const fail = (isFault: boolean, text: string): unknown => isFault && faults.push(`${name}: ${text}`);
  const { outcome, failure, usage, stop } = run;
  fail(outcome !== "limit_exceeded", `ended as ${outcome}`);
  fail(failure?.code !== "budget_exceeded", `failed as ${failure?.code}`);
  fail(failure?.detail?.includes(`"${limit}"`) !== true, `says ${failure?.detail}`);
  fail(stop?.verified !== true, "something may be left of it");
  const calls = readRequests(name).map(({ body }) => {
    const cap = readCap(body);
    return {
      cap,
      input: CALL.input,
      output: keepsCap && cap !== null ? Math.min(cap, CALL.output) : CALL.output,
    };
  });
  const spend = { tokens: toTokens, costUsd: toUsd, requests: () => 1 }[limit];
  let left: number = LIMITS[limit];
  for (const [index, call] of calls.entries()) {
    fail(left <= 1e-9, `call ${index} was made with nothing left`);
    if (limit === "tokens")
      fail((call.cap ?? Number.POSITIVE_INFINITY) > left, `call ${index} could take ${call.cap} of ${left}`);
    if (limit === "costUsd")
      fail(
        (call.cap ?? Number.POSITIVE_INFINITY) * PRICE.output > left * 1e6,
        `call ${index} could take ${call.cap} of ${left} USD`,
      );
    left -= spend(call);
  }
  const total = {
    ...CALL,
    output: calls.reduce((sum, { output }) => sum + output, 0),
    input: CALL.input * calls.length,
  };
  const told = { input: usage.inputTokens, output: usage.outputTokens, cacheRead: usage.cacheReadTokens };
  fail(
    JSON.stringify(told) !== JSON.stringify({ input: total.input, output: total.output, cacheRead: 0 }),
    `tells ${JSON.stringify(told)} of ${JSON.stringify(total)}`,
  );
  fail(Math.abs((usage.costUsd ?? -1) - toUsd(total)) > 1e-9, `cost ${usage.costUsd}, not ${toUsd(total)}`);
  fail(calls.length === 0 || calls.length > 6, `${calls.length} calls were made`);
  return faults;
}

describe("S3.11 a run that would spend ten times what it may", () => {
  test("is ended by the call that crosses its limit at the latest, and no call could take more than was left", async () => {
    const cases = toCases();
    model.reset({ scripts: Object.fromEntries(cases.map(({ name, keepsCap }) => [name, turns(keepsCap)])) });
    const faults: string[] = [];
    const waiting = cases.values();
    await Promise.all(
      Array.from({ length: AT_ONCE }, async () => {
        for (const one of waiting) {
          const limits: Limits = { [one.limit]: LIMITS[one.limit] };
          const request = toPricedRequest(one.api, one.name, { limits });
          const { run } = await runToEnd(services[one.place], request);
          faults.push(...findFaults(one, run));
        }
      }),
    );
    const bad = new Set(faults.map((fault) => fault.split(":")[0]));
    console.log(`budget: ${CASES - bad.size}/${CASES}`);
    expect(faults).toEqual([]);
  }, 900_000);

  test.each(DIALECTS)("is ended where its budget cut an answer short, through %s", async (api) => {
    // Few tokens of input by the report, so that a little is left when the estimate's share is given back.
    const usage = { input: 600, output: 1_000_000, cacheRead: 0 };
    model.reset({ scripts: { short: [{ text: "So far", usage, keepsCap: true }] } });
    const limits = { tokens: 4_000 };
    const { run } = await runToEnd(services.local, toPricedRequest(api, "short", { limits }));
    expect(run).toMatchObject({ outcome: "limit_exceeded", failure: { code: "budget_exceeded" } });
    expect(run.usage.inputTokens + run.usage.outputTokens).toBeLessThan(limits.tokens);
  });

  test.each(DIALECTS)(
    "spends all of it where it has no limit, through %s (control)",
    async (api) => {
      model.reset({ scripts: { control: turns(false) } });
      const { run } = await runToEnd(services.local, toPricedRequest(api, "control", {}));
      expect(run).toMatchObject({
        outcome: "succeeded",
        usage: {
          inputTokens: TURNS * CALL.input + 10,
          outputTokens: TURNS * CALL.output + 5,
          modelCalls: TURNS + 1,
        },
      });
      expect(TURNS * toTokens(CALL)).toBeGreaterThanOrEqual(10 * LIMITS.tokens);
      expect(TURNS * toUsd(CALL)).toBeGreaterThanOrEqual(10 * LIMITS.costUsd);
    },
    120_000,
  );
});

describe("S3.11 a provider that ignores the cap and lies about what it said", () => {
  const GIGABYTE = 1024 ** 3;
  /** Says a gigabyte and reports one token of it. */
  const lie: Turn = {
    text: ["word ".repeat(6_000)],
    repeat: Math.ceil(GIGABYTE / 30_000),
    usage: { input: CALL.input, output: 1, cacheRead: 0 },
  };

  test.each(DIALECTS.flatMap((api) => (["local", "docker"] as const).map((place) => ({ api, place }))))(
    "is cut by the estimate, through $api in a $place sandbox",
    async ({ api, place }) => {
      model.reset({ scripts: { liar: [lie] } });
      const request = toPricedRequest(api, "liar", { limits: { tokens: LIMITS.tokens } });
      const { run } = await runToEnd(services[place], request);
      expect(run).toMatchObject({ outcome: "limit_exceeded", failure: { code: "budget_exceeded" } });
      const [seen, ...others] = readRequests("liar");
      await vi.waitFor(() => expect(seen?.end).toBe("cut"));
      expect(others).toEqual([]);
      const cap = readCap(seen?.body) ?? Number.NaN;
      expect(cap).toBeLessThan(LIMITS.tokens);
      expect(run.usage.outputTokens).toBeGreaterThan(cap);
      expect(run.usage.outputTokens).toBeLessThan(2 * cap + 20_000); // and what came with the same bytes
      // What the system's buffers hold, which were filled before anybody could hang up.
      expect(seen?.sentBytes).toBeLessThan(32 * 1024 ** 2);
      console.log(
        `budget: ${api}, ${place}: cap ${cap}, cut at ${run.usage.outputTokens} tokens and ${seen?.sentBytes} bytes`,
      );
    },
  );

  test("counts as its estimate, with a notice, where it ends before it can be cut", async () => {
    const text = "word ".repeat(2_000);
    const usage = { input: CALL.input, output: 1, cacheRead: 0 };
    model.reset({ scripts: { liar: [{ text, usage }] } });
    const limits = { tokens: LIMITS.tokens };
    const { run, events } = await runToEnd(services.local, toPricedRequest(DIALECTS[0], "liar", { limits }));
    expect(run.outcome).toBe("succeeded");
    expect(run.usage.outputTokens).toBeGreaterThan(text.length / 8);
    expect(events).toContainEqual(
      expect.objectContaining({ type: "notice", topic: "usage", text: expect.stringContaining("estimate") }),
    );
  });
});

describe("S3.11 S4.10 a request", () => {
  test.each([
    ["tokens", { PILLION_TOKENS: String(LIMITS.tokens) }],
    ["costUsd", { PILLION_COST_USD: String(LIMITS.costUsd) }],
    ["requests", { PILLION_REQUESTS: String(LIMITS.requests) }],
  ] as const)(
    "cannot raise the operator's ceiling of %s",
    async (limit, env) => {
      await using strict = await openLiveService({ env: { ...env, PILLION_PRIVATE_TARGETS: model.url } });
      for (const limits of [{ [limit]: 1_000_000 }, {}]) {
        model.reset({ scripts: { raised: turns(false) } });
        const { run, events } = await runToEnd(strict, toPricedRequest(DIALECTS[0], "raised", { limits }));
        const one: Case = { name: "raised", api: DIALECTS[0], limit, place: "local", keepsCap: false };
        expect(findFaults(one, run)).toEqual([]);
        const notices = events.filter((event) => event.type === "notice" && event.topic === "limit");
        const text = `Lowered to the operator's ceiling: ${limit} ${LIMITS[limit]}.`;
        expect(notices).toMatchObject(limit in limits ? [{ text }] : []);
      }
    },
    120_000,
  );

  test("with a limit of cost for a model without a price is refused by the field", async () => {
    model.reset({});
    const asked = toScriptedRequest(model, { fields: { limits: { costUsd: 1 } } });
    const answer = await post(services.local, "/run", asked);
    expect(answer.status).toBe(400);
    expect(await answer.json()).toMatchObject({
      code: "invalid_request",
      errors: [{ path: "/limits/costUsd" }],
    });
    await using strict = await openLiveService({
      env: { PILLION_COST_USD: "1", PILLION_PRIVATE_TARGETS: model.url },
    });
    const refused = await post(strict, "/run", toScriptedRequest(model));
    expect(refused.status).toBe(400);
    expect(await refused.json()).toMatchObject({ code: "invalid_request", errors: [{ path: "/model" }] });
    expect(model.requests).toEqual([]);
  });
});

describe("what a harness tells of its usage", () => {
  const toLie = (told: object): string => `({ say, settle }) => ({ async prompt(claim) {
    const body = JSON.stringify({ model: claim.model, stream: true, messages: [{ role: "user", content: "Hello" }] });
    const headers = { authorization: "Bearer " + claim.placeholder, "content-type": "application/json" };
    await (await fetch(claim.baseUrl + "/chat/completions", { method: "POST", headers, body })).text();
    const told = { httpStatus: 200, stopReason: "stop", costUsd: 0, ...${JSON.stringify(told)} };
    say({ type: "extension_ui_request", method: "setStatus", statusKey: "pillion-usage", statusText: JSON.stringify(told) });
    say({ type: "message_end", message: { role: "assistant", content: [{ type: "text", text: "Hi" }], stopReason: "stop" } });
    settle();
  } })`;
  const truth = { inputTokens: CALL.input, outputTokens: CALL.output, cacheReadTokens: 0 };

  test.each([
    ["is believed where the broker saw the same (control)", truth, []],
    [
      "does not count where the broker saw another, and the difference is told",
      { inputTokens: 1, outputTokens: 1, cacheReadTokens: 0 },
      [{ level: "warning", text: expect.stringContaining("3000 tokens of input, 7000 of output") }],
    ],
  ])("%s", async (_what, told, notices) => {
    using liar = makeLyingProgram(toLie(told));
    const env = { ...liar.env, PILLION_PRIVATE_TARGETS: model.url };
    await using service = await openLiveService({ command: liar.command, env });
    model.reset({ scripts: { seen: [{ text: "Hi", usage: CALL }] } });
    const { run, events } = await runToEnd(service, toPricedRequest(DIALECTS[0], "seen", {}));
    expect(run).toMatchObject({
      outcome: "succeeded",
      output: "Hi",
      usage: { ...truth, costUsd: toUsd(CALL), modelCalls: 1 },
    });
    expect(events.filter((event) => event.type === "notice" && event.topic === "usage")).toMatchObject(
      notices,
    );
  });
});
