import { describe, expect, test } from "vitest";
import { judgeCall } from "../../../../src/broker/model/call-rule.ts";

const judge = (call: unknown) =>
  judgeCall(Buffer.from(typeof call === "string" ? call : JSON.stringify(call)), "gpt-5");
const judgeWith = (fields: object) => judge({ model: "gpt-5", ...fields });
const user = (content: unknown) => [{ role: "user", content }];

describe("a call that may go out", () => {
  const PICTURE = "data:image/png;base64,AAAA";
  test.each([
    ["a plain one", {}],
    [
      "one with tools of the harness, chat completions",
      { tools: [{ type: "function", function: { name: "read" } }] },
    ],
    [
      "one with tools of the harness, Anthropic",
      {
        tools: [
          { name: "read", input_schema: {} },
          { type: "custom", name: "x" },
        ],
      },
    ],
    ["one without tools", { tools: null }],
    [
      "a picture in chat completions",
      { messages: user([{ type: "image_url", image_url: { url: PICTURE } }]) },
    ],
    ["a picture in responses", { input: user([{ type: "input_image", image_url: PICTURE }]) }],
    [
      "a picture in Anthropic",
      { messages: user([{ type: "image", source: { type: "base64", data: "AAAA" } }]) },
    ],
    ["text that speaks of an address", { messages: user("read https://example.com/a.png") }],
    [
      "a tool that was called with an address",
      {
        messages: [
          {
            role: "assistant",
            content: [{ type: "tool_use", id: "1", name: "open", input: { url: "https://a.example" } }],
          },
        ],
      },
    ],
  ])("%s is written anew as it was read", (_what, fields) => {
    const call = { model: "gpt-5", ...fields };
    expect(judgeWith(fields)).toEqual({ call });
  });

  test("is what was judged, where a name is given twice", () => {
    expect(judge('{"model":"dearer","model":"gpt-5","stream":true}')).toEqual({
      call: { model: "gpt-5", stream: true },
    });
  });
});

describe("a call that is refused", () => {
  test.each([
    ["another model", '{"model":"dearer"}'],
    ["another model named last", '{"model":"gpt-5","model":"dearer"}'],
    ["another model in other letters", '{"model":"gpt-5","Model":"dearer"}'],
    ["a model in other letters only", '{"MODEL":"gpt-5"}'],
    ["a model that is a list", '{"model":["gpt-5"]}'],
    ["a list", '[{"model":"gpt-5"}]'],
    ["no JSON", "model=gpt-5"],
    ["nothing", ""],
  ])("%s", (_what, text) => {
    expect(judge(text)).toEqual({ refused: expect.any(String) });
  });

  test.each([
    ["an earlier answer of the account's", { previous_response_id: "resp_1" }],
    ["a conversation of the account's", { conversation: "conv_1" }],
    ["a stored prompt", { prompt: { id: "pmpt_1" } }],
    ["fallback models", { models: ["gpt-5", "dearer"] }],
    ["a route", { route: "fallback" }],
    ["another provider", { provider: { order: ["other"] } }],
    ["a plug-in of the provider", { plugins: [{ id: "web" }] }],
    ["servers of the agent's choice", { mcp_servers: [{ url: "https://a.example" }] }],
    ["the same in other letters", { MCP_servers: [{ url: "https://a.example" }] }],
    ["a search", { web_search_options: {} }],
    ["an answer that goes on without us", { background: true }],
    ["a container of the provider", { container: "x" }],
    ["a hosted tool, responses", { tools: [{ type: "function" }, { type: "web_search" }] }],
    ["a hosted tool, Anthropic", { tools: [{ type: "web_fetch_20250910", name: "web_fetch" }] }],
    ["a server as a tool", { tools: [{ type: "mcp", server_url: "https://a.example" }] }],
    ["tools that are no list", { tools: { type: "web_search" } }],
    [
      "a picture to fetch, chat completions",
      { messages: user([{ type: "image_url", image_url: { url: "https://a.example" } }]) },
    ],
    [
      "a picture to fetch, responses",
      { input: user([{ type: "input_image", image_url: "https://a.example" }]) },
    ],
    ["a file to fetch, responses", { input: user([{ type: "input_file", file_url: "https://a.example" }]) }],
    [
      "a picture to fetch, Anthropic",
      { messages: user([{ type: "image", source: { type: "url", url: "https://a.example" } }]) },
    ],
    [
      "a picture to fetch, in a tool's result",
      {
        messages: user([
          {
            type: "tool_result",
            content: [{ type: "document", source: { type: "url", url: "http://a.example" } }],
          },
        ]),
      },
    ],
    [
      "a picture to fetch, in a document that is made of parts",
      {
        messages: user([
          {
            type: "document",
            source: {
              type: "content",
              content: [{ type: "image", source: { type: "url", url: "https://a.example" } }],
            },
          },
        ]),
      },
    ],
    [
      "a screen to fetch, in what came of a look at it",
      {
        input: [
          {
            type: "computer_call_output",
            output: { type: "computer_screenshot", image_url: "https://a.example" },
          },
        ],
      },
    ],
    [
      "a file that the account keeps, responses",
      { input: user([{ type: "input_file", file_id: "file-1" }]) },
    ],
    [
      "a file that the account keeps, chat completions",
      { messages: user([{ type: "file", file: { file_id: "file-1" } }]) },
    ],
    [
      "a file that the account keeps, Anthropic",
      { messages: user([{ type: "document", source: { type: "file", file_id: "file-1" } }]) },
    ],
    ["an item that the account keeps", { input: [{ type: "item_reference", id: "msg_1" }] }],
    ["an item that the account keeps, without its kind", { input: [{ id: "msg_1" }] }],
    ["a film to fetch", { messages: user([{ type: "video_url", video_url: { url: "http://a.internal" } }]) }],
    [
      "a sound to fetch",
      { messages: user([{ type: "audio_url", audio_url: { url: "http://a.internal" } }]) },
    ],
    ["hosted tools in other letters", { Tools: [{ type: "web_search" }] }],
    ["messages in other letters", { Messages: user("hello") }],
    [
      "a picture to fetch, in other letters",
      { messages: user([{ type: "image_url", Image_URL: { url: "https://a.example" } }]) },
    ],
    [
      "a picture to fetch, in a function's output",
      {
        input: [
          { type: "function_call_output", output: [{ type: "input_image", image_url: "https://a.example" }] },
        ],
      },
    ],
  ])("%s", (_what, fields) => {
    expect(judgeWith(fields)).toEqual({ refused: expect.any(String) });
  });
});

test("S3.6 a call that is nested too deeply to be written anew is refused, wherever it is deep", () => {
  const nest = (open: string, close: string, depth: number) => open.repeat(depth) + close.repeat(depth);
  const toRefused = (fields: string) => judge(`{"model":"gpt-5",${fields}}`);
  const refused = { refused: "The model call is nested too deeply, or has too many values." };
  expect(toRefused(`"x":${nest("[", "]", 100_000)}`)).toEqual(refused);
  expect(toRefused(`"messages":[${nest('{"content":[', "]}", 100_000)}]`)).toEqual(refused);
  expect(toRefused(`"x":${nest("[", "]", 100)}`)).toHaveProperty("call");
});

test("S3.6 a call of very many values is refused before it is parsed, and a long text is one value", () => {
  const objects = Buffer.from(`{"model":"gpt-5","x":[${"{},".repeat(1_000_000)}{}]}`);
  expect(judgeCall(objects, "gpt-5")).toHaveProperty("refused");
  const text = `[{},\\"{},`.repeat(1_000_000);
  expect(judgeWith({ input: text })).toEqual({ call: { model: "gpt-5", input: text } });
});
