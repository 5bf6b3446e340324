/** What one part of a model's answer holds, an event of a stream or a whole JSON answer: usage, and how much text. Pure. */
import type { ModelApi } from "#contract/extension";

/** Tokens as far as one part told them. Input has neither what was read from the cache nor what was written to it. */
export type ToldUsage = {
  readonly input?: number;
  readonly output?: number;
  readonly cacheRead?: number;
  readonly cacheWrite?: number;
  readonly longCacheWrite?: number;
};

/**
 * Where a part's text stands. Providers tell the same text up to four times: as it streams, when a piece of it is
 * finished, when its item is, and in the whole answer.
 */
export type TextPlace = "streamed" | "pieces" | "items" | "whole";

export type AnswerPart = {
  readonly usage: ToldUsage | null;
  readonly place: TextPlace;
  readonly characters: number;
  /** True when nothing more is made after this part, so that its usage is the last word. */
  readonly isLast: boolean;
  /** True when a stream says nothing after this part. Chat completions end with a word that is no part. */
  readonly isOver: boolean;
};

type Fields = Readonly<Record<string, unknown>>;

/** `part` is what was parsed; `eventName` is the stream's own name of it, for those that do not repeat it inside. */
export function readAnswerPart(api: ModelApi, part: unknown, eventName?: string): AnswerPart {
  if (!isFields(part)) return { usage: null, place: "streamed", characters: 0, isLast: false, isOver: false };
  const type = typeof part.type === "string" ? part.type : (eventName ?? "");
  if (api === "openai-completions") return readChat(part);
  return api === "openai-responses" ? readResponse(part, type) : readMessage(part, type);
}

function readChat(part: Fields): AnswerPart {
  const choices = list(part.choices);
  const whole = sum(choices.map((choice) => measureChat(choice.message)));
  const streamed = sum(choices.map((choice) => measureChat(choice.delta) + measure(choice.text)));
  // Some providers tell it inside the choice.
  const usage = [part.usage, ...choices.map((choice) => choice.usage)].find(isFields);
  return {
    usage: usage === undefined ? null : toChatUsage(usage),
    place: whole > 0 ? "whole" : "streamed",
    characters: whole > 0 ? whole : streamed,
    isLast: choices.some((choice) => typeof choice.finish_reason === "string"),
    isOver: false,
  };
}

function measureChat(message: unknown): number {
  if (!isFields(message)) return 0;
  const calls = list(message.tool_calls).map(
    (call) => measure(at(call, "function", "arguments")) + measure(at(call, "custom", "input")),
  );
  // The same reasoning under several names, for clients of several kinds.
  const { reasoning_content, reasoning, reasoning_text, reasoning_details } = message;
  const thought = Math.max(...[reasoning_content, reasoning, reasoning_text, reasoning_details].map(measure));
  const called = measure(at(message, "function_call", "arguments"));
  return measure(message.content) + measure(message.refusal) + thought + called + sum(calls);
}

/** The cached tokens stand in three places; https://api-docs.deepseek.com names the second, Moonshot's the third. */
function toChatUsage(usage: Fields): ToldUsage {
  const details = usage.prompt_tokens_details;
  const cacheRead =
    toCount(at(details, "cached_tokens")) ??
    toCount(usage.prompt_cache_hit_tokens) ??
    toCount(usage.cached_tokens);
  const cacheWrite = toCount(at(details, "cache_write_tokens"));
  return toUsage(toCount(usage.prompt_tokens), toCount(usage.completion_tokens), cacheRead, cacheWrite);
}

const LAST_RESPONSE_EVENTS = [
  "response.completed",
  "response.incomplete",
  "response.failed",
  "response.cancelled",
];

/** https://platform.openai.com/docs/api-reference/responses-streaming */
function readResponse(part: Fields, type: string): AnswerPart {
  const response = isFields(part.response) ? part.response : part;
  const usage = isFields(response.usage) ? toResponseUsage(response.usage) : null;
  const isOver = LAST_RESPONSE_EVENTS.includes(type);
  const told = { usage, isLast: isOver || part.object === "response", isOver };
  if (type.endsWith(".delta")) return { ...told, place: "streamed", characters: measure(part.delta) };
  if (type === "response.output_item.done") {
    return { ...told, place: "items", characters: measureItem(part.item) };
  }
  if (type.endsWith(".done")) return { ...told, place: "pieces", characters: measureItem(part) };
  return { ...told, place: "whole", characters: sum(list(response.output).map(measureItem)) };
}

function measureItem(item: unknown): number {
  if (!isFields(item)) return 0;
  const { content, summary, text, refusal } = item;
  return sum([content, summary, text, refusal, item.arguments, item.input].map(measure));
}

function toResponseUsage(usage: Fields): ToldUsage {
  const details = usage.input_tokens_details;
  const cacheRead = toCount(at(details, "cached_tokens"));
  const cacheWrite = toCount(at(details, "cache_write_tokens"));
  return toUsage(toCount(usage.input_tokens), toCount(usage.output_tokens), cacheRead, cacheWrite);
}

/** OpenAI's count of input has what was cached inside. */
function toUsage(all?: number, output?: number, cacheRead = 0, cacheWrite = 0): ToldUsage {
  const input = all === undefined ? {} : { input: Math.max(0, all - cacheRead - cacheWrite) };
  return { ...input, ...(output === undefined ? {} : { output }), cacheRead, cacheWrite };
}

/** https://docs.anthropic.com/en/docs/build-with-claude/streaming */
function readMessage(part: Fields, type: string): AnswerPart {
  const message = isFields(part.message) ? part.message : part;
  const told = {
    usage: isFields(message.usage) ? toMessageUsage(message.usage) : null,
    isLast: type === "message" || (type === "message_delta" && at(part, "delta", "stop_reason") != null),
    isOver: type === "message_stop",
  };
  if (type === "content_block_delta") {
    return { ...told, place: "streamed", characters: measureBlock(part.delta) };
  }
  if (type === "content_block_start") {
    return { ...told, place: "streamed", characters: measureBlock(part.content_block) };
  }
  return { ...told, place: "whole", characters: sum(list(message.content).map(measureBlock)) };
}

function measureBlock(block: unknown): number {
  if (!isFields(block)) return 0;
  const input =
    isFields(block.input) && Object.keys(block.input).length > 0 ? JSON.stringify(block.input) : "";
  return measure(block.text) + measure(block.thinking) + measure(block.partial_json) + input.length;
}

function toMessageUsage(usage: Fields): ToldUsage {
  const told = {
    input: toCount(usage.input_tokens),
    output: toCount(usage.output_tokens),
    cacheRead: toCount(usage.cache_read_input_tokens),
    cacheWrite: toCount(usage.cache_creation_input_tokens),
    longCacheWrite: toCount(at(usage, "cache_creation", "ephemeral_1h_input_tokens")),
  };
  return Object.fromEntries(Object.entries(told).filter(([, count]) => count !== undefined));
}

/** Characters of a text, of a list of parts with text, or of what should have been JSON text and is JSON. */
function measure(value: unknown, depth = 0): number {
  if (typeof value === "string") return value.length;
  if (depth > 4) return 0;
  if (Array.isArray(value)) return sum(value.map((part) => measure(part, depth + 1)));
  if (!isFields(value)) return 0;
  const { text, thinking, refusal, summary, content } = value;
  return sum([text, thinking, refusal, summary, content].map((inner) => measure(inner, depth + 1)));
}

function toCount(value: unknown): number | undefined {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? value : undefined;
}

function at(value: unknown, ...path: readonly string[]): unknown {
  return path.reduce((inner, name) => (isFields(inner) ? inner[name] : undefined), value);
}

function list(value: unknown): Fields[] {
  return Array.isArray(value) ? value.filter(isFields) : [];
}

function sum(counts: readonly number[]): number {
  return counts.reduce((total, count) => total + count, 0);
}

function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
