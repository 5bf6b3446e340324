/** What Pi counts of an answer and what the broker counts of the same bytes: the two are compared at a run's end. */
import { readdirSync, readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { z } from "zod";
import type { ModelApi } from "#contract/extension";
import { toCost } from "../../src/broker/model/call-cost.ts";
import { UsageReader } from "../../src/broker/model/usage-reader.ts";
import { openScriptedModel, type ScriptedModel } from "../fakes/scripted-model.ts";

type PiStream = (model: object, context: object, options: object) => { result(): Promise<unknown> };
const stream = z.custom<PiStream>((is) => typeof is === "function");
const Pi = z.object({
  streamSimpleOpenAICompletions: stream,
  streamSimpleOpenAIResponses: stream,
  streamSimpleAnthropic: stream,
});
const Answer = z.object({
  usage: z.object({
    input: z.int(),
    output: z.int(),
    cacheRead: z.int(),
    cacheWrite: z.int(),
    cost: z.object({ total: z.number() }),
  }),
});
const PRICE = { input: 2, output: 10, cacheRead: 0.2, cacheWrite: 2.5 };
const CALLS: [ModelApi, keyof z.infer<typeof Pi>, string, string][] = [
  ["openai-completions", "streamSimpleOpenAICompletions", "/v1", "/v1/chat/completions"],
  ["openai-responses", "streamSimpleOpenAIResponses", "/v1", "/v1/responses"],
  ["anthropic-messages", "streamSimpleAnthropic", "", "/v1/messages"],
];

let provider: ScriptedModel;
let pi: z.infer<typeof Pi>;

beforeAll(async () => {
  const tools = [{ name: "read", arguments: { path: "a.txt" } }];
  const turn = { text: "Grüße, 世界", thinking: "thinking", toolCalls: tools };
  provider = await openScriptedModel({
    script: [{ ...turn, usage: { input: 101, output: 23, cacheRead: 67 } }],
  });
  // The bundle names its files anew in each version; this one has all dialects and the list of models.
  const chunks = new URL(
    "../../../../node_modules/@earendil-works/pi-coding-agent/dist/bundle/chunks/",
    import.meta.url,
  );
  const holds = (name: string) => readFileSync(new URL(name, chunks), "utf8").includes("anthropic_default={");
  pi = Pi.parse(await import(new URL(readdirSync(chunks).find(holds) ?? "", chunks).href));
});
afterAll(() => provider[Symbol.asyncDispose]());

test.each(CALLS)("S3.11 of %s Pi and the broker count the same", async (api, name, base, path) => {
  const facts = { id: "m", name: "m", provider: "scripted", type: "chat", reasoning: false, input: ["text"] };
  const model = {
    ...facts,
    api,
    baseUrl: provider.url + base,
    cost: PRICE,
    contextWindow: 1e5,
    maxTokens: 1000,
  };
  const context = { messages: [{ role: "user", content: "Good day.", timestamp: 0 }] };
  const { usage } = Answer.parse(await pi[name](model, context, { apiKey: "placeholder" }).result());

  const body = provider.requests.at(-1)?.body;
  const answer = await fetch(provider.url + path, { method: "POST", body: JSON.stringify(body) });
  const reader = new UsageReader(api);
  reader.write(Buffer.from(await answer.arrayBuffer()));
  const counted = reader.end();
  expect(counted).toEqual({
    inputTokens: 101,
    outputTokens: 23,
    cacheReadTokens: 67,
    cacheWriteTokens: 0,
    longCacheWriteTokens: 0,
  });
  expect(usage).toEqual({
    input: counted?.inputTokens,
    output: counted?.outputTokens,
    cacheRead: counted?.cacheReadTokens,
    cacheWrite: counted?.cacheWriteTokens,
    cost: { total: expect.closeTo(toCost(PRICE, counted!), 12) },
  });
});
