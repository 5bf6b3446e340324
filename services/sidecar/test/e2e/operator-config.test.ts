/** What an operator sets with files and settings of their own, over the built service: agent, provider, key, demo model. */
import { cp, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Problem } from "#contract/failure";
import {
  getJson,
  type LiveService,
  openLiveService,
  post,
  runProgram,
  runToEnd,
} from "../fakes/live-service.ts";
import { openScriptedModel, type ScriptedModel } from "../fakes/scripted-model.ts";
import { REVIEW, toEffort, toTold } from "../fakes/told-agent.ts";
import { toResults } from "../fakes/tool-results.ts";

const CONFIG = join(import.meta.dirname, "../../../../config");
const KEY = "operator-canary-4d81f0a6c3b25e97";

const HELD = [
  { name: "tracker", host: "api.example", header: "authorization", value: `Bearer ${KEY}-tracker` },
  {
    name: "forge",
    host: "git.example:8443",
    header: "private-token",
    value: `${KEY}-forge`,
    pathPrefix: "/acme",
    methods: ["GET"],
  },
  { host: "unnamed.example", header: "x-key", value: `${KEY}-unnamed` }, // which no request can name
];

let model: ScriptedModel;
let directory: string;
let own: LiveService;

beforeAll(async () => {
  model = await openScriptedModel({});
  directory = await mkdtemp(join(tmpdir(), "pillion-operator-"));
  const configDir = join(directory, "config");
  await cp(CONFIG, configDir, { recursive: true });
  const openai = { title: "OpenAI", baseUrl: `${model.url}/v1`, api: "openai-completions" };
  const facts = {
    scripted: { reasoning: true, price: { input: 4, output: 16, cacheRead: 2, cacheWrite: 8 } },
  };
  await writeFile(
    join(configDir, "providers.json"),
    JSON.stringify({ openai: { ...openai, models: facts } }),
  );
  const agent = {
    instructions: "Be brief.",
    tools: ["read", "ls"],
    skills: ["code-review"],
    reasoning: "low",
  };
  await writeFile(join(configDir, "agent.json"), JSON.stringify(agent));
  await writeFile(join(directory, "key"), `${KEY}\n`);
  own = await openLiveService({
    env: {
      PILLION_SANDBOX: "local",
      PILLION_CONFIG_DIR: configDir,
      PILLION_OPENAI_API_KEY_FILE: join(directory, "key"),
      PILLION_PRIVATE_TARGETS: model.url,
      PILLION_ALLOWED_PROGRAMS: "bash",
      PILLION_CREDENTIALS: JSON.stringify(HELD),
    },
  });
});
afterAll(async () => {
  await own[Symbol.asyncDispose]();
  await model[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
});

describe("an operator with a configuration and a key file", () => {
  test("gives a request that says nothing of an agent the operator's own", async () => {
    model.reset({ script: [{ text: "Done.", usage: { input: 31_001, output: 0, cacheRead: 0 } }] });
    const { run } = await runToEnd(own, { prompt: "Look.", model: "openai/scripted" });
    const [request] = model.requests;
    expect(toTold(request?.body)).toEqual({
      instructions: "Be brief.",
      skills: [REVIEW],
      tools: ["read", "ls"],
    });
    expect(toEffort(request?.body)).toBe("low");
    expect(run).toMatchObject({ model: "openai/scripted", usage: { costUsd: 0.124004 } });
  });

  test("has the key reach the provider as its header, and nothing else", async () => {
    const command = `env; cat /proc/*/environ; cat ${join(directory, "key")}; cat "$HOME"/.pi/*.json`;
    model.reset({
      script: [
        { text: "Which key?", echoHeaders: true, toolCalls: [{ name: "bash", arguments: { command } }] },
        { text: "Done." },
      ],
    });
    const request = { prompt: "Go.", model: "openai/scripted", execution: { allowedPrograms: ["bash"] } };
    const { run, events } = await runToEnd(own, request);
    expect(run.outcome).toBe("succeeded");
    expect(model.requests.map(({ headers }) => headers.authorization)).toEqual([
      `Bearer ${KEY}`,
      `Bearer ${KEY}`,
    ]);
    const capabilities = await getJson(own, "/v1/capabilities");
    expect(capabilities).toMatchObject({
      providers: [{ id: "openai", api: "openai-completions", keyConfigured: true }],
      credentials: [
        { name: "tracker", host: "api.example", header: "authorization", pathPrefix: null, methods: null },
        {
          name: "forge",
          host: "git.example:8443",
          header: "private-token",
          pathPrefix: "/acme",
          methods: ["GET"],
        },
      ],
    });
    expect(own.logs()).toContain("PILLION_CREDENTIALS: the one for unnamed.example is no model's key");
    const kept = await readTree(own.home);
    const shown = [run, events, capabilities, model.requests.map(({ body }) => body), own.logs(), kept];
    // The controls: the model did say its key, the shell did look, and the data directory was really read.
    const said = "Which key?authorization=[redacted] x-api-key=";
    expect(events).toContainEqual(expect.objectContaining({ type: "message", text: said }));
    expect(toResults(events)).toEqual([
      {
        tool: "bash",
        isError: false,
        text: expect.stringMatching(/HOME=\/home\/agent\n.*key: No such file/s),
      },
    ]);
    expect(kept).toContain(run.id);
    expect(JSON.stringify(shown)).not.toContain(KEY);
  });

  test("S3.6 has the next run begin with the key that the file holds by then", async () => {
    const file = join(directory, "key");
    await writeFile(`${file}.new`, `${KEY}-refreshed\n`);
    await rename(`${file}.new`, file);
    model.reset({ script: [{ text: "Done." }] });
    await runToEnd(own, { prompt: "Go.", model: "openai/scripted" });
    expect(model.requests.map(({ headers }) => headers.authorization)).toEqual([`Bearer ${KEY}-refreshed`]);
    await writeFile(file, "");
    const { run } = await runToEnd(own, { prompt: "Go.", model: "openai/scripted" });
    expect(run.outcome).toBe("succeeded");
    expect(own.logs()).toContain("the earlier keys are kept");
    expect(own.logs()).not.toContain(KEY);
    await writeFile(file, `${KEY}\n`);
  });

  test("keeps the key from an endpoint that a request chose, although the provider has the name", async () => {
    model.reset({ script: [{ text: "Done." }] });
    const chosen = { name: "openai/scripted", baseUrl: `${model.url}/v1` };
    const { run } = await runToEnd(own, { prompt: "Go.", model: chosen });
    expect(run.outcome).toBe("succeeded");
    expect(model.requests.map(({ headers }) => headers.authorization)).toEqual([undefined]);
  });
});

/** All bytes of all files, so that a text can be looked for in them. */
async function readTree(directory: string): Promise<string> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile());
  return (
    await Promise.all(files.map(({ parentPath, name }) => readFile(join(parentPath, name), "latin1")))
  ).join("\n");
}

test("without the demo model demo/tour is refused by its name and offered to nobody", async () => {
  const demo = { prompt: "Look around.", model: "demo/tour" };
  await using usual = await openLiveService();
  expect((await runToEnd(usual, demo)).run).toMatchObject({ outcome: "succeeded", demo: true }); // the control
  expect(await getJson(usual, "/v1/capabilities")).toMatchObject({
    demoModel: true,
    defaultModel: "demo/tour",
  });
  await using strict = await openLiveService({ env: { PILLION_DEMO_MODEL: "false" } });
  const refused = await post(strict, "/run", demo);
  const message = "the demo model is switched off here";
  expect({ status: refused.status, problem: await refused.json() }).toMatchObject({
    status: 400,
    problem: {
      code: "invalid_request",
      detail: `The request is not valid: ${message}.`,
      errors: [{ path: "/model", message }],
    } satisfies Partial<Problem>,
  });
  const capabilities = await getJson<object>(strict, "/v1/capabilities");
  expect(capabilities).toMatchObject({ demoModel: false, defaultModel: null });
  expect(JSON.stringify(capabilities)).not.toContain("demo/tour");
});

test("S4.7 S4.2 what is wrong in a file of the defaults is told with the settings at once, without a trace", async () => {
  const configDir = join(directory, "broken");
  await cp(CONFIG, configDir, { recursive: true });
  await writeFile(join(configDir, "egress.json"), '{"allow": ["API.github.com"]}');
  const env = { PILLION_CONFIG_DIR: configDir, PILLION_PORT: "x", PILLION_HOME: join(directory, "home") };
  for (const args of [["serve"], ["run", "--demo"]]) {
    const { code, stdout, stderr } = await runProgram(args, { env });
    expect({ code, stdout, lines: stderr.trim().split("\n") }).toEqual({
      code: 2,
      stdout: "",
      lines: [
        "The settings are not valid:",
        "  PILLION_PORT must be a whole number from 0 to 65535",
        `  ${join(configDir, "egress.json")} cannot be used: allow[0] "API.github.com" must be a lower-case host like \`api.example.com\`, all below one like \`*.example.com\`, with \`:port\` if not 443, or \`http://\` before it for plain HTTP`,
      ],
    });
  }
});
