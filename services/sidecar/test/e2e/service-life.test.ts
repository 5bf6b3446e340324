/** The built program from its start to its end: command line, settings, signals, ceilings, bad input. */
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import type { Problem } from "#contract/failure";
import { RunPage } from "#contract/routes";
import type { Run } from "#contract/run";
import {
  getJson,
  type LiveService,
  openLiveService,
  post,
  readEvents,
  runProgram,
  runToEnd,
  startProgram,
} from "../fakes/live-service.ts";
import { openScriptedModel, type ScriptedModel } from "../fakes/scripted-model.ts";
import { KEY, looking, toRun, toScriptedRequest } from "../fakes/scripted-request.ts";
import { toBadInputs } from "../fixtures/bad-input.ts";
import { sendRaw } from "../fixtures/raw-http.ts";

let model: ScriptedModel;

beforeAll(async () => {
  model = await openScriptedModel({});
});
afterAll(async () => {
  await model[Symbol.asyncDispose]();
});

describe("the command line", () => {
  test("S1.3 takes the request on stdin and gives the result on stdout, logs on stderr", async () => {
    const stdin = JSON.stringify({ model: "demo/tour", prompt: "Look around", metadata: { from: "stdin" } });
    const end = await runProgram(["run", "--json"], { stdin, env: { PILLION_LOG_LEVEL: "info" } });
    expect(end.code).toBe(0);
    expect(JSON.parse(end.stdout)).toMatchObject({
      outcome: "succeeded",
      demo: true,
      metadata: { from: "stdin" },
    });
    for (const line of end.stderr.split("\n").filter((text) => text !== ""))
      expect(JSON.parse(line)).toHaveProperty("level");
  });

  test("S1.3 a request of the HTTP door does the same on stdin", async () => {
    model.reset({ script: [{ text: "The same." }] });
    const end = await runProgram(["run"], {
      stdin: JSON.stringify(toScriptedRequest(model)),
      env: { PILLION_PRIVATE_TARGETS: model.url },
    });
    expect({ code: end.code, stdout: end.stdout }).toEqual({ code: 0, stdout: "The same.\n" });
    expect(end.stderr).not.toContain(KEY);
  });

  test.each([
    ["a demo", ["run", "--demo", "--json"], 0],
    ["a time limit that is reached", ["run", "--demo", "--json", "--limit-wall", "1"], 124],
    ["an unknown flag", ["run", "--demo", "--nonsense"], 2],
    ["a bad limit", ["run", "--demo", "--limit-wall", "soon"], 2],
    ["no command", [], 2],
  ] as const)("%s has its exit code and leaves no temporary directory", async (_name, args, code) => {
    const tmp = await mkdtemp(join(tmpdir(), "pillion-cli-"));
    const end = await runProgram(args, { tmp });
    expect({ code: end.code, signal: end.signal, left: await readdir(tmp) }).toEqual({
      code,
      signal: null,
      left: [],
    });
    expect(code === 2 ? end.stderr : end.stdout).not.toBe("");
    await rm(tmp, { recursive: true });
  });

  test.each([
    ["no JSON", "nonsense", "not JSON"],
    ["nothing", "", "not JSON"],
    ["another shape", '{"promt":"Hi"}', "promt"],
  ])("a request on stdin that is %s exits 2 and says so", async (_what, stdin, words) => {
    const end = await runProgram(["run"], { stdin });
    expect({ code: end.code, stdout: end.stdout }).toEqual({ code: 2, stdout: "" });
    expect(end.stderr).toContain(words);
  });

  test.each(["SIGINT", "SIGTERM"] as const)(
    "%s cancels the run, exits 130 and leaves nothing",
    async (signal) => {
      const tmp = await mkdtemp(join(tmpdir(), "pillion-cli-"));
      model.reset({ script: [{ fail: "hang" }] });
      const running = startHanging(tmp);
      await vi.waitFor(() => expect(model.requests).toHaveLength(1), 10_000);
      running.child.kill(signal);
      expect(await running.ended).toEqual({ code: 130, signal: null });
      expect(await readdir(tmp)).toEqual([]);
    },
  );

  test("SIGINT while the request is still awaited on stdin exits 130", async () => {
    const tmp = await mkdtemp(join(tmpdir(), "pillion-cli-"));
    const running = startProgram(["run"], { tmp });
    await vi.waitFor(async () => expect(await readdir(tmp)).toHaveLength(1), 5_000);
    await sleep(200); // the directory comes a moment before the handlers
    running.child.kill("SIGINT");
    expect(await running.ended).toEqual({ code: 130, signal: null });
    expect(await readdir(tmp)).toEqual([]);
  });

  test("what a killed run left is removed by the next one, and a living run's is not", async () => {
    const tmp = await mkdtemp(join(tmpdir(), "pillion-cli-"));
    model.reset({ script: [{ fail: "hang" }, { fail: "hang" }] });
    const [killed, living] = [startHanging(tmp), startHanging(tmp)];
    await vi.waitFor(() => expect(model.requests).toHaveLength(2), 10_000);
    killed.child.kill("SIGKILL");
    await killed.ended;
    expect(await readdir(tmp)).toHaveLength(2);
    expect((await runProgram(["run", "--demo"], { tmp })).code).toBe(0);
    expect(await readdir(tmp)).toEqual([expect.stringContaining(`pillion-run-${living.child.pid}-`)]);
    living.child.kill("SIGTERM");
    expect(await living.ended).toEqual({ code: 130, signal: null });
    expect(await readdir(tmp)).toEqual([]);
  });

  function startHanging(tmp: string) {
    const running = startProgram(["run"], { tmp, env: { PILLION_PRIVATE_TARGETS: model.url } });
    running.child.stdin.end(JSON.stringify(toScriptedRequest(model)));
    return running;
  }
});

describe("the life of the service", () => {
  test("S1.1 /health is answered without a token and under load, other doors are not", async () => {
    await using closed = await openLiveService({ env: { PILLION_TOKEN: "a-token-of-this-test" } });
    const answers = await Promise.all(Array.from({ length: 200 }, () => fetch(`${closed.url}/health`)));
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
    expect(await answers[0]?.json()).toEqual({ status: "ok" });
    expect((await fetch(`${closed.url}/v1/runs`)).status).toBe(401);
  });

  test("S4.7 two broken settings are named at once, with exit code 2", async () => {
    const env = { PILLION_PORT: "99999", PILLION_WALL_MS: "soon" };
    const { code, stderr } = await runProgram(["serve"], { env });
    expect({ code, stderr }).toEqual({
      code: 2,
      stderr: expect.stringMatching(/PILLION_PORT .*\n.*PILLION_WALL_MS /),
    });
    expect(stderr).not.toContain("99999");
  });

  test("S4.8 SIGTERM during a run: not ready at once, still read, the run ends, exit 0", async () => {
    model.reset({ script: [{ delayMs: 2500, text: "I was let finish." }] });
    await using stopping = await openLiveService({ env: { PILLION_PRIVATE_TARGETS: model.url } });
    expect((await fetch(`${stopping.url}/readyz`)).status).toBe(200);
    const run = await toRun(await post(stopping, "/v1/runs", toScriptedRequest(model)));
    const following = readEvents(stopping, run.id);
    await vi.waitFor(() => expect(model.requests).toHaveLength(1), 10_000);
    stopping.kill("SIGTERM");
    await vi.waitFor(async () => expect((await fetch(`${stopping.url}/readyz`)).status).toBe(503), {
      timeout: 500,
      interval: 10,
    });
    expect((await getJson<Run>(stopping, `/v1/runs/${run.id}`)).state).toBe("running");
    expect(await (await post(stopping, "/v1/runs", toScriptedRequest(model))).json()).toMatchObject({
      status: 503,
      code: "draining",
    });
    expect((await following).at(-1)).toMatchObject({
      type: "run.ended",
      outcome: "succeeded",
      output: "I was let finish.",
    });
    expect(await stopping.ended).toEqual({ code: 0, signal: null });
  });

  test("S4.8 SIGTERM stops a run that outlasts the grace, writes its end down, and exits 0", async () => {
    model.reset({ script: [{ fail: "hang" }] });
    const env = { PILLION_PRIVATE_TARGETS: model.url };
    await using stopping = await openLiveService({ env: { ...env, PILLION_DRAIN_MS: "500" } });
    const run = await toRun(await post(stopping, "/v1/runs", toScriptedRequest(model)));
    await vi.waitFor(() => expect(model.requests).toHaveLength(1), 10_000);
    stopping.kill("SIGTERM");
    expect(await stopping.ended).toEqual({ code: 0, signal: null });
    await using next = await openLiveService({ env: { ...env, PILLION_HOME: stopping.home } });
    const kept = await getJson<Run>(next, `/v1/runs/${run.id}`);
    expect(kept).toMatchObject({ state: "ended", failure: { code: "draining" }, stop: { verified: true } });
  });

  test("runs whose time is up at any moment of their start end as timed_out, and the service lives on", async () => {
    await using steady = await openLiveService();
    const runs = await Promise.all(
      Array.from({ length: 16 }, (_, index) => {
        const limits = { wallMs: 1 + 30 * index };
        return runToEnd(steady, { model: "demo/tour", prompt: "Go", limits });
      }),
    );
    expect(runs.map(({ run }) => run.failure?.code)).toEqual(runs.map(() => "deadline_exceeded"));
    expect((await fetch(`${steady.url}/readyz`)).status).toBe(200);
    expect(steady.logs()).not.toContain("unforeseen");
  });

  test("S4.9 directories of runs vanish after success, failure, cancel and crash", async () => {
    const env = { PILLION_PRIVATE_TARGETS: model.url };
    model.reset({
      scripts: { good: [{ text: "Good." }], bad: [{ fail: { status: 401 } }], hanging: [{ fail: "hang" }] },
    });
    await using crashing = await openLiveService({ env });
    const before = await listDirectories(crashing);
    const start = async (name: string): Promise<Run> =>
      toRun(await post(crashing, "/v1/runs", toScriptedRequest(model, { name })));
    const cancelled = await start("hanging");
    await vi.waitFor(() => expect(model.requests).toHaveLength(1), 10_000);
    await post(crashing, `/v1/runs/${cancelled.id}/cancel`, {});
    for (const { id } of [cancelled, await start("good"), await start("bad")]) await readEvents(crashing, id);
    await vi.waitFor(async () => expect(await listDirectories(crashing)).toEqual(before), 5000);
    const lost = await start("hanging");
    await vi.waitFor(() => expect(model.requests).toHaveLength(4), 10_000);
    crashing.kill("SIGKILL");
    await crashing.ended;
    await using next = await openLiveService({ env: { ...env, PILLION_HOME: crashing.home } });
    expect(await getJson(next, `/v1/runs/${lost.id}`)).toMatchObject({ state: "ended", outcome: "lost" });
    expect(await listDirectories(crashing)).toEqual(before);
  });

  test("takes so many runs and lets so many wait; beyond it, 429 with Retry-After, and what is wrong stays a 400", async () => {
    model.reset({ scripts: { hanging: [{ fail: "hang" }], good: [{ text: "Good." }] } });
    const env = { PILLION_PRIVATE_TARGETS: model.url, PILLION_CONCURRENCY: "1", PILLION_QUEUE: "2" };
    await using small = await openLiveService({ env });
    const start = (name: string): Promise<Response> =>
      post(small, "/v1/runs", toScriptedRequest(model, { name }));
    const running = await toRun(await start("hanging"));
    const [waiting, next] = [await toRun(await start("hanging")), await toRun(await start("good"))];
    await vi.waitFor(() => expect(model.requests).toHaveLength(1), 10_000);
    expect(await getJson(small, `/v1/runs/${waiting.id}`)).toMatchObject({ state: "queued" });

    const refused = await start("good");
    expect({ status: refused.status, after: refused.headers.get("retry-after") }).toEqual({
      status: 429,
      after: "5",
    });
    expect(await refused.json()).toMatchObject({ code: "overloaded", retryable: true });
    const wrong = await post(small, "/v1/runs", toScriptedRequest(model, { fields: { harness: "nobody" } }));
    expect(await wrong.json()).toMatchObject({ status: 400, code: "invalid_request" });

    await post(small, `/v1/runs/${waiting.id}/cancel`, {});
    const ended = (await readEvents(small, waiting.id)).at(-1);
    expect(ended).toMatchObject({ type: "run.ended", outcome: "cancelled", exit: null });
    await post(small, `/v1/runs/${running.id}/cancel`, {});
    expect((await readEvents(small, next.id)).at(-1)).toMatchObject({ outcome: "succeeded" });
    expect(model.requests).toHaveLength(2); // the one that waited called no model
  });

  test.each([
    ["steps", { PILLION_STEPS: "2" }, looking(5), "budget_exceeded"],
    ["wallMs", { PILLION_WALL_MS: "1500ms" }, [{ fail: "hang" as const }], "deadline_exceeded"],
    ["idleMs", { PILLION_IDLE_MS: "1500ms" }, [{ fail: "hang" as const }], "idle_timeout"],
  ] as const)(
    "S4.10 a request cannot raise the operator's ceiling of %s",
    async (name, ceiling, script, code) => {
      model.reset({ script: [...script] });
      await using capped = await openLiveService({ env: { PILLION_PRIVATE_TARGETS: model.url, ...ceiling } });
      const fields = { limits: { [name]: 1_000_000 } };
      const { run, events } = await runToEnd(capped, toScriptedRequest(model, { fields }));
      expect(run.failure?.code).toBe(code);
      const text = `Lowered to the operator's ceiling: ${name} ${name === "steps" ? 2 : 1500}.`;
      expect(events).toContainEqual(expect.objectContaining({ type: "notice", topic: "limit", text }));
      if (name === "steps") expect(model.requests).toHaveLength(2);
    },
  );
});

/** What lies in the temporary and the data directory, but for the kept results and the journal's own files. */
async function listDirectories({ home, tmp }: LiveService): Promise<string[]> {
  const found = await Promise.all([readdir(tmp), readdir(home, { recursive: true })]);
  return found
    .flat()
    .filter((path) => !/^(results\/|journal)/.test(path))
    .sort();
}

describe("bad input", () => {
  test("every case gets its named problem from the live service, and no run comes of it", async () => {
    const token = "a-token-of-this-test";
    const maxBodyBytes = 2_000_000;
    const env = { PILLION_TOKEN: token, PILLION_REQUEST_BYTES: String(maxBodyBytes) };
    await using target = await openLiveService({ env });
    const authorization = `Bearer ${token}`;
    const run = await toRun(
      await post(target, "/run", { model: "demo/tour", prompt: "Go" }, { authorization }),
    );
    const table = toBadInputs({ token, maxBodyBytes, runId: run.id });
    expect(table.length).toBeGreaterThanOrEqual(60);
    const answers: object[] = [];
    for (const { class: name, bytes } of table) {
      const { status, headers, body } = await sendRaw(target.port, bytes);
      const problem: Problem = JSON.parse(body);
      answers.push({
        class: name,
        http: status,
        type: headers["content-type"],
        status: problem.status,
        code: problem.code,
        detail: problem.detail,
      });
    }
    expect(answers).toEqual(
      table.map(({ class: name, status, code, tells }) => ({
        ...{ class: name, http: status, type: "application/problem+json", status, code },
        detail: expect.stringContaining(tells),
      })),
    );
    const listed = await fetch(`${target.url}/v1/runs`, { headers: { authorization } });
    const page = RunPage.parse(await listed.json());
    expect(page.runs.map(({ id }) => id)).toEqual([run.id]);
    expect(await (await fetch(`${target.url}/health`)).json()).toEqual({ status: "ok" });
  });
});
