// The embedded demo model `demo/tour`: no intelligence, no network, one tour through a run with a real harness.
import { setTimeout as sleep } from "node:timers/promises";
import * as z from "zod";

/** The model's name as callers write it. */
export const demoModelName = "demo/tour";

/** The file the tour leaves in the workspace. */
export const demoTourFile = "PILLION-TOUR.md";

const TextContent = z.union([
  z.string(),
  z.array(z.looseObject({ type: z.string(), text: z.string().optional() })),
]);

/** What the tour reads of an OpenAI chat completions request; all else passes unread. */
const DemoRequest = z.looseObject({
  messages: z
    .array(
      z.looseObject({
        role: z.string(),
        content: TextContent.nullish(),
        tool_calls: z
          .array(z.looseObject({ id: z.string(), function: z.looseObject({ name: z.string() }) }))
          .nullish(),
        tool_call_id: z.string().nullish(),
      }),
    )
    .min(1),
  tools: z.array(z.looseObject({ function: z.looseObject({ name: z.string() }).optional() })).nullish(),
});
export type DemoRequest = z.infer<typeof DemoRequest>;

/** The next answer: a text, and at most one tool call. */
export interface DemoTurn {
  text: string;
  toolCall?: { id: string; name: TourTool; arguments: Record<string, string> };
}

type TourTool = "ls" | "write" | "read";

/**
 * Answers a chat completions request with the frames of an OpenAI-compatible stream: deltas, finish reason,
 * usage, `[DONE]`. Tokens are characters divided by four. Delays are in milliseconds, before every frame.
 * Throws at once, before any frame, where the body is no such request.
 */
export function answerDemoRequest(
  body: unknown,
  options: { chunkDelayMs?: number; signal?: AbortSignal } = {},
): AsyncIterable<string> {
  const parsed = DemoRequest.safeParse(body);
  if (!parsed.success) {
    throw new Error(`Not a chat completions request: ${z.prettifyError(parsed.error)}`);
  }
  return streamTurn(parsed.data, toDemoTurn(parsed.data), options);
}

/** Decides what the tour does next. Pure: everything it knows stands in the conversation. */
export function toDemoTurn(request: DemoRequest): DemoTurn {
  const progress = toProgress(request);
  const next = tourTools.find((tool) => isNext(tool, progress));
  const id = `call_demo_${request.messages.length}`;
  if (next === "ls") return { text: introduction, toolCall: { id, name: "ls", arguments: { path: "." } } };
  // Without `ls` the greeting is still owed.
  const greeting = progress.results.size === 0 ? `${introduction} ` : "";
  if (next === "write") {
    const toolCall = { id, name: next, arguments: { path: demoTourFile, content: toTourPage(progress) } };
    return { text: `${greeting}${toLookReport(progress)} Next I write ${demoTourFile}.`, toolCall };
  }
  if (next === "read") {
    return {
      text: "Written. I read it back, as a careful agent would.",
      toolCall: { id, name: next, arguments: { path: demoTourFile } },
    };
  }
  return { text: toSummary(progress) };
}

const tourTools: readonly TourTool[] = ["ls", "write", "read"];

const introduction =
  "[demo model] This is Pillion's built-in demo model: a fixed script, no real AI. " +
  "It takes a real agent on a short tour.";

/** What happened since the caller's last message. */
interface Progress {
  prompt: string;
  offered: ReadonlySet<string>;
  /** By tool, in the order of the tour; only calls that were answered. */
  results: ReadonlyMap<string, { text: string; failed: boolean }>;
}

function toProgress({ messages, tools }: DemoRequest): Progress {
  // A session can hold several tours: each message of the user starts one.
  const start = messages.findLastIndex(({ role }) => role === "user");
  const names = new Map<string, string>();
  const results = new Map<string, { text: string; failed: boolean }>();
  for (const { role, content, tool_calls, tool_call_id } of messages.slice(start + 1)) {
    if (role === "assistant") for (const call of tool_calls ?? []) names.set(call.id, call.function.name);
    const tool = role === "tool" ? names.get(tool_call_id ?? "") : undefined;
    if (tool === undefined) continue;
    const text = toText(content);
    results.set(tool, { text, failed: isFailure(tool, text) });
  }
  const offered = (tools ?? []).flatMap((tool) => tool.function?.name ?? []);
  return { prompt: toText(messages[start]?.content), offered: new Set(offered), results };
}

function isNext(tool: TourTool, { offered, results }: Progress): boolean {
  if (!offered.has(tool) || results.has(tool)) return false;
  return tool !== "read" || results.get("write")?.failed === false;
}

/** Chat completions carry no error flag for a tool's result, so its words have to tell. */
function isFailure(tool: string, text: string): boolean {
  if (tool === "write") return !/^successfully wrote/i.test(text);
  if (tool === "read") return !text.includes(pageTitle);
  return listingFailure.test(text);
}

/** Pi's own words for a listing that failed, a tool it lacks, a call it or our extension refused. */
const listingFailure =
  /^(path not found: |not a directory: |cannot read directory: |E[A-Z]{3,}: |error: |operation aborted|validation failed for tool|tool \S+ not found|the tool \S+ is not allowed|tool execution was blocked)/i;

function toLookReport({ results }: Progress): string {
  const look = results.get("ls");
  if (look === undefined) return "There is no ls tool here, so I skip looking around.";
  if (look.failed) return `Looking around failed (${toLine(look.text)}), so I go on without it.`;
  const count = toEntries(look.text).length;
  return count === 0
    ? "The workspace was empty."
    : `I see ${count} ${count === 1 ? "entry" : "entries"} here.`;
}

function toSummary(progress: Progress): string {
  return [
    progress.results.size === 0 ? introduction : "[demo model]",
    `The tour is over. ${toLookReport(progress)}`,
    toWriteReport(progress),
    toReadReport(progress),
    'For real work, name a real model: "openai/…" or "anthropic/…" with a key of your own.',
  ].join(" ");
}

function toWriteReport({ results }: Progress): string {
  const write = results.get("write");
  if (write === undefined) return `There is no write tool here, so I left no ${demoTourFile}.`;
  if (write.failed) return `Writing ${demoTourFile} failed (${toLine(write.text)}).`;
  return `${demoTourFile} is in the workspace now, and the run's diff shows it.`;
}

function toReadReport({ results }: Progress): string {
  if (results.get("write")?.failed !== false) return "There was nothing to read back.";
  const read = results.get("read");
  if (read === undefined) return "There is no read tool here, so I did not read it back.";
  return read.failed ? `Reading it back failed (${toLine(read.text)}).` : "I read it back and it is whole.";
}

const pageTitle = "# The Pillion tour";

function toTourPage(progress: Progress): string {
  return `${pageTitle}

Written by Pillion's built-in demo model (\`${demoModelName}\`): a fixed script, no real AI.

## You asked

${toQuote(progress.prompt)}

## What is in the workspace

${toListing(progress)}

## What just happened

1. Your request became a run, and the run got a workspace of its own.
2. A real Pi process was started in a sandbox; only its model is a stand-in.
3. The sandbox has one door. Model calls and tool calls go through it, nothing else does.
4. Behind the door the broker holds the credentials; inside there are placeholders only.
5. This model asks for tools, and Pi carries them out: ${toToolNames(progress)}.
6. Each tool was checked against what the run's agent may do before it ran.
7. Every step became a numbered event in the journal, on disk before you saw it.
8. When the run ends, the sandbox ends with it, with every process inside.
9. What changed in the workspace is kept as a diff. This file is the change.

## Next steps

1. Use your own key: \`POST /v1/runs\` with a model such as \`"openai/…"\` or \`"anthropic/…"\`.
2. See what a run changed: \`GET /v1/runs/{id}/diff\`.
3. Follow a run, live or afterwards: \`GET /v1/runs/{id}/events\`.
`;
}

function toToolNames({ offered }: Progress): string {
  const names = tourTools.filter((tool) => offered.has(tool));
  return names.map((name) => `\`${name}\``).join(", then ");
}

const maxQuotedCharacters = 500;

function toQuote(prompt: string): string {
  const characters = [...prompt.trim()];
  if (characters.length === 0) return "> (no text)";
  const cut = characters.slice(0, maxQuotedCharacters).join("");
  const more = characters.length > maxQuotedCharacters ? "…" : "";
  return `${cut}${more}`
    .split(/\r?\n/)
    .map((line) => `> ${line}`.trimEnd())
    .join("\n");
}

const maxListedEntries = 40;

function toListing(progress: Progress): string {
  const look = progress.results.get("ls");
  if (look === undefined || look.failed) return toLookReport(progress);
  const entries = toEntries(look.text);
  if (entries.length === 0) return "Nothing yet: it was empty.";
  const listed = entries.slice(0, maxListedEntries).map((entry) => `- \`${toLine(entry)}\``);
  const left = entries.length - listed.length;
  return [...listed, ...(left > 0 ? [`- and ${left} more`] : [])].join("\n");
}

/** Pi ends a long listing with a notice in brackets and names an empty one. */
function toEntries(listing: string): string[] {
  return listing
    .split("\n")
    .filter((line) => line !== "" && !/^(\[.*limit reached.*\]|\(empty directory\))$/.test(line));
}

/** Foreign words made fit for one line: no controls, no backticks, not long. */
function toLine(text: string): string {
  const line = text.replace(/[\p{C}\p{Z}`]+/gu, " ").trim();
  return line.length > 120 ? `${line.slice(0, 120)}…` : line;
}

function toText(content: z.infer<typeof TextContent> | null | undefined): string {
  if (content === null || content === undefined) return "";
  if (typeof content === "string") return content;
  return content.map(({ text }) => text ?? "").join("\n");
}

async function* streamTurn(
  request: DemoRequest,
  turn: DemoTurn,
  { chunkDelayMs = 15, signal }: { chunkDelayMs?: number; signal?: AbortSignal },
): AsyncGenerator<string> {
  const created = Math.floor(Date.now() / 1000);
  const id = `chatcmpl-demo-${request.messages.length}`;
  for (const fields of toChunkFields(request, turn)) {
    signal?.throwIfAborted();
    if (chunkDelayMs > 0) await sleep(chunkDelayMs, undefined, signal === undefined ? {} : { signal });
    const chunk = { id, object: "chat.completion.chunk", created, model: demoModelName, ...fields };
    yield `data: ${JSON.stringify(chunk)}\n\n`;
  }
  yield "data: [DONE]\n\n";
}

function toChunkFields(request: DemoRequest, { text, toolCall }: DemoTurn): object[] {
  const toDelta = (delta: object, finish_reason: string | null = null): object => ({
    choices: [{ index: 0, delta, finish_reason }],
  });
  const json = toolCall === undefined ? "" : JSON.stringify(toolCall.arguments);
  const opening =
    toolCall === undefined
      ? []
      : [{ index: 0, id: toolCall.id, type: "function", function: { name: toolCall.name, arguments: "" } }];
  return [
    toDelta({ role: "assistant", content: "" }),
    ...toPieces(text, 24).map((content) => toDelta({ content })),
    ...opening.map((call) => toDelta({ tool_calls: [call] })),
    ...toPieces(json, 96).map((piece) =>
      toDelta({ tool_calls: [{ index: 0, function: { arguments: piece } }] }),
    ),
    toDelta({}, toolCall === undefined ? "stop" : "tool_calls"),
    { choices: [], usage: toUsage(request, text.length + json.length) },
  ];
}

function toUsage({ messages, tools }: DemoRequest, spokenCharacters: number): object {
  const prompt_tokens = Math.ceil(JSON.stringify([messages, tools ?? []]).length / 4);
  const completion_tokens = Math.ceil(spokenCharacters / 4);
  return { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens };
}

/** Never cuts inside a character. */
function toPieces(text: string, size: number): string[] {
  return text.match(new RegExp(`.{1,${size}}`, "gsu")) ?? [];
}
