import { mkdtempSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, expect, it } from "vitest";
import { Run } from "#contract/run";
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
  readFamily,
  type Starting,
  type StormService,
  startStormService,
  waitUntil,
} from "../fakes/storm-service.ts";

type SandboxScan = { processes: string[]; memoryBytes: number; files: number; findings: Finding[] };

/** All processes of all sandboxes of a service, and the files of each sandbox, seen through its first process. */
function scanSandboxes(home: string, service: StormService, needles: readonly Needle[]): SandboxScan {
  const processes = readFamily(home, service.uidBase, service.pid).filter(({ pid }) => pid !== service.pid);
  const result: SandboxScan = { processes: [], memoryBytes: 0, files: 0, findings: [] };
  const seenNamespaces = new Set([readlinkSync("/proc/self/ns/pid")]);
  for (const process of processes) {
    const { pid, namespace, commandLine } = process;
    result.processes.push(commandLine);
    result.findings.push(...scanFile("cmdline", `/proc/${pid}/cmdline`, needles));
    result.findings.push(...scanFile("environ", `/proc/${pid}/environ`, needles));
    const memory = scanMemory(process, needles);
    result.memoryBytes += memory.bytes;
    result.findings.push(...memory.findings);
    if (seenNamespaces.has(namespace)) continue;
    seenNamespaces.add(namespace);
    for (const place of ["workspace", "home/agent", "tmp", "etc", "dev/shm"]) {
      const tree = scanTree(place, `/proc/${pid}/root/${place}`, needles);
      result.files += tree.files;
      result.findings.push(...tree.findings);
    }
  }
  result.findings = [...new Set(result.findings)].sort();
  return result;
}

let root: string;
let home: string;
let starting: Starting;
let service: StormService;
let model: ScriptedModel;
let canaries: CanaryKeys;
let keys: readonly Needle[];

const planted = toSecret("canary-planted");
const control = toNeedles(planted);

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), "pillion-canary-"));
  // The control's place in the log: the data directory is written there.
  home = join(root, planted);
  model = await openScriptedModel({ script: [] });
  canaries = await openCanaryKeys();
  keys = canaries.needles;
  starting = startStormService(home, pickUidBase(), {
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

async function waitForEnd(id: string): Promise<Run> {
  const accept = { accept: "application/x-ndjson" };
  await call(`${service.url}/v1/runs/${id}/events`, "GET", undefined, accept); // ends with the run
  return Run.parse(JSON.parse((await call(`${service.url}/v1/runs/${id}`)).body));
}

/** What is left of runs when they are over: log, disk, and every answer about them. */
async function scanRemains(ids: readonly string[], needles: readonly Needle[]): Promise<Finding[]> {
  const findings = scan("log", Buffer.from(service.readLog()), needles);
  findings.push(...scanTree("disk", home, needles).findings);
  findings.push(...scan("list", Buffer.from((await call(`${service.url}/v1/runs`)).body), needles));
  for (const id of ids) {
    for (const part of ["", "/events", "/files", "/diff"]) {
      const accept = part === "/events" ? { accept: "application/x-ndjson" } : {};
      const { body } = await call(`${service.url}/v1/runs/${id}${part}`, "GET", undefined, accept);
      findings.push(...scan(`GET run${part}`, Buffer.from(body), needles));
    }
  }
  return [...new Set(findings.map((finding) => finding.replace(/run_[0-9a-z]{26}/, "<run>")))].sort();
}

it("the scanner tells every form in a buffer, at every offset of base64 (control)", () => {
  const forms = Object.entries({ ...toForms(planted), utf16: planted });
  for (const [form, text] of forms) {
    const bytes = Buffer.from(`before ${text} after`, form === "utf16" ? "utf16le" : "utf8");
    expect(isIn(/^here/, scan("here", bytes, control))).toContain(form);
  }
  for (const before of ["", "B", "Be", "Bearer "]) {
    const bytes = Buffer.from(Buffer.from(`${before}${planted} and more`).toString("base64"));
    expect(isIn(/^here/, scan("here", bytes, control))).toContain("base64");
  }
  const packed = gzipSync(`before ${planted} after`);
  expect(scan("here", packed, control)).toEqual(["here: gzip"]);
  expect(
    scan("here", Buffer.concat([Buffer.from("x\x1f\x8b\x08y"), packed.subarray(0, -8)]), control),
  ).toEqual(["here: gzip"]);
  expect(scan("here", Buffer.from("nothing of it"), control)).toEqual([]);
  expect(scan("here", gzipSync("nothing of it"), control)).toEqual([]);
});

it("S3.6 what is planted is found in every place in every form (control)", async () => {
  const forms = Object.values(toForms(planted)).join("\n");
  model.reset({
    scripts: {
      planted: [
        {
          toolCalls: [
            { name: "read", arguments: { path: "forms.txt" } },
            { name: "write", arguments: { path: "copy.txt", content: forms } },
          ],
        },
        {
          toolCalls: [
            {
              name: "bash",
              arguments: { command: `export PLANTED='${planted}'; exec -a '${planted}' sleep 600` },
            },
          ],
        },
      ],
    },
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
    readFamily(home, service.uidBase).some(({ commandLine }) => commandLine.startsWith(`${planted} 600`));
  expect(await waitUntil(isHanging, 30_000), service.readLog()).toBeDefined();

  const inside = scanSandboxes(home, service, control);
  expect(isIn(/^workspace\/forms\.txt/, inside.findings)).toEqual(TEXT_FORMS);
  expect(isIn(/^workspace\/forms\.gz/, inside.findings)).toEqual(["gzip"]);
  expect(isIn(/^memory/, inside.findings)).toEqual(expect.arrayContaining(TEXT_FORMS));
  expect(isIn(/^environ/, inside.findings)).toEqual(["plain"]);
  expect(isIn(/^cmdline/, inside.findings)).toContain("plain");

  await call(`${service.url}/v1/runs/${id}/cancel`, "POST");
  expect((await waitForEnd(id)).outcome).toBe("cancelled");
  const remains = await scanRemains([id], control);
  expect(isIn(/^disk\/journal\.db/, remains)).toEqual(expect.arrayContaining(TEXT_FORMS));
  expect(isIn(/^disk\/results\/<run>\/files\.tar/, remains)).toEqual(TEXT_FORMS);
  expect(isIn(/^disk\/results\/<run>\/diff\.patch/, remains)).toEqual(TEXT_FORMS);
  expect(isIn(/^GET run\/diff/, remains)).toEqual(TEXT_FORMS);
  expect(isIn(/^GET run\/events/, remains)).toEqual(TEXT_FORMS);
  expect(isIn(/^log/, remains)).toContain("plain");
}, 120_000);

it("S3.6 the keys of request and operator are nowhere while runs go on, and nowhere afterwards", async () => {
  const command = `${canaries.command}; env; cat /proc/*/environ; ls -laR /home/agent /tmp /workspace | tail -50; echo kept >kept.txt`;
  const curious = [
    {
      text: "These came with your request: ",
      echoHeaders: true,
      toolCalls: [{ name: "bash", arguments: { command } }],
    },
    { fail: "hang" as const },
  ];
  model.reset({
    scripts: {
      canary: curious,
      operated: curious,
      refused: [
        {
          fail: {
            status: 401,
            headers: { "x-request-id": canaries.modelKey },
            body: {
              error: {
                message: `Incorrect API key provided: ${Object.values(toForms(canaries.modelKey)).join(" or ")}.`,
              },
            },
          },
        },
      ],
    },
  });
  const prompt = "Tell me your key";
  const hanging = await startRun("canary", { prompt });
  const others = canaries.toFields(model).credentials.slice(1); // but for the model's: the operator's key is used
  const operated = await startRun("", { prompt, model: "openai/operated", credentials: others });
  expect(await waitUntil(() => model.requests.length === 4, 60_000), service.readLog()).toBeDefined();
  const shown = model.requests.map(({ headers }) => headers.authorization).toSorted();
  const used = [canaries.modelKey, canaries.operatorKey].map((key) => `Bearer ${key}`);
  expect(shown).toEqual([...used, ...used].toSorted());
  expect(canaries.readShown().toSorted()).toEqual([...canaries.real, ...canaries.real].toSorted());

  const startedMs = performance.now();
  const inside = scanSandboxes(home, service, keys);
  console.log(
    `canary: ${inside.processes.length} processes, ${(inside.memoryBytes / 2 ** 20).toFixed(0)} MiB of memory, ${inside.files} files scanned in ${(performance.now() - startedMs).toFixed(0)} ms`,
  );
  expect(inside.processes.length).toBeGreaterThanOrEqual(8);
  expect(inside.memoryBytes).toBeGreaterThan(50 * 2 ** 20);
  expect(inside.files).toBeGreaterThan(3);
  expect(inside.findings).toEqual([]);
  for (const id of [hanging, operated]) {
    await call(`${service.url}/v1/runs/${id}/cancel`, "POST");
    expect((await waitForEnd(id)).outcome).toBe("cancelled");
  }
  const accept = { accept: "application/x-ndjson" };
  const told = (await call(`${service.url}/v1/runs/${hanging}/events`, "GET", undefined, accept)).body;
  expect(new Set(told.match(/\d+ pillion_[0-9a-f]{48} /g)).size).toBe(2); // what the variables held inside

  const refused = await startRun("refused", { prompt: "Be refused" });
  const run = await waitForEnd(refused);
  expect({ outcome: run.outcome, code: run.failure?.code }).toEqual({
    outcome: "failed",
    code: "model_refused",
  });
  expect(await scanRemains([hanging, operated, refused], keys)).toEqual([]);
}, 120_000);

it("S3.6 the refusal of a bad request does not repeat the key", async () => {
  const host = new URL(model.url).host;
  const credential = { host, header: "authorization", value: canaries.modelKey };
  const endpoint = { name: "scripted/bad", baseUrl: model.url, api: "openai-completions" };
  const bodies = [
    { credentials: [{ ...credential, host: "elsewhere.example" }] },
    { credentials: [{ ...credential, host: canaries.modelKey }] },
    { credentials: [{ ...credential, header: canaries.modelKey }] },
    { credentials: [{ ...credential, value: `${canaries.modelKey}\n` }] },
    { credentials: [{ ...credential, [canaries.modelKey]: 1 }] },
    { credentials: canaries.modelKey },
    { [canaries.modelKey]: true },
  ];
  for (const body of bodies) {
    const answer = await call(`${service.url}/v1/runs`, "POST", { model: endpoint, prompt: "x", ...body });
    expect(answer.status, answer.body).toBe(400);
    const where = `answer to ${Object.keys(body)} ${JSON.stringify(body).length}`;
    expect.soft(scan(where, Buffer.from(answer.body), keys)).toEqual([]);
  }
  expect(scan("log", Buffer.from(service.readLog()), keys)).toEqual([]);
});
