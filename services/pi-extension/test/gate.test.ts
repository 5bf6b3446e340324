import { describe, expect, test } from "vitest";
import { ToolName } from "#contract/agent";
import { CLAIM_PREFIX } from "#contract/extension-words";
import { CLAIM, loadExtension, toToolCall } from "./recorded-pi.ts";

const LOADED = [{ registerTool: "find" }, { registerCommand: "pillion-closed" }];

const OPENED = [
  {
    registerProvider: "acme",
    config: {
      baseUrl: CLAIM.baseUrl,
      apiKey: CLAIM.placeholder,
      api: CLAIM.api,
      models: [
        {
          id: "scripted",
          name: "scripted",
          reasoning: true,
          input: ["text", "image"],
          cost: CLAIM.price,
          contextWindow: 64_000,
          maxTokens: 4_000,
        },
      ],
    },
  },
  { setModel: { provider: "acme", id: "scripted" } },
  { setThinkingLevel: "low" },
  { setActiveTools: ["read", "grep"] },
  { registerCommand: `pillion-${CLAIM.nonce}` },
];

const NOT_TEXTS = [undefined, null, 7, {}, [], ["read"], true];

/** A claim that is good but for these fields. */
function toWrong(fields: object): [string, string] {
  return [`has ${JSON.stringify(fields)}`, CLAIM_PREFIX + JSON.stringify({ ...CLAIM, ...fields })];
}

describe("before its claim", () => {
  test("Pi has no active tool, no provider and the one command that says it is closed", async () => {
    const pi = loadExtension();
    expect(pi.calls).toEqual(LOADED);
    await pi.play("session_start", { type: "session_start", reason: "startup" });
    expect(pi.calls).toEqual([...LOADED, { setActiveTools: [] }]);
  });

  test.each(ToolName.options)(
    "a call of %s is blocked with a reason; the claim lets it through",
    async (name) => {
      const pi = loadExtension();
      const reason = `The tool ${name} is not allowed in this run.`;
      expect(await pi.play("tool_call", toToolCall(name))).toEqual({ block: true, reason });
      await pi.offer({ ...CLAIM, tools: [name] });
      expect(await pi.play("tool_call", toToolCall(name))).toBeUndefined();
    },
  );

  test.each([
    "Do something.",
    "",
    "/help",
    "!ls",
    ` ${CLAIM_PREFIX}${JSON.stringify(CLAIM)}`,
    JSON.stringify(CLAIM),
  ])("the input %j does not reach the model and opens nothing", async (text) => {
    const pi = loadExtension();
    expect(await pi.say(text)).toEqual({ action: "handled" });
    expect(pi.calls).toEqual(LOADED);
    await pi.offer(CLAIM);
    expect(await pi.say(text)).toEqual({ action: "continue" }); // the control
  });

  test("no turn of the agent starts; the claim lets one start", async () => {
    const pi = loadExtension();
    const turn = () => pi.play("before_agent_start", { systemPromptOptions: {} });
    await expect(turn()).rejects.toThrow("no claim");
    await pi.offer(CLAIM);
    await expect(turn()).resolves.toBeUndefined();
  });
});

describe("a claim", () => {
  test("registers its provider and sets exactly its tools, and proves itself last", async () => {
    const pi = loadExtension();
    expect(await pi.offer(CLAIM)).toEqual({ action: "handled" });
    expect(pi.calls).toEqual([...LOADED, ...OPENED]);
  });

  test("without a price registers a model that costs nothing, as Pi wants a number", async () => {
    const pi = loadExtension();
    await pi.offer({ ...CLAIM, price: null });
    const cost = { input: 0, output: 0, cacheRead: 0, cacheWrite: 0 };
    expect(pi.calls[2]).toMatchObject({ config: { models: [{ cost }] } });
  });

  test("lets its tools be called, and blocks every other one with a reason", async () => {
    const pi = loadExtension();
    await pi.offer(CLAIM);
    const others = ["write", "bash", "codemode", "Read", "read ", "", "constructor", "__proto__"];
    const answers = await Promise.all(
      [...CLAIM.tools, ...others].map((name) => pi.play("tool_call", toToolCall(name))),
    );
    const reasons = others.map((name) => ({
      block: true,
      reason: `The tool ${name} is not allowed in this run.`,
    }));
    expect(answers).toEqual([undefined, undefined, ...reasons]);
  });

  test("for no tools lets none be called", async () => {
    const pi = loadExtension();
    await pi.offer({ ...CLAIM, tools: [] });
    const answers = await Promise.all(ToolName.options.map((name) => pi.isBlocked(toToolCall(name))));
    expect(answers).toEqual(ToolName.options.map(() => true));
  });

  test("is taken once: a second one changes nothing and does not reach the model", async () => {
    const pi = loadExtension();
    await pi.offer(CLAIM);
    const nonce = CLAIM.nonce.replaceAll("0", "f");
    const second = { ...CLAIM, nonce, baseUrl: "http://127.0.0.1:4001/v1", tools: ["read", "bash"] };
    expect(await pi.offer(second)).toEqual({ action: "handled" });
    expect(await pi.say(`${CLAIM_PREFIX}nonsense`)).toEqual({ action: "handled" });
    expect(pi.calls).toEqual([...LOADED, ...OPENED]);
    expect(await pi.isBlocked(toToolCall("bash"))).toBe(true);
    expect(await pi.isBlocked(toToolCall("grep"))).toBe(false);
    // The control: the same claim is a good one where it comes first.
    const other = loadExtension();
    await other.offer(second);
    expect(await other.isBlocked(toToolCall("bash"))).toBe(false);
  });

  test.each([
    ["is no JSON", `${CLAIM_PREFIX}{`],
    ["is null", `${CLAIM_PREFIX}null`],
    ["is a list", `${CLAIM_PREFIX}[]`],
    ["is a text", `${CLAIM_PREFIX}"read"`],
    ...["nonce", "provider", "model", "api", "baseUrl", "placeholder"].map((name) => toWrong({ [name]: 7 })),
    ...["thinking", "instructions"].map((name) => toWrong({ [name]: null })),
    ...[{ tools: "read" }, { tools: [7] }, { tools: null }, { skills: null }].map(toWrong),
  ])("that %s opens nothing and does not reach the model; a good one may follow", async (_, text) => {
    const pi = loadExtension();
    expect(await pi.say(text)).toEqual({ action: "handled" });
    expect(pi.calls).toEqual(LOADED);
    expect(await pi.isBlocked(toToolCall("read"))).toBe(true);
    await pi.offer(CLAIM);
    expect(pi.calls).toEqual([...LOADED, ...OPENED]);
  });

  test("whose model Pi does not take proves nothing, activates no tool and leaves Pi closed for good", async () => {
    const pi = loadExtension({ takesModel: false });
    const handled = await pi.offer(CLAIM);
    expect(handled).toEqual({ action: "handled" });
    expect(await pi.offer(CLAIM)).toEqual(handled);
    expect(pi.calls).toEqual([...LOADED, ...OPENED.slice(0, 2)]);
  });

  test("tells the model its instructions, its tools and its skills", async () => {
    const pi = loadExtension();
    await pi.offer(CLAIM);
    const systemPromptOptions = { cwd: "/workspace", selectedTools: ["bash"], skills: [{ name: "foreign" }] };
    await pi.play("before_agent_start", { systemPromptOptions });
    const path = "/home/agent/skills/tidy/SKILL.md";
    expect(systemPromptOptions).toEqual({
      cwd: "/workspace",
      selectedTools: ["read", "grep"],
      appendSystemPrompt: "Be kind.",
      skills: [
        {
          name: "tidy",
          description: "Tidies up.",
          filePath: path,
          baseDir: "/home/agent/skills/tidy",
          sourceInfo: { path, source: "pillion", scope: "temporary", origin: "top-level" },
          disableModelInvocation: false,
        },
      ],
    });
  });

  test("without instructions leaves what Pi says besides as it is", async () => {
    const pi = loadExtension();
    await pi.offer({ ...CLAIM, instructions: "", skills: [] });
    const systemPromptOptions = { appendSystemPrompt: "Pi's own." };
    await pi.play("before_agent_start", { systemPromptOptions });
    expect(systemPromptOptions).toEqual({
      appendSystemPrompt: "Pi's own.",
      selectedTools: CLAIM.tools,
      skills: [],
    });
  });
});

describe("the gate given nonsense", () => {
  test("blocks every tool call that names no tool, before the claim and after it", async () => {
    const pi = loadExtension();
    const nonsense = [...NOT_TEXTS, ...NOT_TEXTS.map(toToolCall)];
    const areBlocked = () => Promise.all(nonsense.map((event) => pi.isBlocked(event)));
    expect(await areBlocked()).toEqual(nonsense.map(() => true));
    await pi.offer(CLAIM);
    expect(await areBlocked()).toEqual(nonsense.map(() => true));
    expect(await pi.isBlocked(toToolCall("read"))).toBe(false); // the control
  });

  test("never runs a shell line of a user's, before the claim or after it", async () => {
    const pi = loadExtension();
    const refused = { result: { output: "refused", exitCode: 126, cancelled: false, truncated: false } };
    const shell = () => pi.play("user_bash", { type: "user_bash", command: "id", cwd: "/workspace" });
    expect(await shell()).toEqual(refused);
    await pi.offer({ ...CLAIM, tools: ["bash"] });
    expect(await shell()).toEqual(refused);
  });
});
