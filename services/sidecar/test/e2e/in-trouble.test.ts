/** Runs in trouble that is nobody's fault: full disks, results beyond bounds, callers who leave early or ask for too much. */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";
import type { ChangedFiles } from "#contract/run";
import {
  getJson,
  type LiveService,
  openLiveService,
  PROGRAM,
  post,
  readEvents,
  runToEnd,
} from "../fakes/live-service.ts";
import { openScriptedModel, type ScriptedModel } from "../fakes/scripted-model.ts";
import { toRun, toScriptedRequest } from "../fakes/scripted-request.ts";

let model: ScriptedModel;
let service: LiveService;

beforeAll(async () => {
  model = await openScriptedModel({});
  service = await openLiveService({
    env: { PILLION_PRIVATE_TARGETS: model.url, PILLION_ALLOWED_PROGRAMS: "bash" },
  });
});
afterAll(async () => {
  await service[Symbol.asyncDispose]();
  await model[Symbol.asyncDispose]();
});

function toShellRequest(command: string): object {
  model.reset({ script: [{ toolCalls: [{ name: "bash", arguments: { command } }] }, { text: "Done." }] });
  return toScriptedRequest(model, { fields: { execution: { allowedPrograms: ["bash"] } } });
}

describe.runIf(process.getuid?.() === 0)("a disk that is full", () => {
  test("holds up a run's end until there is room, and nobody is told of an end before it is written", async () => {
    const disk = mkdtempSync(join(tmpdir(), "pillion-disk-"));
    expect(spawnSync("mount", ["-t", "tmpfs", "-o", "size=8m", "pillion-test", disk]).status).toBe(0);
    onTestFinished(() => {
      spawnSync("umount", [disk]);
      rmSync(disk, { recursive: true, force: true });
    });
    model.reset({
      script: [
        { text: "Before.", toolCalls: [{ name: "ls", arguments: {} }] },
        { delayMs: 3000, text: "After." },
      ],
    });
    const env = { PILLION_PRIVATE_TARGETS: model.url, PILLION_HOME: join(disk, "home") };
    await using small = await openLiveService({ env });
    const run = await toRun(await post(small, "/v1/runs", toScriptedRequest(model)));
    await vi.waitFor(() => expect(model.requests).toHaveLength(2), 10_000);
    fill(disk);
    await vi.waitFor(async () => expect((await fetch(`${small.url}/readyz`)).status).toBe(503), 5_000);
    const refused = await post(small, "/v1/runs", toScriptedRequest(model));
    expect(await refused.json()).toMatchObject({ status: 507, code: "storage_full" });
    await vi.waitFor(() => expect(small.logs()).toContain("cleaning up after a run failed"), 15_000);
    expect(await getJson(small, `/v1/runs/${run.id}`)).toMatchObject({ outcome: null });
    expect((await fetch(`${small.url}/health`)).status).toBe(200);

    rmSync(join(disk, "filler"));
    const events = await readEvents(small, run.id);
    expect(events.filter(({ type }) => type === "run.ended")).toHaveLength(1);
    expect(events.map(({ seq }) => seq)).toEqual(events.map((_event, index) => index + 1));
    expect(await getJson(small, `/v1/runs/${run.id}`)).toMatchObject({
      state: "ended",
      outcome: expect.stringMatching(/^(succeeded|failed)$/), // by which of its events met the full disk
    });
    expect((await fetch(`${small.url}/readyz`)).status).toBe(200);
  });

  function fill(disk: string): void {
    const { bavail, bsize } = statfsSync(disk);
    writeFileSync(join(disk, "filler"), Buffer.alloc(bavail * bsize));
    expect(statfsSync(disk).bavail).toBe(0);
  }
});

describe("results beyond what is kept", () => {
  test("a run that changed very many files can be looked into while it goes on, and keeps them", async () => {
    const command =
      "mkdir d; cd d; for i in $(seq 12000); do : > file-with-a-rather-long-name-that-fills-the-line-$i-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; done; echo made; sleep 3";
    const run = await toRun(await post(service, "/v1/runs", toShellRequest(command)));
    const tar = (): Promise<Response> =>
      fetch(`${service.url}/v1/runs/${run.id}/files`, { headers: { accept: "application/x-tar" } });
    await vi.waitFor(
      async () => {
        const list = await getJson<ChangedFiles>(service, `/v1/runs/${run.id}/files`);
        expect(list.files?.length).toBe(12_001);
      },
      { timeout: 20_000, interval: 200 },
    );
    const live = await tar();
    expect(live.status).toBe(200);
    expect((await live.arrayBuffer()).byteLength).toBeGreaterThan(12_000 * 512);
    expect((await readEvents(service, run.id)).at(-1)).toMatchObject({ outcome: "succeeded" });
    const kept = await tar();
    expect((await kept.arrayBuffer()).byteLength).toBeGreaterThan(12_000 * 512);
  }, 120_000);

  test("a file that is too large costs itself only, and the run says so", async () => {
    const { run, events } = await runToEnd(
      service,
      toShellRequest("echo hi > keep.txt; truncate -s 300M big; : > z.txt"),
    );
    expect(run.outcome).toBe("succeeded");
    expect(events).toContainEqual(
      expect.objectContaining({
        type: "notice",
        level: "warning",
        topic: "results",
        text: expect.stringContaining("1 changed files were too large"),
      }),
    );
    const { files } = await getJson<ChangedFiles>(service, `/v1/runs/${run.id}/files`);
    expect(files.map(({ path, kept }) => [path, kept])).toEqual([
      ["big", false],
      ["keep.txt", undefined],
      ["z.txt", undefined],
    ]);
    expect(await (await fetch(`${service.url}/v1/runs/${run.id}/files/keep.txt`)).text()).toBe("hi\n");
    expect(await (await fetch(`${service.url}/v1/runs/${run.id}/files/big`)).json()).toMatchObject({
      status: 404,
      detail: "This file was too large to be kept.",
    });
    expect(await (await fetch(`${service.url}/v1/runs/${run.id}/diff`)).text()).toContain("+hi\n");
  });
});

describe("a key of any scheme that its provider says back", () => {
  test.each(["Token", "Bearer", "Basic"])(
    "%s: stands nowhere in answer, events, log or data directory",
    async (scheme) => {
      const secret = "canary-5512-77-abcdef";
      const value = scheme === "Basic" ? `Basic ${btoa(`user:${secret}`)}` : `${scheme} ${secret}`;
      model.reset({
        script: [{ fail: { status: 401, body: { error: { message: `wrong key ${secret} in ${value}` } } } }],
      });
      const credentials = [{ host: `127.0.0.1:${model.port}`, header: "authorization", value }];
      const { run, events } = await runToEnd(service, toScriptedRequest(model, { fields: { credentials } }));
      expect(run.failure).toMatchObject({
        code: "model_refused",
        detail: expect.stringContaining("[redacted]"),
      });
      expect(model.requests[0]?.headers.authorization).toBe(value); // the control: the provider did get it
      const disk = readdirSync(service.home, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile() && entry.name !== "journal.db-shm")
        .map((entry) => readFileSync(join(entry.parentPath, entry.name), "latin1"));
      const written = [JSON.stringify([run, events]), service.logs(), ...disk].join("\n");
      expect(written).toContain("wrong key"); // the control: what the provider said was written down
      for (const form of [secret, value, btoa(`user:${secret}`)]) expect(written).not.toContain(form);
    },
  );
});

describe("a caller", () => {
  test("who cancels at once is told how it stopped and that nothing is left", async () => {
    model.reset({ script: [{ fail: "hang" }] });
    const run = await toRun(await post(service, "/v1/runs", toScriptedRequest(model)));
    await post(service, `/v1/runs/${run.id}/cancel`, {});
    const last = (await readEvents(service, run.id)).at(-1);
    expect(last).toMatchObject({
      type: "run.ended",
      outcome: "cancelled",
      stop: { method: expect.any(String), verified: true },
    });
  });

  test("who resumes beyond a run's last event gets an end, and no broken connection", async () => {
    model.reset({ script: [{ delayMs: 500, text: "Done." }] });
    const run = await toRun(await post(service, "/v1/runs", toScriptedRequest(model)));
    const accept = "application/x-ndjson";
    const answer = await fetch(`${service.url}/v1/runs/${run.id}/events?after=5000`, { headers: { accept } });
    expect({ status: answer.status, body: await answer.text() }).toEqual({ status: 200, body: "" });
    expect(await getJson(service, `/v1/runs/${run.id}`)).toMatchObject({ outcome: "succeeded" });
  });

  test("who reads only the first line of `pillion run --stream` leaves no complaint and no directory", async () => {
    const tmp = mkdtempSync(join(tmpdir(), "pillion-pipe-"));
    mkdirSync(join(tmp, "tmp"));
    const env = { PATH: process.env.PATH, HOME: tmp, TMPDIR: join(tmp, "tmp") };
    const child = spawn(process.execPath, [PROGRAM, "run", "--demo", "--stream"], { env });
    const complaints = text(child.stderr);
    await once(child.stdout, "data");
    child.stdout.destroy();
    const [code] = await once(child, "exit");
    expect({ code, left: readdirSync(join(tmp, "tmp")) }).toEqual({ code: 130, left: [] });
    expect(await complaints).not.toMatch(/EPIPE|Error:/);
  });
});
