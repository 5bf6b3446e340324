/** Answers of the three dialects as providers send them: usage, the estimate, and what no answer may do to its reader. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { ModelApi } from "#contract/extension";
import { type CallUsage, UsageReader } from "../../../../src/broker/model/usage-reader.ts";

type Reading = { usage: CallUsage | null; estimate: number };

function read(api: ModelApi, ...chunks: (string | Buffer)[]): Reading {
  return readAll(api, chunks);
}

function readAll(api: ModelApi, chunks: readonly (string | Buffer)[]): Reading {
  const reader = new UsageReader(api);
  for (const chunk of chunks) reader.write(Buffer.from(chunk));
  const usage = reader.end();
  return { usage, estimate: reader.estimate };
}

const event = (data: unknown): string => `data: ${JSON.stringify(data)}\n\n`;
const named = (data: { type: string; [field: string]: unknown }): string =>
  `event: ${data.type}\n${event(data)}`;
const usageOf = (
  inputTokens: number,
  outputTokens: number,
  cacheReadTokens = 0,
  cacheWriteTokens = 0,
  longCacheWriteTokens = 0,
): CallUsage => ({ inputTokens, outputTokens, cacheReadTokens, cacheWriteTokens, longCacheWriteTokens });

const chat = (delta: object, finish_reason: string | null = null): string =>
  event({
    id: "chatcmpl-1",
    object: "chat.completion.chunk",
    model: "gpt",
    choices: [{ index: 0, delta, finish_reason }],
    usage: null,
    obfuscation: "x9Qk2",
  });
const chatUsage = {
  prompt_tokens: 100,
  completion_tokens: 12,
  total_tokens: 112,
  prompt_tokens_details: { cached_tokens: 60, cache_write_tokens: 10 },
  completion_tokens_details: { reasoning_tokens: 4 },
};
const CHAT = [
  chat({ role: "assistant", content: "" }),
  chat({ reasoning_content: "thinking", reasoning: "thinking" }), // the same twice: 8
  chat({ content: "Grüße, 世界" }), // 9
  chat({
    tool_calls: [{ index: 0, id: "call_1", type: "function", function: { name: "read", arguments: "" } }],
  }),
  chat({ tool_calls: [{ index: 0, function: { arguments: '{"path":"a.txt"}' } }] }), // 16
  chat({}, "tool_calls"),
  event({ id: "chatcmpl-1", choices: [], usage: chatUsage }),
  "data: [DONE]\n\n",
].join("");

const item = { type: "message", role: "assistant", content: [{ type: "output_text", text: "Good day." }] };
const call = { type: "function_call", call_id: "c", name: "read", arguments: '{"path":"a.txt"}' };
const responseUsage = {
  input_tokens: 100,
  input_tokens_details: { cached_tokens: 60 },
  output_tokens: 12,
  output_tokens_details: { reasoning_tokens: 4 },
  total_tokens: 112,
};
const response = (status: string, usage: object | null) => ({
  id: "resp_1",
  object: "response",
  status,
  instructions: "A long text that is told again with every event and that nobody pays for again.",
  output: status === "in_progress" ? [] : [item, call],
  usage,
});
const responses = (last: string, usage: object | null): string =>
  [
    named({ type: "response.created", response: response("in_progress", null) }),
    named({ type: "response.output_text.delta", delta: "Good " }),
    named({ type: "response.output_text.delta", delta: "day." }),
    named({ type: "response.output_text.done", text: "Good day." }),
    named({ type: "response.output_item.done", item }),
    named({ type: "response.function_call_arguments.delta", delta: '{"path":"a.txt"}' }),
    named({ type: "response.function_call_arguments.done", arguments: '{"path":"a.txt"}' }),
    named({ type: "response.output_item.done", item: call }),
    named({ type: `response.${last}`, response: response(last, usage) }),
  ].join("");
const RESPONSES = responses("completed", responseUsage);

const startUsage = {
  input_tokens: 30,
  cache_creation_input_tokens: 10,
  cache_creation: { ephemeral_5m_input_tokens: 4, ephemeral_1h_input_tokens: 6 },
  cache_read_input_tokens: 60,
  output_tokens: 1,
};
const MESSAGES_START = named({
  type: "message_start",
  message: {
    id: "msg_1",
    type: "message",
    role: "assistant",
    content: [],
    stop_reason: null,
    usage: startUsage,
  },
});
const MESSAGES_CONTENT = [
  named({
    type: "content_block_start",
    index: 0,
    content_block: { type: "thinking", thinking: "", signature: "" },
  }),
  named({ type: "ping" }),
  named({ type: "content_block_delta", index: 0, delta: { type: "thinking_delta", thinking: "thinking" } }), // 8
  named({
    type: "content_block_delta",
    index: 0,
    delta: { type: "signature_delta", signature: "c2ln".repeat(99) },
  }),
  named({ type: "content_block_start", index: 1, content_block: { type: "text", text: "" } }),
  named({ type: "content_block_delta", index: 1, delta: { type: "text_delta", text: "Good day." } }), // 9
  named({
    type: "content_block_start",
    index: 2,
    content_block: { type: "tool_use", id: "t", name: "read", input: {} },
  }),
  named({
    type: "content_block_delta",
    index: 2,
    delta: { type: "input_json_delta", partial_json: '{"path":"a.txt"}' },
  }), // 16
].join("");
const MESSAGES = [
  MESSAGES_START,
  MESSAGES_CONTENT,
  named({ type: "message_delta", delta: { stop_reason: "tool_use" }, usage: { output_tokens: 12 } }),
  named({ type: "message_stop" }),
].join("");

describe("S3.11 streams", () => {
  test("S3.11 chat completions tell their usage in the last chunk, with what was cached taken out of the input", () => {
    expect(read("openai-completions", CHAT)).toEqual({ usage: usageOf(30, 12, 60, 10), estimate: 9 });
  });

  test.each(["completed", "incomplete", "failed"])(
    "S3.11 a response tells it when it is %s; text told again is counted once",
    (last) => {
      expect(read("openai-responses", responses(last, responseUsage))).toEqual({
        usage: usageOf(40, 12, 60),
        estimate: 7,
      });
    },
  );

  test("S3.11 messages tell input first and output last, and what is cached for an hour apart", () => {
    expect(read("anthropic-messages", MESSAGES)).toEqual({ usage: usageOf(30, 12, 60, 10, 6), estimate: 9 });
  });

  test("S3.11 the last figures of a message win over the first ones", () => {
    const last = named({
      type: "message_delta",
      delta: { stop_reason: "end_turn" },
      usage: { input_tokens: 35, output_tokens: 12 },
    });
    expect(read("anthropic-messages", MESSAGES_START, last).usage).toEqual(usageOf(35, 12, 60, 10, 6));
  });

  test("S3.11 an answer that is cut counts the input that was told and the output that was seen", () => {
    expect(read("anthropic-messages", MESSAGES_START + MESSAGES_CONTENT)).toEqual({
      usage: usageOf(30, 9, 60, 10, 6),
      estimate: 9,
    });
    expect(read("anthropic-messages", MESSAGES_START).usage).toEqual(usageOf(30, 1, 60, 10, 6));
  });

  test("S3.11 the last event counts even when its blank line is missing", () => {
    expect(read("openai-responses", RESPONSES.trimEnd()).usage).toEqual(usageOf(40, 12, 60));
  });

  test.each([
    ["DeepSeek", { prompt_tokens: 100, completion_tokens: 12, prompt_cache_hit_tokens: 60 }],
    ["Moonshot", { prompt_tokens: 100, completion_tokens: 12, cached_tokens: 60 }],
  ])("S3.11 the cached tokens of %s are found, and a usage inside of the choice", (_name, usage) => {
    expect(
      read("openai-completions", event({ choices: [{ delta: {}, finish_reason: "stop", usage }] })).usage,
    ).toEqual(usageOf(40, 12, 60));
  });

  test("S3.11 usage that is told with every chunk counts as it was told last", () => {
    const chunk = (completion_tokens: number) =>
      event({ choices: [{ delta: { content: "word" } }], usage: { prompt_tokens: 5, completion_tokens } });
    expect(read("openai-completions", chunk(1), chunk(2), chunk(3)).usage).toEqual(usageOf(5, 3));
  });

  test("S3.11 without usage there is the estimate alone", () => {
    expect(read("openai-completions", chat({ content: "12345678" }))).toEqual({ usage: null, estimate: 2 });
    expect(read("openai-responses", responses("failed", null))).toEqual({ usage: null, estimate: 7 });
  });

  test("S3.11 text counts wherever it is told, also when nothing is streamed before", () => {
    const finished = named({ type: "response.output_item.done", item });
    const piece = named({ type: "response.output_text.done", text: "Good day." });
    const whole = named({ type: "response.completed", response: response("completed", null) });
    expect([finished, piece, whole].map((only) => read("openai-responses", only).estimate)).toEqual([
      3, 3, 7,
    ]);
  });

  test("S3.11 all choices of a call are counted", () => {
    const choices = [0, 1, 2].map((index) => ({ index, delta: { content: "12345678" } }));
    expect(read("openai-completions", event({ choices })).estimate).toBe(6);
  });

  test("S3.11 the estimate grows while the answer streams", () => {
    const reader = new UsageReader("openai-completions");
    const seen = [0, 1, 2].map(() => {
      reader.write(Buffer.from(chat({ content: "12345678" })));
      return reader.estimate;
    });
    expect(seen).toEqual([2, 4, 6]);
  });
});

describe("S3.11 whole answers", () => {
  const message = {
    role: "assistant",
    content: "Good day.",
    tool_calls: [{ function: { name: "read", arguments: "{}" } }],
  };
  test.each<[ModelApi, object, CallUsage, number]>([
    [
      "openai-completions",
      { object: "chat.completion", choices: [{ message, finish_reason: "stop" }], usage: chatUsage },
      usageOf(30, 12, 60, 10),
      3,
    ],
    ["openai-responses", response("completed", responseUsage), usageOf(40, 12, 60), 7],
    [
      "anthropic-messages",
      {
        type: "message",
        content: [
          { type: "text", text: "Good day." },
          { type: "tool_use", input: { a: 1 } },
        ],
        usage: { ...startUsage, output_tokens: 12 },
      },
      usageOf(30, 12, 60, 10, 6),
      4,
    ],
  ])("S3.11 one JSON text of %s, in one line or in many", (api, answer, usage, estimate) => {
    expect(read(api, JSON.stringify(answer))).toEqual({ usage, estimate });
    expect(read(api, `\n${JSON.stringify(answer, null, 2).replaceAll("\n", "\r\n")}\n`)).toEqual({
      usage,
      estimate,
    });
  });

  test("S3.11 an error tells nothing and made nothing", () => {
    const error = JSON.stringify({ error: { message: "Overloaded", type: "server_error" } });
    expect(read("openai-completions", error)).toEqual({ usage: null, estimate: 0 });
  });

  test("S3.11 a stream that begins like a JSON text is read as the stream that it is", () => {
    expect(read("openai-completions", `{\n${CHAT}`)).toEqual(read("openai-completions", CHAT));
  });

  test("S3.11 one too large to be kept is counted by its size and no longer kept", () => {
    const reader = new UsageReader("openai-completions");
    const part = Buffer.alloc(1024 * 1024, '{"content":"');
    for (let count = 0; count < 12; count += 1) reader.write(part);
    expect(reader.estimate).toBe((12 * 1024 * 1024) / 4);
    expect(reader.end()).toBeNull();
  });
});

describe("S3.11 what no answer can do", () => {
  const streams: [ModelApi, string][] = [
    ["openai-completions", CHAT],
    ["openai-responses", RESPONSES],
    ["anthropic-messages", MESSAGES],
  ];

  test.each(streams)(
    "S3.11 %s read the same wherever the bytes are cut, however lines end",
    (api, stream) => {
      const whole = read(api, stream);
      expect(whole.usage).not.toBeNull();
      for (const ending of ["\n", "\r\n", "\r"]) {
        const bytes = Buffer.from(`\ufeff: hello\n\n${stream}`.replaceAll("\n", ending));
        for (let cut = 0; cut <= bytes.length; cut += 1) {
          expect(read(api, bytes.subarray(0, cut), bytes.subarray(cut))).toEqual(whole);
        }
        const single = Array.from(bytes, (byte) => Buffer.of(byte));
        expect(readAll(api, single)).toEqual(whole);
      }
    },
  );

  test("S3.11 an event of several lines of data is one event", () => {
    const lines = JSON.stringify({ choices: [], usage: chatUsage }, null, 2).split("\n");
    const text = `${lines.map((line) => `data: ${line}`).join("\n")}\n\n`;
    expect(read("openai-completions", text).usage).toEqual(usageOf(30, 12, 60, 10));
    const bytes = Buffer.from(text.replaceAll("\n", "\r\n"));
    for (let cut = 0; cut <= bytes.length; cut += 1) {
      const halves = [bytes.subarray(0, cut), bytes.subarray(cut)];
      expect(readAll("openai-completions", halves).usage).toEqual(usageOf(30, 12, 60, 10));
    }
  });

  test("S3.11 an event that is too large is counted by its size, and those after it are read", () => {
    const huge = chat({ content: "x".repeat(1024 * 1024) });
    const bytes = Buffer.from(huge + CHAT);
    const whole = read("openai-completions", bytes);
    expect(whole).toEqual({ usage: usageOf(30, 12, 60, 10), estimate: Math.ceil((huge.length + 33) / 4) });
    fc.assert(
      fc.property(fc.integer({ min: 5000, max: 300_000 }), (size) => {
        const chunks = Array.from({ length: Math.ceil(bytes.length / size) }, (_, at) =>
          bytes.subarray(at * size, (at + 1) * size),
        );
        expect(readAll("openai-completions", chunks)).toEqual(whole);
      }),
      { numRuns: 20 },
    );
  });

  test("S3.11 an event without an end is not kept", () => {
    const reader = new UsageReader("anthropic-messages");
    const part = Buffer.alloc(1024 * 1024, "data: text ");
    const before = process.memoryUsage().rss;
    for (let count = 0; count < 256; count += 1) reader.write(part);
    expect(process.memoryUsage().rss - before).toBeLessThan(128 * 1024 * 1024);
    expect(reader.estimate).toBe((256 * 1024 * 1024) / 4);
  });

  test("S3.11 one JSON text that comes byte by byte is read", () => {
    const answer = {
      choices: [{ message: { content: "x".repeat(200_000) }, finish_reason: "stop" }],
      usage: chatUsage,
    };
    const bytes = Buffer.from(JSON.stringify(answer));
    const reader = new UsageReader("openai-completions");
    for (let at = 0; at < bytes.length; at += 1) reader.write(bytes.subarray(at, at + 1));
    expect({ usage: reader.end(), estimate: reader.estimate }).toEqual({
      usage: usageOf(30, 12, 60, 10),
      estimate: 50_000,
    });
  });

  test("S3.11 one JSON text may be larger than an event, and what stands around the text is not counted", () => {
    const message = { content: "x".repeat(3_000_000), annotations: "y".repeat(1_000_000) };
    const reader = new UsageReader("openai-completions");
    reader.write(Buffer.from(JSON.stringify({ choices: [{ message, finish_reason: "stop" }] })));
    expect(reader.estimate).toBe(0);
    expect([reader.end(), reader.estimate]).toEqual([null, 750_000]);
  });

  test("S3.11 rubbish is no usage and no error", () => {
    const apis: ModelApi[] = ["openai-completions", "openai-responses", "anthropic-messages"];
    const rubbish = fc.oneof(
      fc.uint8Array({ maxLength: 300 }),
      fc.jsonValue().map((value) => Buffer.from(`data: ${JSON.stringify(value)}\n\n`)),
      fc.jsonValue().map((value) => Buffer.from(JSON.stringify(value))),
    );
    fc.assert(
      fc.property(fc.constantFrom(...apis), fc.array(rubbish, { maxLength: 8 }), (api, chunks) => {
        const { usage, estimate } = read(api, ...chunks.map((chunk) => Buffer.from(chunk)));
        expect(usage).toBeNull();
        expect(Number.isSafeInteger(estimate)).toBe(true);
      }),
    );
  });

  test.each([
    ["negative", -1],
    ["broken", 1.5],
    ["larger than can be counted", 1e300],
    ["a text", "12"],
  ])("S3.11 a count that is %s is none", (_name, count) => {
    const text = JSON.stringify({ choices: [], usage: { prompt_tokens: count, completion_tokens: count } });
    expect(read("openai-completions", `data: ${text}\n\n`).usage).toBeNull();
  });

  test("S3.11 a part that is nested a hundred thousand times is survived", () => {
    const deep = `${'{"content":'.repeat(80_000)}1${"}".repeat(80_000)}`;
    const part = `data: {"choices":[{"delta":{"content":${deep},"refusal":"12345678"}}]}\n\n`;
    expect(read("openai-completions", part, CHAT)).toEqual({ usage: usageOf(30, 12, 60, 10), estimate: 11 });
  });
});
