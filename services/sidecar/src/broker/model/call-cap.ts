/** How much output a model call asks for, and how it is made to ask for less. Pure. */
import type { ModelApi } from "#contract/extension";

/** OpenAI answers no call that asks for less; an answer of fewer tokens is of no use with the others either. */
export const LEAST_OUTPUT = 16;
/** Anthropic refuses less thinking. */
const LEAST_THINKING = 1024;

/** What a call gets that names no field: chat completions took `max_tokens` from newer models, the responses never had it. */
const CAP_FIELD: Record<ModelApi, string> = {
  "openai-completions": "max_completion_tokens",
  "openai-responses": "max_output_tokens",
  "anthropic-messages": "max_tokens",
};
/** Those that servers of these dialects are known to read, llama.cpp's and TGI's own among them. */
const CAP_FIELDS = [
  "max_completion_tokens",
  "max_tokens",
  "max_output_tokens",
  "max_new_tokens",
  "n_predict",
];
const CHOICE_FIELDS = ["n", "best_of"];
/** Kinds of service at a price that the list does not have are left out, and the provider's default is used. */
const LISTED_SERVICE: ReadonlyMap<string, readonly unknown[]> = new Map([
  ["service_tier", ["auto", "default", "flex", "standard_only"]],
  ["speed", ["standard"]],
]);
const READ_FIELDS = [
  ...CAP_FIELDS,
  ...CHOICE_FIELDS,
  ...LISTED_SERVICE.keys(),
  "stream",
  "stream_options",
  "thinking",
];

type Call = Readonly<Record<string, unknown>>;

/** Most output tokens that the call asks for, all its choices together; null when it names none. */
export function readAskedCap(call: Call): number | null {
  const asked = CAP_FIELDS.map((name) => call[name]).filter(isCount);
  return asked.length === 0 ? null : Math.max(...asked) * countChoices(call);
}

/** Answers that the provider makes to one call, and takes money for. */
export function countChoices(call: Call): number {
  return Math.max(1, ...CHOICE_FIELDS.map((name) => call[name]).filter(isCount));
}

/**
 * The call with at most `cap` output tokens, all its choices together, that tells its usage also when it streams. What
 * another reader could understand in another way is left out: names in other cases, counts that are none.
 */
export function capCall(api: ModelApi, call: Call, cap: number): Record<string, unknown> {
  const perChoice = Math.max(1, Math.floor(cap / countChoices(call)));
  const capped = Object.fromEntries(Object.entries(call).filter(([name, value]) => isPlain(name, value)));
  const named = CAP_FIELDS.filter((name) => name in capped);
  if (!named.some((name) => isFieldOf(api, name))) named.push(CAP_FIELD[api]);
  for (const name of named) capped[name] = toLower(capped[name], perChoice);
  if (api === "openai-completions" && capped.stream === true) {
    const options = isFields(capped.stream_options) ? capped.stream_options : {};
    capped.stream_options = { ...options, include_usage: true };
  }
  if (api === "anthropic-messages") capThinking(capped, perChoice);
  return capped;
}

function isPlain(name: string, value: unknown): boolean {
  const lower = name.toLowerCase();
  if (lower !== name && READ_FIELDS.includes(lower)) return false;
  if (CHOICE_FIELDS.includes(name)) return isCount(value);
  return LISTED_SERVICE.get(name)?.includes(value) ?? true;
}

/** Chat completions have two, of which providers refuse the one or the other, and both together. */
function isFieldOf(api: ModelApi, name: string): boolean {
  return name === CAP_FIELD[api] || (api === "openai-completions" && name === "max_tokens");
}

function toLower(asked: unknown, cap: number): number {
  return isCount(asked) ? Math.min(asked, cap) : cap;
}

/** Thinking is a part of the output: half of it at most when it would take all. */
function capThinking(call: Record<string, unknown>, cap: number): void {
  const { thinking } = call;
  if (!isFields(thinking) || thinking.budget_tokens === undefined) return;
  const asked = thinking.budget_tokens;
  const most = isCount(call.max_tokens) ? call.max_tokens : cap;
  if (isCount(asked) && asked < most) return;
  const budget = Math.max(LEAST_THINKING, Math.floor(most / 2));
  if (budget >= most) delete call.thinking;
  else call.thinking = { ...thinking, budget_tokens: budget };
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value > 0;
}

function isFields(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
