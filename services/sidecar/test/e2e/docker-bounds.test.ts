/** What a run in a container may give out and use is bounded: its output, its time with all that it started, its model calls. */
import { randomInt } from "node:crypto";
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { docker } from "../behaviours/open-places.ts";
import { toDockerEnv } from "../fakes/docker-env.ts";
import { type LiveService, openLiveService, runToEnd } from "../fakes/live-service.ts";
import { openScriptedModel, type ScriptedModel } from "../fakes/scripted-model.ts";
import { looking, toScriptedRequest } from "../fakes/scripted-request.ts";
import { readAllProcesses } from "../fakes/storm-service.ts";
import { toResults } from "../fakes/tool-results.ts";

const MiB = 1024 * 1024;

let model: ScriptedModel;
let service: LiveService;

beforeAll(async () => {
  model = await openScriptedModel({});
  service = await openLiveService({
    env: toDockerEnv(model),
  });
});
afterAll(async () => {
  await service[Symbol.asyncDispose]();
  await model[Symbol.asyncDispose]();
});

const fields = { execution: { allowedPrograms: ["bash"] } };
const toShell = (command: string) => ({ toolCalls: [{ name: "bash", arguments: { command } }] });
const findContainers = (runId: string): string =>
  docker(["ps", "-aq", "--filter", `label=org.pillion.run=${runId}`]);

/** Resident memory of the service, its peak since the last reset. */
function readPeakBytes(): number {
  const [, kilobytes = "0"] =
    /^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${service.pid}/status`, "utf8")) ?? [];
  return Number(kilobytes) * 1024;
}

test("S2.12 100 MB printed come as a bounded result that says it is truncated, and the service stays small", async () => {
  model.reset({ script: [toShell("true"), { text: "Warm." }] });
  await runToEnd(service, toScriptedRequest(model, { fields }));
  const before = readPeakBytes();
  model.reset({
    script: [toShell(`yes 0123456789abcdef | head -c ${100 * MiB}; echo; echo the end`), { text: "Done." }],
  });
  const { run, events } = await runToEnd(service, toScriptedRequest(model, { fields }));
  expect(run).toMatchObject({ outcome: "succeeded", output: "Done.", stop: { verified: true } });
  const [result] = toResults(events);
  // All of it was printed, and not all of it is told.
  expect(result).toMatchObject({
    isError: false,
    text: expect.stringMatching(/the end\s+\[Showing lines \d+-\d+ of \d+\./),
  });
  expect(JSON.stringify(result).length).toBeLessThan(256 * 1024);
  expect(JSON.stringify(events).length).toBeLessThan(2 * MiB);
  const grownBytes = readPeakBytes() - before;
  console.log(
    `100 MB printed in a container: the service's peak grew by ${(grownBytes / MiB).toFixed(0)} MiB`,
  );
  expect(grownBytes).toBeLessThan(128 * MiB);
  expect(findContainers(run.id)).toBe("");
}, 60_000);

test("S2.12 a run whose time is up says so, and nothing of the tree that it started lives on", async () => {
  const mark = `${randomInt(1_000_000, 9_999_999)}.5`;
  const tree = [
    `setsid sleep ${mark} </dev/null >/dev/null 2>&1 &`,
    `( ( sleep ${mark} </dev/null >/dev/null 2>&1 & ) & )`,
    `( trap "" TERM HUP INT; while :; do sleep ${mark}; done ) </dev/null >/dev/null 2>&1 &`,
    `sleep ${mark}`,
  ];
  model.reset({ script: [toShell(tree.join("\n"))] });
  const readTree = () => readAllProcesses().filter(({ commandLine }) => commandLine === `sleep ${mark} `);
  const limits = { wallMs: 8_000 };
  const ended = runToEnd(service, toScriptedRequest(model, { fields: { ...fields, limits } }));
  await vi.waitFor(() => expect(readTree()).toHaveLength(4), { timeout: 7_500, interval: 50 }); // the control
  const { run } = await ended;
  expect(run).toMatchObject({
    outcome: "timed_out",
    failure: { code: "deadline_exceeded", detail: expect.stringContaining("8000 ms") },
    stop: { verified: true },
  });
  expect(readTree()).toEqual([]);
  expect(findContainers(run.id)).toBe("");
}, 60_000);

test("S3.11 a run that needs more model calls than it may make is ended by that limit", async () => {
  model.reset({ script: [...looking(5), { text: "Never said." }] });
  const { run } = await runToEnd(service, toScriptedRequest(model, { fields: { limits: { steps: 2 } } }));
  expect(run).toMatchObject({
    outcome: "limit_exceeded",
    failure: { code: "budget_exceeded", detail: expect.stringContaining("2 model calls") },
    stop: { verified: true },
  });
  expect(model.requests).toHaveLength(2);
  expect(findContainers(run.id)).toBe("");
});
