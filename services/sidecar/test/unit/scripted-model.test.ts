import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it, vi } from "vitest";
import * as z from "zod";
import { openRealPi, type PiRecord, piDialects, type RealPi } from "../../../../scripts/record-pi-rpc.ts";
import { openScriptedModel, type Turn } from "../fakes/scripted-model.ts";

const conversation: Turn[] = [
  {
    thinking: "A file first.",
    text: ["I write ", "a greeting."],
    toolCalls: [{ name: "write", arguments: { path: "hello.txt", content: "grüße 🌻\n" } }],
    usage: { input: 120, output: 30, cacheRead: 0 },
  },
  {
    toolCalls: [
      { name: "read", arguments: { path: "hello.txt" } },
      { name: "read", arguments: { path: "missing.txt" } },
    ],
    usage: { input: 40, output: 20, cacheRead: 110 },
  },
  { text: "The file is there.", usage: { input: 25, output: 8, cacheRead: 150 } },
];

/** Each failure and what Pi 1.5.2 says of it over chat completions, responses and messages. */
const failures: [name: string, turn: Turn, says: [chat: string, responses: string, messages: string]][] = [
  [
    "status 401",
    { fail: { status: 401 } },
    [
      '401: {"message":"Incorrect API key provided.","type":"invalid_request_error","param":null,"code":"invalid_api_key"}',
      'scripted API error (401): {"message":"Incorrect API key provided.","type":"invalid_request_error","param":null,"code":"invalid_api_key"}',
      '401 {"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}',
    ],
  ],
  [
    "status 403",
    { fail: { status: 403, body: { error: { message: "no" } } } },
    ['403: {"message":"no"}', 'scripted API error (403): {"message":"no"}', '403 {"error":{"message":"no"}}'],
  ],
  [
    "status 413",
    { refuseBody: true },
    [
      '413: {"message":"Request body too large.","type":"invalid_request_error","param":null,"code":null}',
      'scripted API error (413): {"message":"Request body too large.","type":"invalid_request_error","param":null,"code":null}',
      '413 {"type":"error","error":{"type":"request_too_large","message":"Request exceeds the maximum size"}}',
    ],
  ],
  [
    "status 429",
    { fail: { status: 429, headers: { "retry-after": "1" } } },
    [
      '429: {"message":"Rate limit reached for requests.","type":"requests","param":null,"code":"rate_limit_exceeded"}',
      'scripted API error (429): {"message":"Rate limit reached for requests.","type":"requests","param":null,"code":"rate_limit_exceeded"}',
      '429 {"type":"error","error":{"type":"rate_limit_error","message":"This request would exceed your organization\'s rate limit."}}',
    ],
  ],
  [
    "status 500",
    { fail: { status: 500 } },
    [
      '500: {"message":"The server had an error while processing your request.","type":"server_error","param":null,"code":null}',
      'scripted API error (500): {"message":"The server had an error while processing your request.","type":"server_error","param":null,"code":null}',
      '500 {"type":"error","error":{"type":"api_error","message":"Internal server error"}}',
    ],
  ],
  [
    "status 503 without a body",
    { fail: { status: 503, body: "" } },
    [
      "503 status code (no body)",
      "scripted API error (503): 503 status code (no body)",
      "503 status code (no body)",
    ],
  ],
  [
    "status 502 with a page of a proxy",
    { fail: { status: 502, body: "<p>Bad gateway", headers: { "content-type": "text/html" } } },
    ["502 <p>Bad gateway", "scripted API error (502): 502 <p>Bad gateway", "502 <p>Bad gateway"],
  ],
  [
    "a dropped stream",
    { fail: "drop" },
    [
      "terminated: other side closed (UND_ERR_SOCKET)",
      "terminated: other side closed (UND_ERR_SOCKET)",
      "terminated: other side closed (UND_ERR_SOCKET)",
    ],
  ],
  [
    "garbage",
    { fail: "garbage" },
    [
      "Error reading response: malformed server-sent event JSON.",
      "Error reading response: malformed server-sent event JSON.",
      "Anthropic stream ended without a stop reason",
    ],
  ],
  [
    "a truncated stream",
    { fail: "truncate" },
    [
      "Stream ended without finish_reason",
      "OpenAI Responses stream ended before a terminal response event",
      "Anthropic stream ended before message_stop",
    ],
  ],
  [
    "a page instead of a stream",
    { fail: "html" },
    [
      "Stream ended without finish_reason",
      "OpenAI Responses stream ended before a terminal response event",
      "Anthropic stream ended without a stop reason",
    ],
  ],
];

describe.each(piDialects)("a scripted model that speaks $api to the real Pi", ({ api, basePath }) => {
  it("plays thinking, text, tool calls and usage", async () => {
    await using model = await openScriptedModel({ script: conversation });
    await using pi = await openRealPi({ baseUrl: model.url + basePath, api, models: ["scripted-1"] });
    const records = await pi.run("Say hello");

    const answers = toAnswers(records);
    expect(
      answers.map(({ stopReason, content }) => [stopReason, ...content.map(({ type }) => type)]),
    ).toEqual([
      ["toolUse", "thinking", "text", "toolCall"],
      ["toolUse", "toolCall", "toolCall"],
      ["stop", "text"],
    ]);
    expect(answers[0]!.content).toMatchObject([
      { thinking: "A file first." },
      { text: "I write a greeting." },
      { name: "write", arguments: { path: "hello.txt", content: "grüße 🌻\n" } },
    ]);
    expect(answers.map(({ usage }) => usage)).toMatchObject(conversation.map(({ usage }) => usage));
    expect(await readFile(join(pi.workspace, "hello.txt"), "utf8")).toBe("grüße 🌻\n");
    const results = records.filter(({ type }) => type === "tool_execution_end");
    expect(results.map(({ toolName, isError }) => [toolName, isError]).sort()).toEqual([
      ["read", false],
      ["read", true],
      ["write", false],
    ]);
    expect(model.requests).toHaveLength(3);
    expect(records.at(-1)).toEqual({ type: "agent_settled", aborted: false });
  });

  it("makes Pi report every failure as an error, in the words we map", async () => {
    const scripts = Object.fromEntries(failures.map(([name, turn]) => [name, [turn]]));
    const models = Object.keys(scripts);
    await using model = await openScriptedModel({ scripts });
    await using pi = await openRealPi({ baseUrl: model.url + basePath, api, models });
    const said: Record<string, unknown> = {};
    for (const name of models) {
      await chooseModel(pi, name);
      const answer = toAnswers(await pi.run("Say hello")).at(-1)!;
      said[name] = [answer.stopReason, answer.errorMessage];
    }

    const dialect = piDialects.findIndex((one) => one.api === api);
    expect(said).toEqual(
      Object.fromEntries(failures.map(([name, , says]) => [name, ["error", says[dialect]]])),
    );
    expect(model.requests, "no hidden retries").toHaveLength(failures.length);
  });

  it("hangs until Pi is told to abort", async () => {
    const scripts: Record<string, Turn[]> = {
      hang: [{ fail: "hang" }],
      "hang-before": [{ fail: "hang-before" }],
      slow: [{ text: "never heard", delayMs: 600_000 }],
    };
    await using model = await openScriptedModel({ scripts });
    const models = Object.keys(scripts);
    await using pi = await openRealPi({ baseUrl: model.url + basePath, api, models });
    for (const [index, name] of models.entries()) {
      await chooseModel(pi, name);
      const running = pi.run("Say hello");
      await expect.poll(() => model.requests.length).toBe(index + 1);
      await pi.command("abort");
      const records = await running;
      expect(toAnswers(records).map(({ stopReason }) => stopReason)).toEqual(["aborted"]);
      expect(records.at(-1)).toEqual({ type: "agent_settled", aborted: true });
    }
  });
});

describe("a scripted model", () => {
  const ask = (url: string, fields: object, path = "/v1/chat/completions"): Promise<Response> =>
    fetch(url + path, { method: "POST", body: JSON.stringify({ model: "m", messages: [], ...fields }) });
  const turnsHeard = (count: number): object => ({
    messages: Array.from({ length: count }, () => ({ role: "assistant", content: "…" })),
  });

  it("answers in one piece when no stream is asked for", async () => {
    await using model = await openScriptedModel({ script: conversation });
    expect(await (await ask(model.url, {})).json()).toEqual({
      id: "scripted_0",
      object: "chat.completion",
      created: 0,
      model: "m",
      choices: [
        {
          index: 0,
          finish_reason: "tool_calls",
          message: {
            role: "assistant",
            content: "I write a greeting.",
            refusal: null,
            reasoning_content: "A file first.",
            tool_calls: [
              {
                id: "call_0_0",
                type: "function",
                function: { name: "write", arguments: '{"path":"hello.txt","content":"grüße 🌻\\n"}' },
              },
            ],
          },
        },
      ],
      usage: {
        prompt_tokens: 120,
        completion_tokens: 30,
        total_tokens: 150,
        prompt_tokens_details: { cached_tokens: 0 },
      },
    });
  });

  it("chooses the script by model and the turn by the conversation, and says done after the last", async () => {
    await using model = await openScriptedModel({
      script: [{ text: "common" }],
      scripts: { mine: [{ text: "first" }, { text: "second" }] },
    });
    const hear = async (fields: object): Promise<unknown> => {
      const { choices } = Completion.parse(await (await ask(model.url, fields)).json());
      return choices[0]!.message.content;
    };
    const questions = [{}, { model: "mine" }, { model: "mine", ...turnsHeard(1) }, turnsHeard(1)];
    expect(await Promise.all(questions.map(hear))).toEqual(["common", "first", "second", "done"]);
  });

  it("records requests, repeats credentials when told to, and forgets on reset", async () => {
    await using model = await openScriptedModel({ script: [{ text: "got ", echoHeaders: true }] });
    const answer = await fetch(`${model.url}/v1/chat/completions`, {
      method: "POST",
      headers: { authorization: "Bearer sesame" },
      body: '{"model":"m","messages":[]}',
    });
    expect(await answer.text()).toContain("got authorization=Bearer sesame x-api-key=");
    expect(model.requests).toEqual([
      {
        method: "POST",
        path: "/v1/chat/completions",
        headers: expect.objectContaining({ authorization: "Bearer sesame" }),
        body: { model: "m", messages: [] },
        at: expect.any(Number),
        sentBytes: 0,
        end: "whole",
      },
    ]);
    model.reset({ script: [{ text: "another" }] });
    expect(model.requests).toEqual([]);
    expect(await (await ask(model.url, {})).text()).toContain("another");
  });

  it("keeps a call's cap when told to, in its usage and its reason to stop", async () => {
    const usage = { input: 3, output: 900, cacheRead: 0 };
    await using model = await openScriptedModel({ script: [{ text: "much", usage, keepsCap: true }] });
    const read = async (fields: object): Promise<unknown> => (await ask(model.url, fields)).json();
    const stopped = (finish_reason: string, completion_tokens: number) => ({
      choices: [{ finish_reason }],
      usage: { completion_tokens },
    });
    expect(await read({ max_tokens: 100 })).toMatchObject(stopped("length", 100));
    expect(await read({ max_tokens: 900 })).toMatchObject(stopped("stop", 900));
    expect(await read({})).toMatchObject(stopped("stop", 900));
  });

  it("repeats a stream without end for who listens, and notes that the caller hung up", async () => {
    const turn = { text: ["x".repeat(10_000)], repeat: 100_000 };
    await using model = await openScriptedModel({ script: [turn] });
    const hungUp = new AbortController();
    const answer = await fetch(`${model.url}/v1/chat/completions`, {
      method: "POST",
      body: '{"model":"m","stream":true,"messages":[]}',
      signal: hungUp.signal,
    });
    const reader = answer.body?.getReader();
    for (let read = 0; read < 50_000; ) read += (await reader?.read())?.value?.length ?? 0;
    hungUp.abort();
    await vi.waitFor(() => expect(model.requests[0]?.end).toBe("cut"));
    expect(model.requests[0]?.sentBytes).toBeGreaterThan(50_000);
    expect(model.requests[0]?.sentBytes).toBeLessThan(500_000_000);
  });

  it("refuses what it does not know", async () => {
    await using model = await openScriptedModel({});
    const statuses = [
      (await ask(model.url, {}, "/v1/embeddings")).status,
      (await ask(model.url, { model: 7 })).status,
      (await fetch(`${model.url}/v1/chat/completions`, { method: "POST", body: "not json" })).status,
    ];
    expect(statuses).toEqual([404, 400, 400]);
    await expect(openScriptedModel({ script: [{ txt: "typo" } as Turn] })).rejects.toThrow("txt");
    expect(() => model.reset({ script: [{ fail: "sulk" } as never] })).toThrow();
  });

  it("destroys its sockets when it is closed", async () => {
    const model = await openScriptedModel({ script: [{ fail: "hang-before" }] });
    const asked = ask(model.url, {});
    const failed = expect(asked).rejects.toThrow("fetch failed");
    await expect.poll(() => model.requests.length).toBe(1);
    await model[Symbol.asyncDispose]();
    await failed;
  });

  it("runs as a process of its own and tells its port", async () => {
    await using undo = new AsyncDisposableStack();
    const folder = await mkdtemp(join(tmpdir(), "scripted-model-"));
    undo.defer(() => rm(folder, { recursive: true }));
    await writeFile(join(folder, "script.json"), JSON.stringify({ script: [{ text: "from afar" }] }));
    const main = fileURLToPath(new URL("../fakes/scripted-model-main.ts", import.meta.url));
    const child = spawn(process.execPath, [main, join(folder, "script.json")]);
    undo.defer(() => void child.kill("SIGKILL"));
    const [line] = await once(child.stdout, "data");
    const { port } = z.strictObject({ port: z.int().positive() }).parse(JSON.parse(String(line)));
    expect(await (await ask(`http://127.0.0.1:${port}`, {})).text()).toContain("from afar");
    child.kill("SIGTERM");
    expect(await once(child, "exit")).toEqual([0, null]);
  });
});

const Completion = z.looseObject({
  choices: z.array(z.looseObject({ message: z.looseObject({ content: z.string().nullable() }) })),
});

const AnswerRecord = z.looseObject({
  type: z.literal("message_end"),
  message: z.looseObject({
    role: z.literal("assistant"),
    stopReason: z.string(),
    errorMessage: z.string().optional(),
    content: z.array(z.looseObject({ type: z.string() })),
    usage: z.looseObject({}),
  }),
});

function toAnswers(records: PiRecord[]): z.infer<typeof AnswerRecord>["message"][] {
  return records.flatMap((record) => AnswerRecord.safeParse(record).data?.message ?? []);
}

async function chooseModel(pi: RealPi, modelId: string): Promise<void> {
  await pi.command("new_session");
  await pi.command("set_model", { provider: "scripted", modelId });
}
