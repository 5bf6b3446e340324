/** The built service where namespaces cannot be had: runs are refused, or, by the operator's word, not isolated and told so. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import type { Capabilities } from "#contract/capabilities";
import { ProbeReport } from "#contract/routes";
import {
  COMMAND,
  getJson,
  type LiveService,
  openLiveService,
  post,
  readEvents,
  runToEnd,
} from "../fakes/live-service.ts";
import { openScriptedModel, type ScriptedModel } from "../fakes/scripted-model.ts";
import { toRun, toScriptedRequest } from "../fakes/scripted-request.ts";

/** Without this capability no namespace can be made, whoever asks. Who is not root drops it in a user namespace. */
const DROPPED = ["setpriv", "--bounding-set=-sys_admin", "--", ...COMMAND] as const;
const WITHOUT_NAMESPACES =
  process.getuid?.() === 0 ? DROPPED : (["unshare", "--user", "--map-root-user", ...DROPPED] as const);

const DEMO = { model: "demo/tour", prompt: "Show me around" };

const NO_NAMESPACES = {
  kind: "local",
  available: false,
  isolated: false,
  detail: expect.stringMatching(/^namespaces cannot be had here: .*Operation not permitted/),
  missing: [],
};

const UNISOLATED = {
  kind: "local",
  available: true,
  isolated: false,
  detail: "no isolation, by the operator's setting PILLION_ALLOW_UNISOLATED",
  missing: [
    "process isolation",
    "file system isolation: a run reads what the service's user can read",
    "network isolation: egress is not enforced",
    "an unprivileged user",
    "memory, cpu, pids and disk limits",
  ],
};

/** Records of the log with one of these messages. */
function readLog({ logs }: LiveService, ...messages: string[]): object[] {
  const records = logs()
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line): { msg: string } => JSON.parse(line));
  return records.filter(({ msg }) => messages.includes(msg));
}

async function readSandboxes(service: LiveService): Promise<Partial<Capabilities>> {
  const { sandboxes, sandboxInForce } = await getJson<Capabilities>(service, "/v1/capabilities");
  return { sandboxes, sandboxInForce };
}

async function readReadiness(service: LiveService): Promise<object> {
  const answer = await fetch(`${service.url}/readyz?verbose`);
  const { ready, checks } = ProbeReport.parse(await answer.json());
  return { status: answer.status, ready, sandbox: checks.sandbox };
}

const WEAK = "runs are NOT isolated, by setting";
const NONE = "no sandbox can be had: every run will be refused (isolation_unavailable)";

describe("by default", () => {
  let service: LiveService;

  beforeAll(async () => {
    service = await openLiveService({ command: WITHOUT_NAMESPACES });
  });
  afterAll(() => service[Symbol.asyncDispose]());

  test.each(["/run", "/v1/runs"])("%s refuses a run and names every way to mend it", async (path) => {
    const answer = await post(service, path, DEMO);
    expect({ http: answer.status, body: await answer.json() }).toEqual({
      http: 503,
      body: {
        type: "urn:pillion:failure:isolation_unavailable",
        title: "Isolation cannot be had on this machine",
        status: 503,
        code: "isolation_unavailable",
        retryable: false,
        instance: path,
        detail: expect.stringMatching(
          /running as root.*user namespaces.*util-linux, bash and perl.*PILLION_ALLOW_UNISOLATED=true/,
        ),
      },
    });
    expect(await getJson(service, "/v1/runs")).toMatchObject({ runs: [] });
    expect(existsSync(join(service.home, "runs"))).toBe(false);
  });

  test("it is alive and not ready, and says so in its capabilities, its log and its welcome", async () => {
    expect((await fetch(`${service.url}/health`)).status).toBe(200);
    expect(await readReadiness(service)).toEqual({
      status: 503,
      ready: false,
      sandbox: { ok: false, detail: "no sandbox can be had" },
    });
    expect(await readSandboxes(service)).toEqual({ sandboxes: [NO_NAMESPACES], sandboxInForce: null });
    expect(readLog(service, NONE, WEAK)).toMatchObject([
      { level: "error", msg: NONE, probes: [NO_NAMESPACES] },
    ]);
    expect(readLog(service, "ready")).toMatchObject([{ sandbox: null }]);
    expect(service.logs()).toContain("Sandbox: none: runs are refused");
  });
});

describe("with PILLION_ALLOW_UNISOLATED", () => {
  let model: ScriptedModel;
  let service: LiveService;

  beforeAll(async () => {
    model = await openScriptedModel({});
    service = await openLiveService({
      command: WITHOUT_NAMESPACES,
      env: {
        PILLION_ALLOW_UNISOLATED: "true",
        PILLION_ALLOWED_PROGRAMS: "bash",
        PILLION_PRIVATE_TARGETS: model.url,
      },
    });
  });
  afterAll(async () => {
    await service[Symbol.asyncDispose]();
    await model[Symbol.asyncDispose]();
  });

  test("it is ready, and says what is missing in its capabilities, its log and its welcome", async () => {
    expect(await readReadiness(service)).toEqual({
      status: 200,
      ready: true,
      sandbox: { ok: true, detail: UNISOLATED.detail },
    });
    expect(await readSandboxes(service)).toEqual({
      sandboxes: [NO_NAMESPACES, UNISOLATED],
      sandboxInForce: "local",
    });
    expect(readLog(service, NONE, WEAK)).toMatchObject([
      { level: "warn", msg: WEAK, missing: UNISOLATED.missing },
    ]);
    expect(readLog(service, "ready")).toMatchObject([{ sandbox: UNISOLATED }]);
    expect(service.logs()).toContain("Sandbox: local WITHOUT isolation");
  });

  test("the demo runs, its receipt tells that nothing isolates it, and its stop is not called verified", async () => {
    const { run, events } = await runToEnd(service, DEMO);
    expect(run).toMatchObject({
      outcome: "succeeded",
      demo: true,
      stop: { method: "graceful", verified: false },
    });
    expect(run.receipt).toEqual({
      kind: "local",
      isolated: false,
      requested: { kind: "auto", network: "none" },
      namespaces: [],
      network: "host",
      egressEnforced: false,
      // These are what the service itself has.
      user: { uid: expect.any(Number), gid: expect.any(Number) },
      capabilities: expect.any(Array),
      noNewPrivileges: expect.any(Boolean),
      readOnlySystem: expect.any(Boolean),
      workspace: "read-write",
      limits: {},
      missing: UNISOLATED.missing,
      harness: { extensionSha256: expect.stringMatching(/^[0-9a-f]{64}$/) },
    });
    expect(events.filter((event) => event.type === "notice" && event.topic === "sandbox")).toMatchObject([
      { level: "warning", text: expect.stringContaining("NO isolation, by the operator's setting") },
    ]);
  });

  test("nothing of a cancelled run is left, not even what fled from its process group", async () => {
    const command = "setsid sleep 61 </dev/null >/dev/null 2>&1 & ( ( sleep 62 & ) & ) >/dev/null 2>&1";
    model.reset({
      script: [{ toolCalls: [{ name: "bash", arguments: { command } }] }, { fail: "hang" }],
    });
    const fields = { execution: { allowedPrograms: ["bash"] } };
    const run = await toRun(await post(service, "/v1/runs", toScriptedRequest(model, { fields })));
    await vi.waitFor(() => expect(model.requests).toHaveLength(2), 15_000);
    // The control: while the run goes on, all of it is seen.
    expect(readMarked(run.id)).toEqual(expect.arrayContaining(["sleep 61", "sleep 62"]));
    expect(await readdir(join(service.home, "runs"))).toEqual([run.id]);

    await post(service, `/v1/runs/${run.id}/cancel`, {});
    expect((await readEvents(service, run.id)).at(-1)).toMatchObject({
      type: "run.ended",
      outcome: "cancelled",
      stop: { verified: false },
    });
    expect(readMarked(run.id)).toEqual([]);
    expect(await readdir(join(service.home, "runs"))).toEqual([]);
    expect(await readdir(service.tmp)).toEqual([]);
  });

  test("a reader is refused, for its workspace could be written to", async () => {
    const { run } = await runToEnd(service, { ...DEMO, role: "reader" });
    expect(run).toMatchObject({
      outcome: "failed",
      receipt: null,
      failure: {
        status: 503,
        code: "isolation_unavailable",
        detail: "A reader needs a read-only workspace, which cannot be had without isolation.",
      },
    });
    expect(readMarked(run.id)).toEqual([]);
    expect(existsSync(join(service.home, "runs", run.id))).toBe(false);
  });
});

test("where namespaces can be had, the setting alone costs no isolation (control)", async () => {
  await using service = await openLiveService({ env: { PILLION_ALLOW_UNISOLATED: "true" } });
  expect(readLog(service, NONE, WEAK)).toEqual([]);
  const { run } = await runToEnd(service, { ...DEMO, role: "reader" });
  expect(run).toMatchObject({
    outcome: "succeeded",
    receipt: { isolated: true, network: "none", egressEnforced: true, workspace: "read-only" },
    stop: { verified: true },
  });
});

/** Command lines of living processes that carry the run's id in their environment. */
function readMarked(runId: string): string[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const isMarked = readFileSync(`/proc/${pid}/environ`, "latin1").includes(`/${runId}`);
        return isMarked ? [readFileSync(`/proc/${pid}/cmdline`, "latin1").replaceAll("\0", " ").trim()] : [];
      } catch {
        return []; // gone meanwhile
      }
    });
}
