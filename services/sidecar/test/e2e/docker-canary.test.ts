/** The keys of a run in a container are nowhere in it, nowhere in what the engine knows and keeps of it, and nowhere afterwards. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { Run } from "#contract/run";
import { AGENT_IMAGE, docker, findDockerClient, readEngineHost } from "../behaviours/open-places.ts";
import { type CanaryKeys, openCanaryKeys, toSecret } from "../fakes/canary-keys.ts";
import { openScriptedModel, type ScriptedModel } from "../fakes/scripted-model.ts";
import {
  type Finding,
  isIn,
  type Needle,
  scan,
  scanFile,
  scanMemory,
  scanTree,
  TEXT_FORMS,
  toForms,
  toNeedles,
} from "../fakes/secret-scanner.ts";
import {
  call,
  pickUidBase,
  readAllProcesses,
  type SeenProcess,
  type Starting,
  type StormService,
  startStormService,
  waitUntil,
} from "../fakes/storm-service.ts";

const planted = toSecret("canary-planted");
const control = toNeedles(planted);

let root: string;
let home: string;
let starting: Starting;
let service: StormService;
let model: ScriptedModel;
let canaries: CanaryKeys;
let keys: readonly Needle[];

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), "pillion-canary-"));
  home = join(root, planted); // the control's place in the log: the data directory is written there
  model = await openScriptedModel({ script: [] });
  canaries = await openCanaryKeys();
  keys = canaries.needles;
  starting = startStormService(home, pickUidBase(), {
    PILLION_SANDBOX: "docker",
    PILLION_DOCKER_HOST: readEngineHost(),
    PILLION_IMAGE: AGENT_IMAGE.replace(/:base$/, ":slim"), // its shell can give a process another name
    ...canaries.toEnv(model),
    PILLION_ALLOWED_PROGRAMS: "bash",
    PILLION_LOG_LEVEL: "trace",
  });
  service = await starting.ready;
});
afterAll(async () => {
  await starting?.kill();
  await model?.[Symbol.asyncDispose]();
  await canaries?.[Symbol.asyncDispose]();
  rmSync(root, { recursive: true, force: true });
});
beforeEach(() => model.reset({ script: [] }));

/** Starts a run that the scripted model `name` leads, with the canary as its key. */
async function startRun(name: string, request: object): Promise<string> {
  const answer = await call(`${service.url}/v1/runs`, "POST", {
    model: { name: `scripted/${name}`, baseUrl: model.url, api: "openai-completions" },
    ...canaries.toFields(model),
    execution: { allowedPrograms: ["bash"] },
    ...request,
  });
  expect(answer.status, answer.body).toBe(202);
  return Run.parse(JSON.parse(answer.body)).id;
}

async function cancel(id: string): Promise<void> {
  await call(`${service.url}/v1/runs/${id}/cancel`, "POST");
  await call(`${service.url}/v1/runs/${id}/events`, "GET", undefined, { accept: "application/x-ndjson" }); // ends with the run
  const run = Run.parse(JSON.parse((await call(`${service.url}/v1/runs/${id}`)).body));
  expect(run.outcome).toBe("cancelled");
}

type Container = { readonly id: string; readonly processes: readonly SeenProcess[]; readonly bundle: string };

/** The run's container: its processes are those of its PID namespace, seen from the machine. */
function findContainer(runId: string): Container {
  const id = docker(["ps", "-q", "--no-trunc", "--filter", `label=org.pillion.run=${runId}`]);
  const first = docker(["inspect", "-f", "{{.State.Pid}}", id]);
  const namespace = readlinkSync(`/proc/${first}/ns/pid`);
  const all = readAllProcesses();
  const shim = all.find(({ pid }) => pid === all.find((seen) => seen.pid === Number(first))?.ppid);
  return {
    id,
    processes: all.filter((seen) => seen.namespace === namespace),
    bundle: readlinkSync(`/proc/${shim?.pid}/cwd`), // what the runtime was told to do
  };
}

/** What is inside: memory, arguments and environment of every process, and all files that are its own. */
function scanInside({ processes }: Container, needles: readonly Needle[]) {
  const findings: Finding[] = [];
  let [memoryBytes, files] = [0, 0];
  for (const process of processes) {
    findings.push(...scanFile("cmdline", `/proc/${process.pid}/cmdline`, needles));
    findings.push(...scanFile("environ", `/proc/${process.pid}/environ`, needles));
    const memory = scanMemory(process, needles);
    memoryBytes += memory.bytes;
    findings.push(...memory.findings);
  }
  for (const place of ["workspace", "home/agent", "tmp", "etc", "dev/shm", "refs"]) {
    const path = `/proc/${processes[0]?.pid}/root/${place}`;
    const tree = existsSync(path) ? scanTree(place, path, needles) : { files: 0, findings: [] };
    files += tree.files;
    findings.push(...tree.findings);
  }
  return { memoryBytes, files, findings: [...new Set(findings)].sort() };
}

/** What the engine, its store and its runtime have of the container. */
async function scanEngine({ id, bundle }: Container, runId: string, needles: readonly Needle[]) {
  const data = docker(["info", "-f", "{{.DockerRootDir}}"]);
  const upper = docker(["inspect", "-f", "{{.GraphDriver.Data.UpperDir}}", id]);
  const findings: Finding[] = [
    ...scan("inspect", Buffer.from(docker(["inspect", id])), needles),
    ...scan("list", Buffer.from(docker(["ps", "--no-trunc", "--format", "{{json .}}"])), needles),
    ...scan("top", Buffer.from(docker(["top", id, "-eo", "pid,args"])), needles),
    ...scan("events", Buffer.from(readEvents(runId)), needles),
    ...scanTree("engine's data", join(data, "containers", id), needles).findings,
    ...scanTree("engine's layer", upper, needles).findings,
    ...scanTree("runtime's bundle", bundle, needles).findings.filter((found) => !/rootfs/.test(found)),
    ...(await scanExport(id, needles)),
  ];
  return { logs: readLogs(id), findings: [...new Set(findings)].sort() };
}

const readEvents = (runId: string): string => {
  const filter = `label=org.pillion.run=${runId}`;
  return docker(["events", "--since", "10m", "--until", "0s", "--filter", filter, "--format", "{{json .}}"]);
};

/** There is nothing to read: no log is kept. */
function readLogs(id: string): string {
  try {
    return docker(["logs", id]);
  } catch (error) {
    return String(error);
  }
}

/** The whole file system as the engine gives it out, without what is mounted into it. */
async function scanExport(id: string, needles: readonly Needle[]): Promise<Finding[]> {
  const child = spawn(findDockerClient(), ["-H", readEngineHost(), "export", id], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = once(child, "close");
  const overlap = Math.max(...needles.map(({ bytes }) => bytes.length));
  const findings = new Set<Finding>();
  let held: Buffer[] = [];
  let [heldBytes, bytes] = [0, 0];
  const look = (): void => {
    const whole = Buffer.concat(held);
    for (const finding of scan("export", whole, needles)) findings.add(finding);
    held = [whole.subarray(-overlap)];
    heldBytes = 0;
  };
  for await (const part of child.stdout) {
    held.push(part);
    heldBytes += part.length;
    bytes += part.length;
    if (heldBytes > 8 * 1024 * 1024) look();
  }
  look();
  expect((await ended)[0]).toBe(0);
  expect(bytes).toBeGreaterThan(50 * 1024 * 1024);
  return [...findings];
}

/** What is left of runs when they are over: log, disk, and every answer about them. */
async function scanRemains(id: string, needles: readonly Needle[]): Promise<Finding[]> {
  const findings = scan("log", Buffer.from(service.readLog()), needles);
  findings.push(...scanTree("disk", home, needles).findings);
  findings.push(...scan("list", Buffer.from((await call(`${service.url}/v1/runs`)).body), needles));
  for (const part of ["", "/events", "/files", "/diff"]) {
    const accept = part === "/events" ? { accept: "application/x-ndjson" } : {};
    const { body } = await call(`${service.url}/v1/runs/${id}${part}`, "GET", undefined, accept);
    findings.push(...scan(`GET run${part}`, Buffer.from(body), needles));
  }
  return [...new Set(findings)].sort();
}

describe.runIf(process.getuid?.() === 0)("S3.6 a key", () => {
  test("that was planted is found in every place (control)", async () => {
    const forms = Object.values(toForms(planted)).join("\n");
    const command = `export PLANTED='${planted}'; exec -a '${planted}' sleep 600`;
    model.reset({
      script: [
        { toolCalls: [{ name: "read", arguments: { path: "forms.txt" } }] },
        { toolCalls: [{ name: "bash", arguments: { command } }] },
      ],
    });
    const id = await startRun("planted", {
      prompt: forms,
      workspace: {
        kind: "files",
        files: [
          { path: "forms.txt", content: forms },
          { path: "forms.gz", content: gzipSync(forms).toString("base64"), encoding: "base64" },
        ],
      },
    });
    const isHanging = () =>
      readAllProcesses().some(({ commandLine }) => commandLine.startsWith(`${planted} 600`));
    expect(await waitUntil(isHanging, 30_000), service.readLog()).toBeDefined();

    const container = findContainer(id);
    const inside = scanInside(container, control);
    expect(isIn(/^workspace\/forms\.txt/, inside.findings)).toEqual(TEXT_FORMS);
    expect(isIn(/^workspace\/forms\.gz/, inside.findings)).toEqual(["gzip"]);
    expect(isIn(/^memory/, inside.findings)).toEqual(expect.arrayContaining(TEXT_FORMS));
    expect(isIn(/^environ/, inside.findings)).toEqual(["plain"]);
    expect(isIn(/^cmdline/, inside.findings)).toContain("plain");
    // Of a run's own words the engine has none; what it has of every run is its id, and what is in the image.
    const known = { form: "guard", bytes: Buffer.from("pillion/guard/main.mjs") };
    const engine = await scanEngine(container, id, [
      ...control,
      { form: "id", bytes: Buffer.from(id) },
      known,
    ]);
    expect(isIn(/^inspect/, engine.findings)).toEqual(["guard", "id"]);
    expect(isIn(/^events/, engine.findings)).toEqual(["id"]);
    expect(isIn(/^engine's data/, engine.findings)).toEqual(["guard", "id"]);
    expect(isIn(/^runtime's bundle/, engine.findings)).toEqual(["guard"]);
    expect(isIn(/^export/, engine.findings)).toEqual(["guard"]);
    expect(isIn(/^top/, engine.findings)).toEqual(["guard", "plain"]); // it is asked of the processes

    await cancel(id);
    const remains = await scanRemains(id, control);
    expect(isIn(/^disk\/journal\.db/, remains)).toEqual(expect.arrayContaining(TEXT_FORMS));
    expect(isIn(/^GET run\/events/, remains)).toEqual(TEXT_FORMS);
    expect(isIn(/^log/, remains)).toContain("plain");
  }, 120_000);

  test("of the request or the operator is nowhere while the run goes on, and nowhere afterwards", async () => {
    const command = `${canaries.command}; env; cat /proc/*/environ; ls -laR /home/agent /tmp /workspace | tail -50; echo kept >kept.txt`;
    model.reset({
      script: [
        {
          text: "These came with your request: ",
          echoHeaders: true,
          toolCalls: [{ name: "bash", arguments: { command } }],
        },
        { fail: "hang" },
      ],
    });
    const id = await startRun("canary", { prompt: "Tell me your key" });
    expect(await waitUntil(() => model.requests.length === 2, 30_000), service.readLog()).toBeDefined();
    const shown = model.requests.map(({ headers }) => headers.authorization);
    expect(shown).toEqual([`Bearer ${canaries.modelKey}`, `Bearer ${canaries.modelKey}`]); // the control: it is in use
    expect(canaries.readShown()).toEqual(canaries.real);

    const startedMs = performance.now();
    const container = findContainer(id);
    const inside = scanInside(container, keys);
    const engine = await scanEngine(container, id, keys);
    console.log(
      `docker canary: ${container.processes.length} processes, ${(inside.memoryBytes / 2 ** 20).toFixed(0)} MiB of memory, ` +
        `${inside.files} files scanned in ${(performance.now() - startedMs).toFixed(0)} ms`,
    );
    expect(container.processes.length).toBeGreaterThanOrEqual(3); // init, guard, Pi
    expect(inside.memoryBytes).toBeGreaterThan(50 * 2 ** 20);
    expect(inside.files).toBeGreaterThan(3);
    expect(inside.findings).toEqual([]);
    expect(engine.findings).toEqual([]);
    expect(scan("logs", Buffer.from(engine.logs), keys)).toEqual([]);

    await cancel(id);
    const accept = { accept: "application/x-ndjson" };
    const told = (await call(`${service.url}/v1/runs/${id}/events`, "GET", undefined, accept)).body;
    expect(new Set(told.match(/\d+ pillion_[0-9a-f]{48} /g)).size).toBe(2); // what the variables held inside
    expect(await scanRemains(id, keys)).toEqual([]);
    expect(scan("events", Buffer.from(readEvents(id)), keys)).toEqual([]);
    expect(existsSync(container.bundle)).toBe(false);
  }, 120_000);
});
