/** Real runs in real containers: locked down, told as they are, gone in every ending, and never anything weaker instead. */
import { spawnSync } from "node:child_process";
import { chownSync, mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import type { Receipt } from "#contract/sandbox";
import { docker } from "../behaviours/open-places.ts";
import { toDockerEnv } from "../fakes/docker-env.ts";
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
import { KEY, toRun, toScriptedRequest } from "../fakes/scripted-request.ts";
import { toResults } from "../fakes/tool-results.ts";

let model: ScriptedModel;
let service: LiveService;

const toEnv = (more: Record<string, string> = {}) => toDockerEnv(model, more);

beforeAll(async () => {
  model = await openScriptedModel({});
  service = await openLiveService({ env: toEnv() });
});
afterAll(async () => {
  await service[Symbol.asyncDispose]();
  await model[Symbol.asyncDispose]();
});

function findContainers(runId: string): string[] {
  return docker(["ps", "-aq", "--filter", `label=org.pillion.run=${runId}`])
    .split("\n")
    .filter(Boolean);
}

async function startHanging(target: LiveService): Promise<string> {
  model.reset({ script: [{ fail: "hang" }] });
  const run = await toRun(await post(target, "/v1/runs", toScriptedRequest(model)));
  await vi.waitFor(() => expect(model.requests).toHaveLength(1), 15_000);
  return run.id;
}

const waitUntilGone = (runId: string): Promise<void> =>
  vi.waitFor(() => expect(findContainers(runId)).toEqual([]), { timeout: 5_000, interval: 50 });

describe("a run in a container", () => {
  test("S3.4 reads, writes and runs, with no network but the run's own model through the door", async () => {
    const command = "cat a.txt; ls /sys/class/net; cat /proc/net/route | wc -l";
    model.reset({
      script: [
        { toolCalls: [{ name: "write", arguments: { path: "made/b.txt", content: "b\n" } }] },
        { toolCalls: [{ name: "bash", arguments: { command } }] },
        { text: "Done." },
      ],
    });
    const fields = {
      workspace: { kind: "files", files: [{ path: "a.txt", content: "a\n" }] },
      execution: { allowedPrograms: ["bash"] },
    };
    const { run, events } = await runToEnd(service, toScriptedRequest(model, { fields }));
    expect(run).toMatchObject({
      outcome: "succeeded",
      output: "Done.",
      exit: { code: 0, signal: null, oom: false },
      stop: { method: "graceful", verified: true },
      receipt: { kind: "docker", isolated: true, network: "none", capabilities: [], readOnlySystem: true },
    });
    expect(toResults(events).at(-1)).toMatchObject({ tool: "bash", isError: false, text: "a\nlo\n1\n" });
    expect(await (await fetch(`${service.url}/v1/runs/${run.id}/files/made/b.txt`)).text()).toBe("b\n");
    expect(findContainers(run.id)).toEqual([]);
  });

  test("S3.3 S3.6 is what the receipt says by the engine's own account, and holds no key anywhere", async () => {
    const id = await startHanging(service);
    const [container = ""] = findContainers(id);
    const inspected = docker(["inspect", container]);
    const [{ HostConfig, Config }] = JSON.parse(inspected);
    const { receipt } = await getJson<{ receipt: Receipt }>(service, `/v1/runs/${id}`);
    expect({
      ...{ network: HostConfig.NetworkMode, caps: HostConfig.CapDrop, root: HostConfig.ReadonlyRootfs },
      ...{ cpus: HostConfig.NanoCpus / 1e9, memoryBytes: HostConfig.Memory, swap: HostConfig.MemorySwap },
      ...{
        pids: HostConfig.PidsLimit,
        user: Config.User,
        ports: Object.keys(HostConfig.PortBindings ?? {}),
        binds: HostConfig.Binds,
      },
    }).toEqual({
      ...{ network: "none", caps: ["ALL"], root: true },
      ...{ cpus: receipt.limits.cpus, memoryBytes: 1024 ** 3, swap: 1024 ** 3 },
      ...{ pids: 512, user: "1000:1000", ports: [], binds: null },
    });
    expect(receipt.limits).toMatchObject({ memoryBytes: 1024 ** 3, pids: 512, runtime: "runc" });
    const inside = docker(["top", container, "-eo", "pid,args"]);
    expect(inside).toContain("guard/main.mjs"); // the control: the processes are seen
    expect(JSON.stringify(model.requests)).toContain(KEY); // the control: the provider did get the key
    for (const text of [inspected, inside]) expect(text).not.toContain(KEY);
    await post(service, `/v1/runs/${id}/cancel`, {});
    expect((await readEvents(service, id)).at(-1)).toMatchObject({
      outcome: "cancelled",
      stop: { verified: true },
    });
    expect(findContainers(id)).toEqual([]);
  });

  test("S3.10 of a reader cannot be written to, though its files are there", async () => {
    const write = { name: "write", arguments: { path: "a.txt", content: "b" } };
    model.reset({
      script: [{ toolCalls: [{ name: "read", arguments: { path: "a.txt" } }, write] }, { text: "Done." }],
    });
    const workspace = { kind: "files", files: [{ path: "a.txt", content: "a\n" }] };
    const { run, events } = await runToEnd(
      service,
      toScriptedRequest(model, { fields: { workspace, role: "reader" } }),
    );
    expect(toResults(events)).toEqual(
      expect.arrayContaining([
        { tool: "read", isError: false, text: "a\n" },
        { tool: "write", isError: true, text: expect.any(String) },
      ]),
    );
    expect(run).toMatchObject({ outcome: "succeeded", receipt: { kind: "docker", workspace: "read-only" } });
    expect(docker(["volume", "ls", "-q", "--filter", `label=org.pillion.run=${run.id}`])).toBe("");
  });
});

describe("S3.7 how a run ended in a container is told apart", () => {
  const shell = (command: string) => [
    { toolCalls: [{ name: "bash", arguments: { command } }] },
    { text: "Done." },
  ];
  const fields = { execution: { allowedPrograms: ["bash"] }, sandbox: { memory: "256m" } };
  const allocate = "const held = []; for (;;) held.push(Buffer.alloc(16 * 1024 * 1024, 1));";

  test("a child that needs too much memory is killed, and the run goes on", async () => {
    model.reset({ script: shell(`node -e '${allocate}'; echo ended with $?`) });
    const { run, events } = await runToEnd(service, toScriptedRequest(model, { fields }));
    expect(toResults(events)).toMatchObject([{ text: expect.stringContaining("ended with 137") }]);
    expect(run).toMatchObject({ outcome: "succeeded", exit: { code: 0, signal: null, oom: false } });
  });

  test("a harness that needs too much memory ends the run as out_of_memory", async () => {
    // The kernel takes the process with the highest score. The harness is made that from outside: its own shell may not.
    const wait = "until [ $(cat /proc/$PPID/oom_score_adj) = 1000 ]; do sleep 0.1; done";
    model.reset({
      script: shell(`${wait}; node -e '${allocate}'`),
    });
    const { id } = await toRun(await post(service, "/v1/runs", toScriptedRequest(model, { fields })));
    const raise = `set -e; shell=$(grep -l "unti[l]" /proc/[0-9]*/cmdline | cut -d/ -f3)
      echo 1000 >/proc/$(sed -n "s/^PPid:[^0-9]*//p" /proc/$shell/status)/oom_score_adj`;
    await vi.waitFor(
      () => docker(["exec", "--user", "0", findContainers(id)[0] ?? "none", "sh", "-c", raise]),
      { timeout: 15_000, interval: 200 },
    );
    await readEvents(service, id);
    const run = await getJson<{ id: string }>(service, `/v1/runs/${id}`);
    expect(run).toMatchObject({
      outcome: "failed",
      failure: { code: "out_of_memory" },
      exit: { code: null, signal: "SIGKILL", oom: true },
      stop: { verified: true },
    });
    expect(findContainers(run.id)).toEqual([]);
  });

  test("a harness that is killed by a signal is harness_crashed, and not out of memory", async () => {
    model.reset({ script: shell("kill -KILL $PPID") });
    const { run } = await runToEnd(service, toScriptedRequest(model, { fields }));
    expect(run).toMatchObject({
      outcome: "failed",
      failure: { code: "harness_crashed" },
      exit: { code: null, signal: "SIGKILL", oom: false },
    });
  });

  test("a harness that is killed by a signal after a child ran out of memory is harness_crashed too", async () => {
    model.reset({ script: shell(`node -e '${allocate}'; sleep 3; kill -KILL $PPID`) });
    const { run } = await runToEnd(service, toScriptedRequest(model, { fields }));
    expect(run).toMatchObject({
      failure: { code: "harness_crashed" },
      exit: { signal: "SIGKILL", oom: false },
    });
  });

  test("a run whose time is up is deadline_exceeded", async () => {
    model.reset({ script: shell("sleep 60") });
    const limits = { wallMs: 3_000 };
    const { run } = await runToEnd(service, toScriptedRequest(model, { fields: { ...fields, limits } }));
    expect(run).toMatchObject({
      outcome: "timed_out",
      failure: { code: "deadline_exceeded" },
      stop: { verified: true },
    });
  });

  test("processes beyond the limit cannot be started, and the run goes on", async () => {
    const command =
      "for i in $(seq 200); do sleep 5 & done 2>&1 | grep -cE 'Resource temporarily unavailable|Cannot fork'; echo over";
    model.reset({ script: shell(command) });
    const sandbox = { memory: "256m", pids: 64 };
    const { run, events } = await runToEnd(
      service,
      toScriptedRequest(model, { fields: { ...fields, sandbox } }),
    );
    expect(run.receipt?.limits).toMatchObject({ pids: 64 });
    expect(toResults(events)).toMatchObject([
      { text: expect.stringMatching(/Resource temporarily unavailable|^[1-9]/) },
    ]);
    expect(run).toMatchObject({ outcome: "succeeded", stop: { verified: true }, exit: { pidsLimit: true } });
  });
});

describe("a caller's own directory", () => {
  /** As from a container of its own, or beside an engine elsewhere: here the path is another directory than there. */
  function runElsewhere(path: string, before: string): { status: number | null; stderr: string } {
    const program = [process.execPath, PROGRAM, "run", "--model", "demo/tour", "--workspace", path, "Look"];
    const script = `${before}; exec "$@"`;
    const env = { PATH: process.env.PATH, HOME: directory, ...toEnv(), PILLION_WORKSPACE_ROOTS: directory };
    return spawnSync("unshare", ["--mount", "bash", "-c", script, "bash", ...program], {
      env,
      encoding: "utf8",
    });
  }
  let directory: string;
  beforeEach(() => {
    directory = realpathSync(mkdtempSync(join(tmpdir(), "pillion-bound-")));
    for (const name of ["here", "there"]) {
      mkdirSync(join(directory, name));
      chownSync(join(directory, name), 31_437, 31_438);
    }
  });
  afterEach(() => rmSync(directory, { recursive: true, force: true }));

  test("S3.8 is written to as its owner", () => {
    const { status, stderr } = runElsewhere(join(directory, "here"), ":");
    expect(status, stderr).toBe(0);
    const { uid, gid } = statSync(join(directory, "here/PILLION-TOUR.md"));
    expect([uid, gid]).toEqual([31_437, 31_438]);
  });

  test("that is another one where the engine is, is refused before anything runs in it", () => {
    const [here, there] = [join(directory, "here"), join(directory, "there")];
    const { status, stderr } = runElsewhere(here, `mount --bind ${there} ${here}`);
    expect({ status, stderr }).toEqual({
      status: 1,
      stderr: expect.stringContaining("not the same on the container engine's machine"),
    });
    expect([...readdirSync(here), ...readdirSync(there)]).toEqual([]);
  });
});

describe("a container", () => {
  test("S3.12 is gone when the sidecar is killed, and the next start tells of the lost run", async () => {
    await using first = await openLiveService({ env: toEnv() });
    const id = await startHanging(first);
    expect(findContainers(id)).toHaveLength(1);
    first.kill("SIGKILL");
    await first.ended;
    await vi.waitFor(
      () => expect(docker(["ps", "-q", "--filter", `label=org.pillion.run=${id}`])).toBe(""),
      5_000,
    );
    await using next = await openLiveService({ env: toEnv({ PILLION_HOME: first.home }) });
    expect(await getJson(next, `/v1/runs/${id}`)).toMatchObject({ state: "ended", outcome: "lost" });
    expect(findContainers(id)).toEqual([]);
  });

  test("S2.13 of another instance is left alone by a start's sweep", async () => {
    const id = await startHanging(service);
    await using _other = await openLiveService({ env: toEnv() });
    expect(findContainers(id)).toHaveLength(1);
    await post(service, `/v1/runs/${id}/cancel`, {});
    await waitUntilGone(id);
  });

  test("is refused, and nothing weaker is taken, where engine, image or runtime is not there", async () => {
    const refusals = await Promise.all(
      [
        { PILLION_DOCKER_HOST: "unix:///nowhere/docker.sock" },
        { PILLION_IMAGE: "pillion-agent:no-such-tag" },
        { PILLION_RUNTIME: "no-such-runtime" },
      ].map(async (env) => {
        await using lacking = await openLiveService({ env: toEnv(env) });
        const answer = await post(lacking, "/run", toScriptedRequest(model));
        const ready = (await fetch(`${lacking.url}/readyz`)).status;
        const { code, status } = (await answer.json()) as { code: string; status: number };
        return { code, status, ready, runs: await getJson(lacking, "/v1/runs") };
      }),
    );
    const none = { runs: [], next: null };
    expect(refusals).toEqual([
      { code: "sandbox_unavailable", status: 503, ready: 503, runs: none },
      { code: "image_missing", status: 503, ready: 503, runs: none },
      { code: "sandbox_unavailable", status: 503, ready: 503, runs: none },
    ]);
  });

  test("S3.1 is what a request gets that asks for docker, where the service would take another", async () => {
    await using local = await openLiveService({ env: toEnv({ PILLION_SANDBOX: "auto" }) });
    model.reset({ script: [{ text: "Here." }] });
    const { run } = await runToEnd(
      local,
      toScriptedRequest(model, { fields: { sandbox: { kind: "docker", memory: "256m", cpus: 0.5 } } }),
    );
    expect(run.receipt).toMatchObject({
      kind: "docker",
      limits: { memoryBytes: 256 * 1024 ** 2, cpus: 0.5 },
    });
    await using without = await openLiveService({
      env: toEnv({ PILLION_SANDBOX: "auto", PILLION_DOCKER_HOST: "unix:///nowhere" }),
    });
    const refused = await post(
      without,
      "/run",
      toScriptedRequest(model, { fields: { sandbox: { kind: "docker" } } }),
    );
    expect(await refused.json()).toMatchObject({ code: "sandbox_unavailable" });
  });
});
