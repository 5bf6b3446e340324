/** A door that is flooded, stuffed and held open from inside, and outsides that are slow or die: bounded, closed, and told by name. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import type { ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import type { Run } from "#contract/run";
import { AGENT_IMAGE, docker } from "../behaviours/open-places.ts";
import { toDockerEnv } from "../fakes/docker-env.ts";
import { INSPECTED, openLiveMemory } from "../fakes/live-memory.ts";
import {
  getJson,
  type LiveService,
  openLiveService,
  post,
  readEvents,
  runToEnd,
} from "../fakes/live-service.ts";
import { openNamedService } from "../fakes/named-service.ts";
import { type OutsideServer, openOutsideServer } from "../fakes/outside-server.ts";
import { watchMemory } from "../fakes/process-memory.ts";
import { openScriptedModel, type ScriptedModel } from "../fakes/scripted-model.ts";
import { DIALECTS, toRun, toScriptedRequest } from "../fakes/scripted-request.ts";
import { readAllProcesses } from "../fakes/storm-service.ts";
import { toResults } from "../fakes/tool-results.ts";

const CLIENT = readFileSync(join(import.meta.dirname, "../fixtures/door-client.mjs"), "utf8");
const GIGABYTE = 1024 ** 3;
const MOST_MIB = 64;
const PLACES = ["local", "docker"] as const;
type Place = (typeof PLACES)[number];

let model: ScriptedModel;
let outside: OutsideServer;
let origin: string;

beforeEach(() => {
  outside.requests.length = 0;
  Object.assign(outside.bytes, { received: 0, sent: 0 });
});
beforeAll(async () => {
  model = await openScriptedModel({});
  outside = await openOutsideServer();
  origin = `http://outside.test:${outside.port}`;
});
afterAll(async () => {
  await outside[Symbol.asyncDispose]();
  await model[Symbol.asyncDispose]();
});

function toEnv(place: Place, more: Record<string, string> = {}): Record<string, string> {
  const env = {
    PILLION_PRIVATE_TARGETS: `${model.url},${origin}`,
    PILLION_EGRESS: origin,
    PILLION_ALLOWED_PROGRAMS: "bash",
    ...more,
  };
  const image = AGENT_IMAGE.replace(/:base$/, ":slim");
  return place === "local" ? env : toDockerEnv(model, { ...env, PILLION_IMAGE: image });
}

function openService(place: Place, more: Record<string, string> = {}): Promise<LiveService> {
  return openNamedService(["outside.test"], toEnv(place, more));
}

function toClientRequest(mode: string, count: number): object {
  const command = `exec $(command -v node || echo /proc/$PPID/exe) door-client.mjs ${mode} ${origin} ${count}`;
  model.reset({ script: [{ toolCalls: [{ name: "bash", arguments: { command } }] }, { text: "Done." }] });
  const workspace = { kind: "files", files: [{ path: "door-client.mjs", content: CLIENT }] };
  const execution = { allowedPrograms: ["bash"] };
  return toScriptedRequest(model, { fields: { workspace, execution, egress: [origin] } });
}

/** What a service needs more than after an ordinary run: by the kernel's own account, with garbage and all that it keeps. */
async function measure(service: LiveService, what: string, mode: string, count: number) {
  model.reset({ script: [{ text: "Done." }] });
  await runToEnd(service, toScriptedRequest(model));
  const watch = watchMemory(service.pid);
  const startedMs = performance.now();
  const { run, events } = await runToEnd(service, toClientRequest(mode, count));
  const [seconds, grownMiB] = [(performance.now() - startedMs) / 1000, watch.readPeakMiB() - watch.beforeMiB];
  console.log(
    `egress trouble: ${what}: ${watch.beforeMiB.toFixed(0)} MiB before; ` +
      `${count} in ${seconds.toFixed(1)} s: ${grownMiB.toFixed(1)} MiB more`,
  );
  expect(grownMiB).toBeLessThan(MOST_MIB);
  return { run, events };
}

/** Resolves when a count has grown, and has not grown for a while. */
async function waitUntilStill(read: () => number): Promise<void> {
  let [last, since] = [0, performance.now()];
  const isStill = (): boolean => {
    const now = read();
    if (now !== last) [last, since] = [now, performance.now()];
    return last > 0 && performance.now() - since > 1_500;
  };
  await vi.waitFor(() => expect(isStill()).toBe(true), { timeout: 150_000, interval: 100 });
}

const USED_UP = { outcome: "limit_exceeded", failure: { code: "budget_exceeded" }, stop: { verified: true } };

describe.runIf(process.getuid?.() === 0).each(PLACES)("S3.11 the door of a %s sandbox", (place) => {
  test("that is flooded with 10,000 requests lets through what the run may, and ends it by name", async () => {
    await using service = await openService(place);
    const { run } = await measure(service, `${place}, flood`, "flood", 11_000);
    expect(run).toMatchObject(USED_UP);
    expect(run.failure?.detail).toContain('"requests": 10000');
    expect(outside.requests.length).toBeGreaterThan(9_900);
    expect(outside.requests.length).toBeLessThan(10_000);
    expect(run.egress.allowed + run.egress.denied).toBeGreaterThanOrEqual(10_000);
  }, 300_000);

  test("that is given a body of more than 1 GB stops it at the operator's ceiling", async () => {
    await using service = await openService(place);
    const { run } = await measure(service, `${place}, 1 GB sent`, "send", Math.round(1.2 * GIGABYTE));
    expect(run).toMatchObject(USED_UP);
    expect(outside.bytes.received).toBeGreaterThan(0.9 * GIGABYTE);
    expect(outside.bytes.received).toBeLessThanOrEqual(GIGABYTE);
  }, 300_000);

  test("that is answered with more than 1 GB stops it at the operator's ceiling", async () => {
    await using service = await openService(place);
    const count = Math.round(1.2 * GIGABYTE);
    const { run } = await measure(service, `${place}, 1 GB received`, "receive", count);
    expect(run).toMatchObject(USED_UP);
    expect(run.egress.bytesReceived).toBeGreaterThan(0.9 * GIGABYTE);
    expect(run.egress.bytesReceived).toBeLessThan(GIGABYTE + 1024 ** 2);
  }, 300_000);

  test("carries bodies of 1 GB whole where the operator lets it (control)", async () => {
    await using service = await openService(place, { PILLION_EGRESS_BYTES: "4g" });
    const { run, events } = await measure(service, `${place}, 1 GB allowed`, "send", GIGABYTE);
    expect(run.outcome).toBe("succeeded");
    expect(toResults(events)).toMatchObject([{ text: "200\n" }]);
    expect(outside.bytes.received).toBe(GIGABYTE);
  }, 300_000);

  test("that 64 readers hold open without reading keeps little for them, and is there again when they are gone", async () => {
    // The door is full while they are there; a call of the model that comes too early is made again.
    const env = toEnv(place, { PILLION_MODEL_RETRIES: "2" });
    await using service = await openNamedService(["outside.test"], env, [INSPECTED]);
    await runToEnd(service, toClientRequest("receive", 1_000_000));
    using memory = await openLiveMemory(service);
    const beforeMiB = await memory.readMiB();
    Object.assign(outside.bytes, { sent: 0 });
    const waiting: ServerResponse[] = [];
    outside.serve("/release", (_request, response) => void waiting.push(response));
    const { id } = await toRun(await post(service, "/v1/runs", toClientRequest("hold", 64)));
    await waitUntilStill(() => outside.bytes.sent);
    const heldMiB = (await memory.readMiB()) - beforeMiB;
    const givenMiB = outside.bytes.sent / 1024 ** 2;
    expect((await getJson<Run>(service, `/v1/runs/${id}`)).state).toBe("running"); // they are there
    expect(givenMiB).toBeGreaterThan(MOST_MIB);
    for (const response of waiting) response.end();
    const events = await readEvents(service, id);
    const afterMiB = (await memory.readMiB()) - beforeMiB;
    console.log(
      `egress trouble: ${place}, 64 slow readers of ${givenMiB.toFixed(0)} MiB: ${heldMiB.toFixed(1)} MiB held for them, ` +
        `${afterMiB.toFixed(1)} MiB afterwards`,
    );
    expect(heldMiB).toBeLessThan(MOST_MIB);
    expect(afterMiB).toBeLessThan(10);
    expect(toResults(events)).toMatchObject([{ text: "held\n" }]);
    expect(await getJson<Run>(service, `/v1/runs/${id}`)).toMatchObject({
      outcome: "succeeded",
      output: "Done.",
      stop: { verified: true },
    });
  }, 300_000);
});

describe.runIf(process.getuid?.() === 0).each(PLACES)(
  "a broker that is killed while a %s sandbox talks through it",
  (place) => {
    test("S3.12 lets nothing more out, and leaves no sandbox", async () => {
      await using service = await openService(place);
      outside.requests.length = 0;
      const { id } = await toRun(await post(service, "/v1/runs", toClientRequest("flood", 1_000_000)));
      await vi.waitFor(() => expect(outside.requests.length).toBeGreaterThan(100), 60_000);
      service.kill("SIGKILL");
      await service.ended;
      const isLeft = (): boolean =>
        place === "docker"
          ? docker(["ps", "-q", "--filter", `label=org.pillion.run=${id}`]) !== ""
          : readAllProcesses().some(({ commandLine }) => commandLine.includes(`flood ${origin}`));
      await vi.waitFor(() => expect(isLeft()).toBe(false), { timeout: 15_000, interval: 100 });
      const reached = outside.requests.length; // what had left the broker before has arrived by now
      const asked = await fetch(`http://127.0.0.1:${outside.port}/alive`); // the control: the outside still counts
      expect(asked.status).toBe(200);
      expect(outside.requests.length).toBe(reached + 1);
      await using next = await openService(place, { PILLION_HOME: service.home });
      expect(await getJson(next, `/v1/runs/${id}`)).toMatchObject({
        outcome: "lost",
        failure: { code: "lost" },
      });
      expect(outside.requests.length).toBe(reached + 1);
    }, 120_000);
  },
);

describe("a provider", () => {
  let service: LiveService;
  beforeAll(async () => {
    service = await openLiveService({ env: { PILLION_PRIVATE_TARGETS: model.url } });
  });
  afterAll(() => service[Symbol.asyncDispose]());

  test.each(DIALECTS)("that is slow is waited for, through %s", async (api) => {
    model.reset({ script: [{ delayMs: 1_000, chunkDelayMs: 50, text: "Word after word after word." }] });
    const { run } = await runToEnd(service, toScriptedRequest(model, { api }));
    expect(run).toMatchObject({ outcome: "succeeded", output: "Word after word after word." });
  });

  test.each(DIALECTS)(
    "that is killed in the middle of its answer ends the run as model_refused, through %s",
    async (api) => {
      const directory = mkdtempSync(join(tmpdir(), "pillion-provider-"));
      onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
      const file = join(directory, "script.json");
      const text = Array.from({ length: 1_000 }, (_, index) => `word ${index} `);
      writeFileSync(file, JSON.stringify({ script: [{ chunkDelayMs: 20, text }] }));
      const program = join(import.meta.dirname, "../fakes/scripted-model-main.ts");
      const provider = spawn(process.execPath, [program, file], { stdio: ["ignore", "pipe", "inherit"] });
      const exited = once(provider, "exit");
      const [first]: Buffer[] = await once(provider.stdout, "data");
      const { port }: { port: number } = JSON.parse(String(first));
      await using near = await openLiveService({
        env: { PILLION_PRIVATE_TARGETS: `http://127.0.0.1:${port}` },
      });
      const request = toScriptedRequest({ port, url: `http://127.0.0.1:${port}` }, { api });
      const { id } = await toRun(await post(near, "/v1/runs", request));
      await vi.waitFor(async () => {
        expect((await getJson<Run>(near, `/v1/runs/${id}`)).timings.firstOutputMs).not.toBeNull();
      }, 20_000);
      provider.kill("SIGKILL");
      await exited;
      await readEvents(near, id);
      expect(await getJson<Run>(near, `/v1/runs/${id}`)).toMatchObject({
        outcome: "failed",
        failure: { code: "model_refused" },
        stop: { verified: true },
        egress: { allowed: 1, denied: 0 },
      });
    },
  );
});
