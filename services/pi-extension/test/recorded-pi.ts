/** A stand-in for the API that Pi hands to extensions: it records every call and plays Pi's events to the handlers. */
import type { ExtensionAPI } from "@earendil-works/pi-coding-agent";
import type { Claim } from "#contract/extension";
import { CLAIM_PREFIX } from "#contract/extension-words";
import pillion from "../src/pillion.ts";

type Handler = (event: unknown, ctx: unknown) => unknown;
type Config = { readonly models: readonly { readonly id: string }[] };

export type RecordedPi = {
  /** What the extension did, in order; a tool or a command by its name only. */
  readonly calls: readonly unknown[];
  /** Texts of the status line by their keys, in order. */
  readonly statuses: readonly (readonly [string, string])[];
  /** Answers what the extension's only handler of that event answers, or rejects as it does. */
  play(event: string, fields: unknown): Promise<unknown>;
  /** Input as it comes over Pi's RPC. */
  say(text: string): Promise<unknown>;
  offer(claim: unknown): Promise<unknown>;
  /** Whether Pi would not run the tool: a handler that throws blocks it as well. */
  isBlocked(event: unknown): Promise<boolean>;
};

/** Loads the extension. `takesModel` false: a Pi that refuses every model. */
export function loadExtension({ takesModel = true } = {}): RecordedPi {
  const handlers = new Map<string, Handler[]>();
  const models = new Map<string, unknown>();
  const calls: unknown[] = [];
  const statuses: [string, string][] = [];
  const api = {
    on: (event: string, handler: Handler) => handlers.set(event, [...(handlers.get(event) ?? []), handler]),
    registerTool: ({ name }: { name: string }) => calls.push({ registerTool: name }),
    registerCommand: (name: string) => calls.push({ registerCommand: name }),
    registerProvider(name: string, config: Config) {
      calls.push({ registerProvider: name, config });
      for (const model of config.models) models.set(`${name}/${model.id}`, { provider: name, id: model.id });
    },
    setActiveTools: (names: readonly string[]) => calls.push({ setActiveTools: [...names] }),
    setThinkingLevel: (level: string) => calls.push({ setThinkingLevel: level }),
    async setModel(model: unknown) {
      calls.push({ setModel: model });
      return takesModel;
    },
  };
  const ctx = {
    ui: { setStatus: (key: string, text: string) => void statuses.push([key, text]) },
    modelRegistry: { find: (provider: string, id: string) => models.get(`${provider}/${id}`) },
  };
  pillion(api as unknown as ExtensionAPI); // the part of Pi's API that the extension uses; all else fails loudly

  const play = async (event: string, fields: unknown): Promise<unknown> => {
    const [handler, ...others] = handlers.get(event) ?? [];
    if (handler === undefined || others.length > 0) throw new Error(`${event} has not exactly one handler`);
    return handler(fields, ctx);
  };
  const say = (text: string) => play("input", { type: "input", text, source: "rpc" });
  return {
    calls,
    statuses,
    play,
    say,
    offer: (claim) => say(CLAIM_PREFIX + JSON.stringify(claim)),
    isBlocked: (event) =>
      play("tool_call", event).then(
        (answer) => answer !== undefined && (answer as { block?: unknown }).block === true,
        () => true,
      ),
  };
}

export function toToolCall(toolName: unknown): object {
  return { type: "tool_call", toolCallId: "call_1", toolName, input: {} };
}

export const CLAIM: Claim = {
  nonce: "0123456789abcdef0123456789abcdef",
  provider: "acme",
  model: "scripted",
  api: "openai-completions",
  baseUrl: "http://127.0.0.1:4000/v1",
  placeholder: "pillion_placeholder",
  reasoning: true,
  contextWindow: 64_000,
  maxTokens: 4_000,
  price: { input: 1, output: 2, cacheRead: 3, cacheWrite: 4 },
  thinking: "low",
  tools: ["read", "grep"],
  instructions: "Be kind.",
  skills: [{ name: "tidy", description: "Tidies up.", path: "/home/agent/skills/tidy/SKILL.md" }],
};
