/** A real engine that is killed, restarted and full while runs go on: every run has a named end, and nothing stays. */
import { execFileSync } from "node:child_process";
import { existsSync, rmSync, statfsSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";
import { AGENT_IMAGE, findDockerClient, readEngineHost } from "../behaviours/open-places.ts";
import {
  getJson,
  type LiveService,
  openLiveService,
  post,
  readEvents,
  runToEnd,
} from "../fakes/live-service.ts";
import { OwnEngine } from "../fakes/own-engine.ts";
import { openScriptedModel, type ScriptedModel } from "../fakes/scripted-model.ts";
import { toRun, toScriptedRequest } from "../fakes/scripted-request.ts";

const MiB = 1024 * 1024;
/** Until a run whose engine died has its end. */
const LOST_MS = 30_000;
/** An engine that was killed needs some 10 s to come up again. */
const BACK_MS = 30_000;

/** Only where the engine's own program lies beside its client, and may be started, can there be a second engine. */
const canStart = process.getuid?.() === 0 && existsSync(OwnEngine.findProgram(findDockerClient()));

describe.runIf(canStart)("an engine of our own", () => {
  let engine: OwnEngine;
  let model: ScriptedModel;
  let service: LiveService;

  beforeAll(async () => {
    model = await openScriptedModel({ script: [{ text: "Done." }] });
    const image = { from: readEngineHost(), name: AGENT_IMAGE };
    engine = await OwnEngine.open(findDockerClient(), image, { dataBytes: 900 * MiB });
    service = await openLiveService({
      env: {
        PILLION_SANDBOX: "docker",
        PILLION_DOCKER_HOST: engine.host,
        PILLION_IMAGE: AGENT_IMAGE,
        PILLION_PRIVATE_TARGETS: model.url,
        PILLION_MEMORY: "1g",
        PILLION_SWEEP_MS: "500ms",
        PILLION_LOG_LEVEL: "debug",
      },
    });
  }, 180_000);
  afterAll(async () => {
    await service?.[Symbol.asyncDispose]();
    await engine?.[Symbol.asyncDispose]();
    await model?.[Symbol.asyncDispose]();
  });

  const ask = (...args: string[]): string[] =>
    execFileSync(findDockerClient(), ["-H", engine.host, ...args], { encoding: "utf8" })
      .split("\n")
      .filter(Boolean);
  /** The test owns the engine: all that is on it is the service's. */
  const findAll = (): string[] => [...ask("ps", "-aq"), ...ask("volume", "ls", "-q")];
  const readReadiness = async (): Promise<number> => (await fetch(`${service.url}/readyz`)).status;

  async function startHanging(): Promise<string> {
    model.reset({ script: [{ fail: "hang" }] });
    const run = await toRun(await post(service, "/v1/runs", toScriptedRequest(model)));
    await vi.waitFor(() => expect(model.requests, service.logs().slice(-2_000)).toHaveLength(1), 20_000);
    return run.id;
  }

  async function expectHealed(): Promise<void> {
    await vi.waitFor(async () => expect(await readReadiness()).toBe(200), {
      timeout: BACK_MS,
      interval: 200,
    });
    await vi.waitFor(() => expect(findAll()).toEqual([]), { timeout: BACK_MS, interval: 200 });
    model.reset({ script: [{ text: "Well again." }] });
    const { run } = await runToEnd(service, toScriptedRequest(model));
    expect(run, service.logs().slice(-4_000)).toMatchObject({ outcome: "succeeded", output: "Well again." });
    expect(findAll()).toEqual([]);
  }

  test.each(["SIGKILL", "SIGTERM"] as const)(
    "S3.2 that ends by %s in the middle of a run loses the run in time, and has nothing of it when it is back",
    async (signal) => {
      const id = await startHanging();
      expect(findAll()).toHaveLength(1);
      const startedMs = performance.now();
      await engine.kill(signal);
      const events = await readEvents(service, id);
      const lostMs = performance.now() - startedMs;
      expect(lostMs).toBeLessThan(LOST_MS);
      expect(events.filter(({ type }) => type === "run.ended")).toHaveLength(1);
      expect(events.at(-1)).toMatchObject({
        outcome: "failed",
        failure: { code: "sandbox_lost", retryable: true },
      });
      expect(await readReadiness()).toBe(503);
      expect((await fetch(`${service.url}/health`)).status).toBe(200);
      const refused = await post(service, "/v1/runs", toScriptedRequest(model));
      expect(await refused.json()).toMatchObject({ status: 503, code: "sandbox_unavailable" });

      await engine.start();
      const backMs = performance.now();
      await expectHealed();
      console.log(
        `engine ended by ${signal}: run lost after ${lostMs.toFixed(0)} ms, ` +
          `clean and a run done ${(performance.now() - backMs).toFixed(0)} ms after it was back`,
      );
      expect(await getJson(service, `/v1/runs/${id}`)).toMatchObject({ state: "ended", outcome: "failed" });
    },
    120_000,
  );

  test("that was restarted while nothing went on takes the very next run", async () => {
    await engine.kill("SIGTERM");
    await engine.start();
    model.reset({ script: [{ text: "Done." }] });
    const { run } = await runToEnd(service, toScriptedRequest(model));
    expect(run).toMatchObject({ outcome: "succeeded" });
    await expectHealed();
  }, 60_000);

  test("whose disk is full ends runs as storage_full, and takes them again when there is room", async () => {
    fillDisk(0);
    const { run } = await runToEnd(service, toScriptedRequest(model));
    expect(run, service.logs().slice(-4_000)).toMatchObject({
      outcome: "failed",
      failure: { code: "storage_full", retryable: true },
    });
    freeDisk();
    await expectHealed();
  }, 60_000);

  test("whose disk becomes full by a reader's files ends the run as storage_full, and keeps none of them", async () => {
    fillDisk(2 * MiB);
    const content = "0123456789abcdef".repeat((4 * MiB) / 16);
    const fields = { role: "reader", workspace: { kind: "files", files: [{ path: "large.txt", content }] } };
    const { run } = await runToEnd(service, toScriptedRequest(model, { fields }));
    expect(run, service.logs().slice(-4_000)).toMatchObject({
      outcome: "failed",
      failure: { code: "storage_full" },
    });
    await vi.waitFor(() => expect(findAll()).toEqual([]), 10_000);
    freeDisk();
    await expectHealed();
  }, 60_000);

  const filler = (): string => join(engine.dataDir, "filler");

  function fillDisk(leaveBytes: number): void {
    onTestFinished(freeDisk);
    const { bavail, bsize } = statfsSync(engine.dataDir);
    execFileSync("fallocate", ["--length", String(bavail * bsize - leaveBytes), filler()]);
  }

  function freeDisk(): void {
    rmSync(filler(), { force: true });
  }
});
