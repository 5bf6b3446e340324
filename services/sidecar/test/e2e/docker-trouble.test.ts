/** Runs on an engine in trouble: each ends under its own name and in time, nothing is made twice, nothing stays, and the next run works. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { AGENT_IMAGE, docker, readEngineHost } from "../behaviours/open-places.ts";
import { type EngineCall, EngineProxy, type Trouble } from "../fakes/engine-proxy.ts";
import {
  getJson,
  type LiveService,
  openLiveService,
  post,
  readEvents,
  runToEnd,
} from "../fakes/live-service.ts";
import { openScriptedModel, type ScriptedModel } from "../fakes/scripted-model.ts";
import { toRun, toScriptedRequest } from "../fakes/scripted-request.ts";

const PREPARE_MS = 15_000;
/** Set-up and what may be tried to clean up after it. */
const BOUND_MS = PREPARE_MS + 25_000;

let model: ScriptedModel;
let proxy: EngineProxy;
let service: LiveService;
let descriptors: number;

const countDescriptors = (): number => readdirSync(`/proc/${service.pid}/fd`).length;

function toEnv(more: Record<string, string> = {}): Record<string, string> {
  return {
    PILLION_SANDBOX: "docker",
    PILLION_DOCKER_HOST: proxy.host,
    PILLION_IMAGE: AGENT_IMAGE,
    PILLION_PRIVATE_TARGETS: model.url,
    PILLION_MEMORY: "1g",
    PILLION_PREPARE_MS: String(PREPARE_MS),
    PILLION_SWEEP_MS: "300ms",
    PILLION_LOG_LEVEL: "debug",
    ...more,
  };
}

beforeAll(async () => {
  model = await openScriptedModel({ script: [{ text: "Done." }] });
  proxy = await EngineProxy.open(readEngineHost());
  service = await openLiveService({ env: toEnv() });
  await runToEnd(service, toScriptedRequest(model));
  descriptors = countDescriptors();
});
afterAll(async () => {
  proxy.calm();
  await service[Symbol.asyncDispose]();
  await proxy[Symbol.asyncDispose]();
  await model[Symbol.asyncDispose]();
});
beforeEach(() => {
  proxy.calm();
  model.reset({ script: [{ text: "Done." }] });
});

/** All that a service has on the engine, by the engine's own account. */
function findAll(owner: LiveService = service): string[] {
  const label = `label=org.pillion.instance=${readFileSync(join(owner.home, "instance"), "utf8")}`;
  return [
    docker(["ps", "-aq", "--filter", label]),
    docker(["volume", "ls", "-q", "--filter", label]),
  ].flatMap((lines) => lines.split("\n").filter(Boolean));
}

const readReadiness = async (of: LiveService = service): Promise<number> =>
  (await fetch(`${of.url}/readyz`)).status;

async function expectHealed(): Promise<void> {
  proxy.calm();
  await vi.waitFor(() => expect(findAll()).toEqual([]), { timeout: 10_000, interval: 100 });
  expect(await readReadiness()).toBe(200);
  model.reset({ script: [{ text: "Well again." }] });
  const { run } = await runToEnd(service, toScriptedRequest(model));
  expect(run.failure).toBeNull();
  expect(run).toMatchObject({ outcome: "succeeded", output: "Well again.", stop: { verified: true } });
  expect(findAll()).toEqual([]);
  await vi.waitFor(() => expect(countDescriptors()).toBeLessThanOrEqual(descriptors + 1), 20_000); // a sweep may go on, and connections of callers are kept for 5 s
}

const READER = { role: "reader", workspace: { kind: "files", files: [{ path: "a.txt", content: "a\n" }] } };
const failing = (message: string, status = 500): Trouble => ({ kind: "fail", status, message });
const HANG = { trouble: { kind: "hang" }, code: "sandbox_unavailable" } as const;
const BROKEN = { trouble: failing("it broke"), code: "sandbox_unavailable" };
const LOST = { trouble: { kind: "lose" }, code: "sandbox_unavailable" } as const;
const FULL = { trouble: failing("write /var/lib/docker/x: no space left on device"), code: "storage_full" };

type Case = {
  readonly call: EngineCall;
  readonly what: string;
  readonly trouble: Trouble;
  readonly code: string;
  readonly fields?: object;
};

const CASES: readonly Case[] = [
  { call: "create", what: "hangs", ...HANG },
  { call: "create", what: "fails", ...BROKEN },
  { call: "create", what: "is answered by nobody, though it was done", ...LOST },
  { call: "create", what: "finds no room", ...FULL },
  {
    call: "create",
    what: "misses the image",
    trouble: failing("No such image: sha256:feed", 404),
    code: "image_missing",
  },
  { call: "attach", what: "hangs", ...HANG },
  { call: "attach", what: "fails", ...BROKEN },
  { call: "attach", what: "is answered by nobody, though it was done", ...LOST },
  { call: "start", what: "hangs", ...HANG },
  { call: "start", what: "fails", ...BROKEN },
  { call: "start", what: "is answered by nobody, though it was done", ...LOST },
  { call: "start", what: "finds no room", ...FULL },
  { call: "inspect", what: "hangs", ...HANG },
  { call: "inspect", what: "fails", ...BROKEN },
  { call: "create volume", what: "hangs", ...HANG, fields: READER },
  { call: "create volume", what: "is answered by nobody, though it was done", ...LOST, fields: READER },
  { call: "create volume", what: "finds no room", ...FULL, fields: READER },
  { call: "fill", what: "hangs", ...HANG, fields: READER },
  { call: "fill", what: "finds no room", ...FULL, fields: READER },
];

describe("S3.2 a run whose engine is in trouble while it is set up", () => {
  test.each(CASES)(
    "$call $what",
    async ({ call, trouble, code, fields = {} }) => {
      proxy.trouble(trouble, call);
      const startedMs = performance.now();
      const { run, events } = await runToEnd(service, toScriptedRequest(model, { fields }));
      expect(performance.now() - startedMs).toBeLessThan(BOUND_MS);
      expect(run, service.logs().slice(-4_000)).toMatchObject({
        ...{ state: "ended", outcome: "failed", failure: { code, runId: run.id } },
      });
      expect(events.filter(({ type }) => type === "run.ended")).toHaveLength(1);
      expect(model.requests).toEqual([]);
      expect(proxy.count("create")).toBeLessThanOrEqual(fields === READER ? 2 : 1); // a reader's files have one of their own
      expect(proxy.count("start")).toBeLessThanOrEqual(1);
      await expectHealed();
    },
    BOUND_MS + 30_000,
  );

  test("an engine that is only slow costs time and nothing else", async () => {
    proxy.trouble({ kind: "slow", ms: 300 });
    const { run } = await runToEnd(service, toScriptedRequest(model));
    expect(run).toMatchObject({ outcome: "succeeded", output: "Done.", stop: { verified: true } });
    expect([proxy.count("create"), proxy.count("start")]).toEqual([1, 1]);
    expect(findAll()).toEqual([]);
  });

  test("a container that is made after its run was given up is removed", async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    proxy.trouble({ kind: "hold", until: promise }, "create");
    const { run } = await runToEnd(service, toScriptedRequest(model));
    expect(run).toMatchObject({ outcome: "failed", failure: { code: "sandbox_unavailable" } });
    proxy.trouble(failing("not now"), "remove"); // so that it can be seen before it is removed
    resolve();
    await vi.waitFor(() => expect(findAll()).toHaveLength(1), 10_000);
    await expectHealed();
  });

  test("a container that is started after its run was given up, and cannot be removed, does not go on", async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    proxy.trouble({ kind: "hold", until: promise }, "start");
    proxy.trouble(failing("not now"), "remove");
    const { run } = await runToEnd(service, toScriptedRequest(model));
    expect(run).toMatchObject({ outcome: "failed", failure: { code: "sandbox_unavailable" } });
    const [container = ""] = findAll();
    resolve();
    const readState = () => docker(["inspect", "-f", "{{.State.Status}} {{.State.StartedAt}}", container]);
    await vi.waitFor(() => expect(readState()).toMatch(/^exited 2/), { timeout: 10_000, interval: 100 });
    await expectHealed();
  });

  test("a container of the same name that is not ours is left alone, and the run is refused", async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    proxy.trouble({ kind: "hold", until: promise }, "create");
    const run = await toRun(await post(service, "/v1/runs", toScriptedRequest(model)));
    const instance = readFileSync(join(service.home, "instance"), "utf8");
    const name = `pillion-${instance}-${run.id.replace("run_", "")}`;
    const foreign = docker(["create", "--name", name, AGENT_IMAGE]);
    onTestFinished(() => void docker(["rm", "-f", foreign]));
    resolve();
    expect((await readEvents(service, run.id)).at(-1)).toMatchObject({
      outcome: "failed",
      failure: { code: "sandbox_unavailable", detail: expect.stringContaining("another container") },
    });
    await expectHealed();
    expect(docker(["ps", "-aq", "--no-trunc", "--filter", `name=${name}`])).toBe(foreign);
  });
});

describe("a run whose engine is in trouble while it goes on", () => {
  async function startHanging(owner: LiveService = service): Promise<string> {
    model.reset({ script: [{ fail: "hang" }] });
    const run = await toRun(await post(owner, "/v1/runs", toScriptedRequest(model)));
    await vi.waitFor(() => expect(model.requests).toHaveLength(1), 20_000);
    return run.id;
  }

  test("is lost when its attached stream is cut", async () => {
    const id = await startHanging();
    proxy.cut();
    expect((await readEvents(service, id)).at(-1)).toMatchObject({
      outcome: "failed",
      failure: { code: "sandbox_lost", retryable: true },
      stop: { method: "killed", verified: true },
    });
    expect(findAll()).toEqual([]);
    await expectHealed();
  });

  test("is lost when the engine goes away; the service says so until it is back, and then nothing is left", async () => {
    const id = await startHanging();
    await proxy.goAway();
    onTestFinished(() => proxy.comeBack().catch(() => undefined));
    expect((await readEvents(service, id)).at(-1)).toMatchObject({
      outcome: "failed",
      failure: { code: "sandbox_lost" },
      stop: { verified: false }, // nobody could be asked
    });
    expect(await readReadiness()).toBe(503);
    expect((await fetch(`${service.url}/health`)).status).toBe(200);
    const refused = await post(service, "/v1/runs", toScriptedRequest(model));
    expect(await refused.json()).toMatchObject({ status: 503, code: "sandbox_unavailable" });
    await proxy.comeBack();
    await expectHealed();
  });

  test.each([
    ["fails", failing("it broke")],
    ["hangs", { kind: "hang" }],
  ] as const)(
    "whose container's removal %s ends in time, says that it was not seen, and a sweep removes it",
    async (_what, trouble) => {
      proxy.trouble(trouble, "remove");
      const startedMs = performance.now();
      const { run } = await runToEnd(service, toScriptedRequest(model));
      expect(performance.now() - startedMs).toBeLessThan(BOUND_MS);
      expect(run).toMatchObject({ outcome: "succeeded", output: "Done.", stop: { verified: false } });
      expect(findAll()).toHaveLength(1);
      await expectHealed();
    },
    60_000,
  );

  test("whose stream stands still can be cancelled, in time", async () => {
    const id = await startHanging();
    proxy.freeze();
    await post(service, `/v1/runs/${id}/cancel`, {});
    expect((await readEvents(service, id)).at(-1)).toMatchObject({
      outcome: "cancelled",
      stop: { method: "killed", verified: true },
    });
    await expectHealed();
  }, 60_000);

  test("does not keep the service from stopping, and the next start removes what it left", async () => {
    const first = await openLiveService({ env: toEnv({ PILLION_DRAIN_MS: "100ms" }) });
    await startHanging(first);
    expect(findAll(first)).toHaveLength(1);
    proxy.trouble({ kind: "hang" });
    const startedMs = performance.now();
    first.kill("SIGTERM");
    expect(await first.ended).toEqual({ code: 0, signal: null });
    expect(performance.now() - startedMs).toBeLessThan(BOUND_MS);
    proxy.calm();
    await using _next = await openLiveService({ env: toEnv({ PILLION_HOME: first.home }) });
    expect(findAll(first)).toEqual([]);
    await first[Symbol.asyncDispose]();
  }, 90_000);
});

describe("S3.2 an engine that is in trouble before there is a run", () => {
  test.each(["ping", "inspect image"] as const)(
    "a %s that hangs is a refusal in time, and nothing is accepted",
    async (call) => {
      const before = await getJson<{ runs: unknown[] }>(service, "/v1/runs");
      proxy.trouble({ kind: "hang" }, call);
      const startedMs = performance.now();
      const [ready, refused] = await Promise.all([
        fetch(`${service.url}/readyz`),
        post(service, "/v1/runs", toScriptedRequest(model)),
      ]);
      expect(performance.now() - startedMs).toBeLessThan(15_000);
      expect([ready.status, await ready.text()]).toEqual([503, expect.stringContaining("sandbox failed")]);
      expect(await refused.json()).toMatchObject({ status: 503, code: "sandbox_unavailable" });
      expect(await getJson(service, "/v1/runs")).toEqual(before);
      await expectHealed();
    },
  );

  test("leaves it open whether a run that was lost by a kill left anything, until it answers", async () => {
    await using first = await openLiveService({ env: toEnv() });
    model.reset({ script: [{ fail: "hang" }] });
    const { id } = await toRun(await post(first, "/v1/runs", toScriptedRequest(model)));
    await vi.waitFor(() => expect(model.requests).toHaveLength(1), 20_000);
    first.kill("SIGKILL");
    await first.ended;
    proxy.trouble({ kind: "hang" });
    await using next = await openLiveService({ env: toEnv({ PILLION_HOME: first.home }) });
    expect(await getJson(next, `/v1/runs/${id}`)).toMatchObject({
      outcome: "lost",
      stop: { verified: false },
    });
    proxy.calm();
    await vi.waitFor(async () => expect(await readReadiness(next)).toBe(200), 10_000);
    await vi.waitFor(() => expect(findAll(first)).toEqual([]), 10_000);
  });

  test("is looked into when it answers again, also where only /health is asked", async () => {
    await using first = await openLiveService({ env: toEnv() });
    model.reset({ script: [{ fail: "hang" }] });
    await post(first, "/v1/runs", toScriptedRequest(model));
    await vi.waitFor(() => expect(model.requests).toHaveLength(1), 20_000);
    first.kill("SIGKILL");
    await first.ended;
    proxy.trouble({ kind: "hang" });
    await using next = await openLiveService({ env: toEnv({ PILLION_HOME: first.home }) });
    expect(findAll(first)).toHaveLength(1);
    proxy.calm();
    await vi.waitFor(() => expect(findAll(first)).toEqual([]), 10_000);
    expect((await fetch(`${next.url}/health`)).status).toBe(200);
  });

  test("does not keep the service from starting, and runs are taken once it answers", async () => {
    proxy.trouble({ kind: "hang" });
    await using late = await openLiveService({ env: toEnv() });
    expect(await readReadiness(late)).toBe(503);
    proxy.calm();
    await vi.waitFor(async () => expect(await readReadiness(late)).toBe(200), {
      timeout: 10_000,
      interval: 200,
    });
    const { run } = await runToEnd(late, toScriptedRequest(model));
    expect(run).toMatchObject({ outcome: "succeeded", receipt: { kind: "docker" } });
  });
});
