import { describe, expect, it } from "vitest";
import { answerDemoRequest, demoTourFile, toDemoTurn } from "../../../../src/broker/model/demo-model.ts";

type Message = Parameters<typeof toDemoTurn>[0]["messages"][number];

const introduction =
  "[demo model] This is Pillion's built-in demo model: a fixed script, no real AI. It takes a real agent on a short tour.";
const farewell = 'For real work, name a real model: "openai/…" or "anthropic/…" with a key of your own.';

/** The conversation after the given tool results, as Pi sends it. */
function toRequest(options: {
  prompt?: Message["content"];
  tools?: string[];
  results?: [tool: string, result: string][];
}): Parameters<typeof toDemoTurn>[0] {
  const { prompt = "Fix the login", tools = ["read", "grep", "find", "ls", "edit", "write"] } = options;
  const results = (options.results ?? []).flatMap(([name, content], index): Message[] => [
    { role: "assistant", content: "…", tool_calls: [{ id: `call_${index}`, function: { name } }] },
    { role: "tool", content, tool_call_id: `call_${index}` },
  ]);
  return {
    messages: [{ role: "system", content: "Be good." }, { role: "user", content: prompt }, ...results],
    tools: tools.map((name) => ({ type: "function", function: { name } })),
  };
}

const page = `# The Pillion tour

Written by Pillion's built-in demo model (\`demo/tour\`): a fixed script, no real AI.

## You asked

> Fix the login

## What is in the workspace

- \`README.md\`
- \`src/\`

## What just happened

1. Your request became a run, and the run got a workspace of its own.
2. A real Pi process was started in a sandbox; only its model is a stand-in.
3. The sandbox has one door. Model calls and tool calls go through it, nothing else does.
4. Behind the door the broker holds the credentials; inside there are placeholders only.
5. This model asks for tools, and Pi carries them out: \`ls\`, then \`write\`, then \`read\`.
6. Each tool was checked against what the run's agent may do before it ran.
7. Every step became a numbered event in the journal, on disk before you saw it.
8. When the run ends, the sandbox ends with it, with every process inside.
9. What changed in the workspace is kept as a diff. This file is the change.

## Next steps

1. Use your own key: \`POST /v1/runs\` with a model such as \`"openai/…"\` or \`"anthropic/…"\`.
2. See what a run changed: \`GET /v1/runs/{id}/diff\`.
3. Follow a run, live or afterwards: \`GET /v1/runs/{id}/events\`.
`;

const looked: [string, string] = ["ls", "README.md\nsrc/"];
const wrote: [string, string] = ["write", "Successfully wrote to PILLION-TOUR.md"];

describe("the tour", () => {
  it("says what it is and looks around", () => {
    expect(toDemoTurn(toRequest({}))).toEqual({
      text: introduction,
      toolCall: { id: "call_demo_2", name: "ls", arguments: { path: "." } },
    });
  });

  it("writes what it saw", () => {
    expect(toDemoTurn(toRequest({ results: [looked] }))).toEqual({
      text: "I see 2 entries here. Next I write PILLION-TOUR.md.",
      toolCall: { id: "call_demo_4", name: "write", arguments: { path: demoTourFile, content: page } },
    });
  });

  it("reads its file back", () => {
    expect(toDemoTurn(toRequest({ results: [looked, wrote] }))).toEqual({
      text: "Written. I read it back, as a careful agent would.",
      toolCall: { id: "call_demo_6", name: "read", arguments: { path: demoTourFile } },
    });
  });

  it("ends with a summary", () => {
    expect(toDemoTurn(toRequest({ results: [looked, wrote, ["read", page]] }))).toEqual({
      text: `[demo model] The tour is over. I see 2 entries here. PILLION-TOUR.md is in the workspace now, and the run's diff shows it. I read it back and it is whole. ${farewell}`,
    });
  });

  it("starts anew with the next message of a session", () => {
    const request = toRequest({ results: [looked, wrote, ["read", page]] });
    request.messages.push({ role: "assistant", content: "over" }, { role: "user", content: "again" });
    expect(toDemoTurn(request)).toEqual({
      text: introduction,
      toolCall: { id: "call_demo_10", name: "ls", arguments: { path: "." } },
    });
  });
});

describe("the tour without all its tools", () => {
  it("writes nothing for a reader, and says so", () => {
    const tools = ["read", "grep", "find", "ls"];
    expect(toDemoTurn(toRequest({ tools, results: [looked] }))).toEqual({
      text: `[demo model] The tour is over. I see 2 entries here. There is no write tool here, so I left no PILLION-TOUR.md. There was nothing to read back. ${farewell}`,
    });
  });

  it("writes without having looked", () => {
    const turn = toDemoTurn(toRequest({ tools: ["write"] }));
    expect(turn.text).toBe(
      `${introduction} There is no ls tool here, so I skip looking around. Next I write PILLION-TOUR.md.`,
    );
    expect(turn.toolCall).toEqual({
      id: "call_demo_2",
      name: "write",
      arguments: {
        path: demoTourFile,
        content: page
          .replace("- `README.md`\n- `src/`", "There is no ls tool here, so I skip looking around.")
          .replace("`ls`, then `write`, then `read`", "`write`"),
      },
    });
    expect(toDemoTurn(toRequest({ tools: ["write"], results: [wrote] }))).toEqual({
      text: `[demo model] The tour is over. There is no ls tool here, so I skip looking around. PILLION-TOUR.md is in the workspace now, and the run's diff shows it. There is no read tool here, so I did not read it back. ${farewell}`,
    });
  });

  it.each([[[]], [["bash"]]])("ends at once with %j", (tools) => {
    expect(toDemoTurn(toRequest({ tools }))).toEqual({
      text: `${introduction} The tour is over. There is no ls tool here, so I skip looking around. There is no write tool here, so I left no PILLION-TOUR.md. There was nothing to read back. ${farewell}`,
    });
  });
});

describe("the tour when a tool fails", () => {
  it.each([
    "Path not found: /workspace",
    "The tool ls is not allowed in this run.",
    "Tool ls not found",
    "EACCES: permission denied, scandir '/workspace'",
  ])("goes on after a listing that said %j", (words) => {
    const turn = toDemoTurn(toRequest({ results: [["ls", words]] }));
    expect(turn.text).toBe(
      `Looking around failed (${words}), so I go on without it. Next I write PILLION-TOUR.md.`,
    );
    expect(turn.toolCall?.name).toBe("write");
  });

  it("reads nothing that was not written", () => {
    const results: [string, string][] = [looked, ["write", "EACCES: permission denied\nopen `x`"]];
    expect(toDemoTurn(toRequest({ results }))).toEqual({
      text: `[demo model] The tour is over. I see 2 entries here. Writing PILLION-TOUR.md failed (EACCES: permission denied open x). There was nothing to read back. ${farewell}`,
    });
  });

  it("says that reading failed", () => {
    const results: [string, string][] = [looked, wrote, ["read", "ENOENT: no such file"]];
    expect(toDemoTurn(toRequest({ results }))).toEqual({
      text: `[demo model] The tour is over. I see 2 entries here. PILLION-TOUR.md is in the workspace now, and the run's diff shows it. Reading it back failed (ENOENT: no such file). ${farewell}`,
    });
  });
});

describe("what the page quotes", () => {
  const toPage = (options: Parameters<typeof toRequest>[0]): string =>
    toDemoTurn(toRequest({ results: [looked], ...options })).toolCall?.arguments.content ?? "";

  it("keeps 500 characters of the prompt, every line inside the quote", () => {
    expect(toPage({ prompt: "one\n\n# two" })).toContain("> one\n>\n> # two\n");
    expect(toPage({ prompt: "🌻".repeat(501) })).toContain(`> ${"🌻".repeat(500)}…\n`);
    expect(toPage({ prompt: "🌻".repeat(500) })).toContain(`> ${"🌻".repeat(500)}\n`);
    expect(toPage({ prompt: [{ type: "image_url" }] })).toContain("> (no text)\n");
  });

  it("lists at most 40 entries, none of which can leave its line", () => {
    const names = Array.from({ length: 43 }, (_, index) => `file-${index}`).join("\n");
    const long = toPage({
      results: [["ls", `${names}\n\n[500 entries limit reached. Use limit=1000 for more]`]],
    });
    expect(long).toContain("- `file-39`\n- and 3 more\n");
    expect(long).not.toContain("limit reached");
    expect(toPage({ results: [["ls", "a`b\u202ec"]] })).toContain("- `a b c`\n");
    expect(toPage({ results: [["ls", "(empty directory)"]] })).toContain("Nothing yet: it was empty.");
  });
});

describe("the demo model's stream", () => {
  const collect = async (body: unknown): Promise<string[]> =>
    Array.fromAsync(answerDemoRequest(body, { chunkDelayMs: 0 }));
  const toData = (frames: string[]): Record<string, unknown>[] =>
    frames.slice(0, -1).map((frame) => JSON.parse(frame.replace(/^data: /, "")));

  it("is an OpenAI-compatible stream with deltas, finish reason, usage and an end", async () => {
    const request = toRequest({});
    const frames = await collect(request);
    expect(frames.at(-1)).toBe("data: [DONE]\n\n");
    expect(frames.every((frame) => frame.startsWith("data: ") && frame.endsWith("\n\n"))).toBe(true);

    const shell = {
      id: "chatcmpl-demo-2",
      object: "chat.completion.chunk",
      created: expect.any(Number),
      model: "demo/tour",
    };
    const toDelta = (delta: object, finish_reason: string | null = null): object => ({
      ...shell,
      choices: [{ index: 0, delta, finish_reason }],
    });
    const prompt_tokens = Math.ceil(JSON.stringify([request.messages, request.tools]).length / 4);
    const completion_tokens = Math.ceil((introduction.length + '{"path":"."}'.length) / 4);
    const call = { index: 0, id: "call_demo_2", type: "function", function: { name: "ls", arguments: "" } };
    expect(toData(frames)).toEqual([
      toDelta({ role: "assistant", content: "" }),
      ...introduction.match(/.{1,24}/g)!.map((content) => toDelta({ content })),
      toDelta({ tool_calls: [call] }),
      toDelta({ tool_calls: [{ index: 0, function: { arguments: '{"path":"."}' } }] }),
      toDelta({}, "tool_calls"),
      {
        ...shell,
        choices: [],
        usage: { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens },
      },
    ]);
  });

  it("carries the whole page in its pieces and stops without a call", async () => {
    const writing = toData(await collect(toRequest({ results: [looked] })));
    const json = writing
      .flatMap((chunk) => /"arguments":("(?:[^"\\]|\\.)*")/.exec(JSON.stringify(chunk))?.[1] ?? [])
      .map((piece) => JSON.parse(piece))
      .join("");
    expect(JSON.parse(json)).toEqual({ path: demoTourFile, content: page });
    const last = toData(await collect(toRequest({ tools: [] })));
    expect(last.at(-2)).toMatchObject({ choices: [{ delta: {}, finish_reason: "stop" }] });
  });

  it("ends when its caller is gone", async () => {
    const gone = new AbortController();
    const frames = answerDemoRequest(toRequest({}), { chunkDelayMs: 60_000, signal: gone.signal });
    const collected = Array.fromAsync(frames);
    gone.abort();
    await expect(collected).rejects.toThrow("abort");
  });

  it.each([undefined, null, "hello", {}, { messages: [] }, { messages: [{ content: "no role" }] }])(
    "refuses %j before the first frame",
    (body) => {
      expect(() => answerDemoRequest(body)).toThrow(/^Not a chat completions request: /);
    },
  );

  it("accepts fields it does not know", async () => {
    const frames = await collect({ ...toRequest({}), model: "demo/tour", stream: true, future: { a: 1 } });
    expect(frames.at(-1)).toBe("data: [DONE]\n\n");
  });
});
