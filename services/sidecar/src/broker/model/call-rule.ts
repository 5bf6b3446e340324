/** What a model call may ask of its provider: an answer of the run's own model, and nothing that leads elsewhere. Pure. */
import { z } from "zod";
import { isParsable } from "./call-shape.ts";

export type JudgedCall = { readonly call: Record<string, unknown> } | { readonly refused: string };

/** Fields by which a provider would use other models, other providers, servers of the agent's choice or its own search. */
const REACHING_FIELDS = [
  "models", // OpenRouter: fallbacks
  "route",
  "provider",
  "plugins",
  "fallbacks",
  "mcp_servers", // Anthropic
  "web_search_options", // OpenAI chat completions
  "background", // OpenAI responses: goes on without us
  "container",
  "previous_response_id", // what an account keeps, of other runs too
  "conversation",
  "prompt",
];

/** Kinds of tools that only describe what the harness itself will do; all others are run by the provider. */
const OWN_TOOLS: readonly unknown[] = [undefined, "function", "custom"];

const Call = z.record(z.string(), z.unknown());

/**
 * Judges the body of a call. The allowed one is to be written anew from what was parsed, so that the provider cannot read
 * anything else in it: a name given twice is given once, by the value that was judged.
 */
export function judgeCall(bytes: Buffer, model: string): JudgedCall {
  if (!isParsable(bytes)) return { refused: "The model call is nested too deeply, or has too many values." };
  const call = toCall(bytes);
  if (call === undefined) return { refused: "The model call is not a JSON object." };
  // Some providers read names without regard to case.
  const names = Object.keys(call).map((name) => name.toLowerCase());
  const isPlain = names.filter((name) => name === "model").length === 1;
  if (call.model !== model || !isPlain)
    return { refused: "Only calls of this run's own model are forwarded." };
  const reaching = REACHING_FIELDS.find((name) => names.includes(name));
  if (reaching !== undefined) return { refused: `The field "${reaching}" leads beyond the run's own model.` };
  const disguised = Object.keys(call).find((name) => name !== name.toLowerCase() && isJudged(name));
  if (disguised !== undefined) return { refused: `The field "${disguised}" is written in small letters.` };
  if (!hasOnlyOwnTools(call.tools)) return { refused: "Tools that the provider runs are not allowed." };
  if (namesAddress(call.messages) || namesAddress(call.input)) {
    return {
      refused:
        "Content that the provider would fetch from an address, or take from what its account keeps, is not allowed; send its bytes.",
    };
  }
  return { call };
}

function toCall(bytes: Buffer): Record<string, unknown> | undefined {
  try {
    return Call.parse(JSON.parse(bytes.toString("utf8")));
  } catch {
    return undefined;
  }
}

function hasOnlyOwnTools(tools: unknown): boolean {
  if (tools === undefined || tools === null) return true;
  return Array.isArray(tools) && tools.every((tool) => isRecord(tool) && OWN_TOOLS.includes(tool.type));
}

/** By what stands in them. */
function isJudged(name: string): boolean {
  return ["tools", "messages", "input"].includes(name.toLowerCase());
}

/**
 * Looks through messages and their parts, and not into what a tool was called with: an address there is only text.
 * `image_url` is OpenAI's, `video_url` and `audio_url` are vLLM's; Anthropic's is in a part's `source`, which may hold parts.
 */
function namesAddress(parts: unknown): boolean {
  return (Array.isArray(parts) ? parts : [parts]).some(
    (part) => isRecord(part) && (isReference(part) || isFetched(part)),
  );
}

function isFetched(part: Record<string, unknown>): boolean {
  return Object.entries(part).some(([written, value]) => {
    const name = written.toLowerCase();
    if (name.endsWith("_url")) return isAddress(isRecord(value) ? value.url : value);
    if (name === "file_id") return true;
    if (name === "source" && isRecord(value) && isAddress(value.url)) return true;
    return ["content", "output", "source", "file"].includes(name) && namesAddress(value);
  });
}

/** An item of OpenAI responses by its number, which the account may have from another run. The kind may be left out. */
function isReference({ type, role, id }: Record<string, unknown>): boolean {
  const isUnnamed = (type === undefined || type === null) && role === undefined;
  return type === "item_reference" || (isUnnamed && typeof id === "string");
}

function isAddress(value: unknown): boolean {
  return typeof value === "string" && !/^data:/i.test(value);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
