/** What a request says of its agent, followed to where it counts: the model's requests, Pi's own files, the cost. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ModelApi } from "#contract/extension";
import { type LiveService, openLiveService, runToEnd } from "../fakes/live-service.ts";
import { openScriptedModel, type ScriptedModel, type Turn } from "../fakes/scripted-model.ts";
import { toScriptedRequest } from "../fakes/scripted-request.ts";
import { REVIEW, toEffort, toTold } from "../fakes/told-agent.ts";
import { toResults } from "../fakes/tool-results.ts";

const ROOT = join(import.meta.dirname, "../../../..");

let model: ScriptedModel;
let service: LiveService;

beforeAll(async () => {
  model = await openScriptedModel({});
  service = await openLiveService({
    env: {
      PILLION_SANDBOX: "local",
      PILLION_PRIVATE_TARGETS: model.url,
      PILLION_ALLOWED_PROGRAMS: "bash",
    },
  });
});
afterAll(async () => {
  await service[Symbol.asyncDispose]();
  await model[Symbol.asyncDispose]();
});

/** A request whose model has more to it than its endpoint. */
function toRequest(api: ModelApi, facts: object, fields: object): object {
  const request = toScriptedRequest(model, { api, fields }) as { model: object };
  return { ...request, model: { ...request.model, ...facts } };
}

describe("the agent of a request", () => {
  const agent = {
    instructions: "Speak of ids as names.",
    tools: ["read", "ls"],
    skills: [
      { name: "code-review" },
      { name: "tidy", description: "Tidies a folder.", content: "# Tidy\n\nSort the files.\n" },
    ],
  };

  test.each([
    ["openai-completions", "high", undefined],
    ["openai-responses", { effort: "high", summary: "auto" }, { effort: "none" }],
    [
      "anthropic-messages",
      { type: "enabled", budget_tokens: 15360, display: "summarized" },
      { type: "disabled" },
    ],
  ] as const)("is told to the model through %s, after the operator's words", async (api, high, off) => {
    const { instructions }: { instructions: string } = JSON.parse(
      await readFile(join(ROOT, "config/agent.json"), "utf8"),
    );
    model.reset({ script: [{ text: "Done." }] });
    for (const reasoning of ["high", "off"])
      await runToEnd(service, toRequest(api, { reasoning: true }, { agent: { ...agent, reasoning } }));
    const bodies = model.requests.map(({ body }) => body);
    const tidy = {
      name: "tidy",
      description: "Tidies a folder.",
      location: "/home/agent/skills/tidy/SKILL.md",
    };
    const told = {
      instructions: `${instructions}\n\nSpeak of ids as names.`,
      skills: [REVIEW, tidy],
      tools: ["read", "ls"],
    };
    expect(bodies.map(toTold)).toEqual([told, told]);
    expect(bodies.map(toEffort)).toEqual([high, off]);
  });

  test("has its skills as files that Pi can read where the model was told", async () => {
    const skills = ["code-review", "tidy", "other"].map((name) => `/home/agent/skills/${name}/SKILL.md`);
    model.reset({ script: skills.map((path) => ({ toolCalls: [{ name: "read", arguments: { path } }] })) });
    const { events } = await runToEnd(service, toScriptedRequest(model, { fields: { agent } }));
    const review = await readFile(join(ROOT, "skills/code-review/SKILL.md"), "utf8");
    const tidy = '---\nname: tidy\ndescription: "Tidies a folder."\n---\n\n# Tidy\n\nSort the files.\n';
    expect(toResults(events)).toEqual([
      { tool: "read", isError: false, text: review },
      { tool: "read", isError: false, text: tidy },
      { tool: "read", isError: true, text: expect.stringContaining("ENOENT") },
    ]);
  });
});

test("the extension in the run's agent directory is the built one, byte for byte, as the receipt says", async () => {
  const command = 'sha256sum "$HOME/.pi/extensions/pillion.js" /opt/pillion/extension/pillion.js';
  model.reset({ script: [{ toolCalls: [{ name: "bash", arguments: { command } }] }] });
  const execution = { allowedPrograms: ["bash"] };
  const { run, events } = await runToEnd(service, toScriptedRequest(model, { fields: { execution } }));
  const sha256 = createHash("sha256")
    .update(await readFile(join(ROOT, "dist/product/extension/pillion.js")))
    .digest("hex");
  const lines = ["/home/agent/.pi/extensions/pillion.js", "/opt/pillion/extension/pillion.js"].map(
    (path) => `${sha256}  ${path}\n`,
  );
  expect(toResults(events)).toEqual([{ tool: "bash", isError: false, text: lines.join("") }]);
  expect(run.receipt?.harness).toEqual({ extensionSha256: sha256 });
});

describe("what a run costs", () => {
  const turns: Turn[] = [
    {
      toolCalls: [{ name: "ls", arguments: {} }],
      usage: { input: 31_250, output: 15_625, cacheRead: 62_500 },
    },
    { text: "Done.", usage: { input: 62_500, output: 15_625, cacheRead: 0 } },
  ];
  const tokens = { inputTokens: 93_750, outputTokens: 31_250, cacheReadTokens: 62_500, modelCalls: 2 };

  test.each([
    // 93,750 at 4 dollars a million, 31,250 at 16, 62,500 at 2.
    [{ input: 4, output: 16, cacheRead: 2, cacheWrite: 8 }, 0.375 + 0.5 + 0.125],
    [{ input: 0, output: 0, cacheRead: 0, cacheWrite: 0 }, 0],
    [undefined, null],
  ])("at the price %j is told as %j", async (price, costUsd) => {
    model.reset({ script: turns });
    const { run, events } = await runToEnd(service, toRequest("openai-completions", { price }, {}));
    expect(run.usage).toEqual({ ...tokens, costUsd });
    expect(events.at(-1)).toMatchObject({ type: "run.ended", usage: { ...tokens, costUsd } });
  });
});
