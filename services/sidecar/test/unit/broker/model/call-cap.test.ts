/** Output fields of the three dialects, lowered to what a budget leaves. */
import fc from "fast-check";
import { expect, test } from "vitest";
import type { ModelApi } from "#contract/extension";
import { capCall, readAskedCap } from "../../../../src/broker/model/call-cap.ts";

type Fields = Record<string, unknown>;

test.each<[string, ModelApi, Fields, number, Fields]>([
  [
    "the field that the caller used is lowered",
    "openai-completions",
    { max_tokens: 900 },
    100,
    { max_tokens: 100 },
  ],
  [
    "the newer one too",
    "openai-completions",
    { max_completion_tokens: 900 },
    100,
    { max_completion_tokens: 100 },
  ],
  [
    "both of them",
    "openai-completions",
    { max_tokens: 9, max_completion_tokens: 900 },
    100,
    { max_tokens: 9, max_completion_tokens: 100 },
  ],
  [
    "without one, the one that all newer models take is added",
    "openai-completions",
    {},
    100,
    { max_completion_tokens: 100 },
  ],
  ["a lower one stays", "openai-completions", { max_tokens: 50 }, 100, { max_tokens: 50 }],
  ["one that is no count is replaced", "openai-completions", { max_tokens: "900" }, 100, { max_tokens: 100 }],
  ["null is replaced", "openai-completions", { max_tokens: null }, 100, { max_tokens: 100 }],
  [
    "one that another server would read is lowered as well",
    "openai-completions",
    { n_predict: 900 },
    100,
    { n_predict: 100, max_completion_tokens: 100 },
  ],
  [
    "other cases of a name are left out",
    "openai-completions",
    { max_tokens: 9, MAX_TOKENS: 900, N: 8 },
    100,
    { max_tokens: 9 },
  ],
  [
    "several choices share it",
    "openai-completions",
    { n: 4, max_tokens: 900 },
    100,
    { n: 4, max_tokens: 25 },
  ],
  [
    "so do answers of which the best is given",
    "openai-completions",
    { n: 1, best_of: 5 },
    100,
    { n: 1, best_of: 5, max_completion_tokens: 20 },
  ],
  [
    "a number of choices that is none is left out",
    "openai-completions",
    { n: "100", max_tokens: 9 },
    100,
    { max_tokens: 9 },
  ],
  [
    "a stream tells its usage",
    "openai-completions",
    { stream: true, max_tokens: 9, stream_options: { include_usage: false, include_obfuscation: false } },
    100,
    { stream: true, max_tokens: 9, stream_options: { include_usage: true, include_obfuscation: false } },
  ],
  [
    "an answer in one piece has no options of a stream",
    "openai-completions",
    { stream: false, max_tokens: 9 },
    100,
    { stream: false, max_tokens: 9 },
  ],
  [
    "a dearer kind of service is not used",
    "openai-responses",
    { service_tier: "priority", max_output_tokens: 20 },
    100,
    { max_output_tokens: 20 },
  ],
  [
    "a cheaper one is",
    "openai-responses",
    { service_tier: "flex", max_output_tokens: 20 },
    100,
    { service_tier: "flex", max_output_tokens: 20 },
  ],
  [
    "responses have their own field",
    "openai-responses",
    { max_output_tokens: 900, stream: true },
    100,
    { max_output_tokens: 100, stream: true },
  ],
  ["it is added to responses", "openai-responses", {}, 100, { max_output_tokens: 100 }],
  ["messages have theirs", "anthropic-messages", { max_tokens: 900 }, 100, { max_tokens: 100 }],
  [
    "a fast answer at a higher price is not had",
    "anthropic-messages",
    { max_tokens: 9, speed: "fast" },
    100,
    { max_tokens: 9 },
  ],
  [
    "thinking that fits stays",
    "anthropic-messages",
    { max_tokens: 9000, thinking: { type: "enabled", budget_tokens: 2000 } },
    5000,
    { max_tokens: 5000, thinking: { type: "enabled", budget_tokens: 2000 } },
  ],
  [
    "thinking that would take all is halved",
    "anthropic-messages",
    { max_tokens: 9000, thinking: { type: "enabled", budget_tokens: 8000 } },
    5000,
    { max_tokens: 5000, thinking: { type: "enabled", budget_tokens: 2500 } },
  ],
  [
    "but not below the least that is taken",
    "anthropic-messages",
    { max_tokens: 9000, thinking: { type: "enabled", budget_tokens: 8000 } },
    1100,
    { max_tokens: 1100, thinking: { type: "enabled", budget_tokens: 1024 } },
  ],
  [
    "thinking that no longer fits is left out",
    "anthropic-messages",
    { max_tokens: 9000, thinking: { type: "enabled", budget_tokens: 8000 } },
    1024,
    { max_tokens: 1024 },
  ],
  [
    "thinking without a budget stays",
    "anthropic-messages",
    { max_tokens: 9000, thinking: { type: "adaptive" } },
    100,
    { max_tokens: 100, thinking: { type: "adaptive" } },
  ],
])("S3.11 %s (%s)", (_what, api, call, cap, wanted) => {
  const given = structuredClone(call);
  expect(capCall(api, { model: "m", ...call }, cap)).toEqual({ model: "m", ...wanted });
  expect(call).toEqual(given);
});

test.each<[Fields, number | null]>([
  [{}, null],
  [{ max_tokens: "900" }, null],
  [{ max_tokens: 900 }, 900],
  [{ max_tokens: 9, max_completion_tokens: 900 }, 900],
  [{ max_output_tokens: 900 }, 900],
  [{ max_tokens: 100, n: 3 }, 300],
])("S3.11 a call of %j asks for %s", (call, wanted) => {
  expect(readAskedCap(call)).toBe(wanted);
});

test("S3.11 whatever the fields hold, no reader of the capped call can find a higher cap", () => {
  const names = [
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "n_predict",
    "max_new_tokens",
    "Max_Tokens",
    "n",
    "best_of",
    "N",
    "stream",
    "thinking",
  ];
  const value = fc.oneof(
    fc.integer(),
    fc.double(),
    fc.string(),
    fc.boolean(),
    fc.constant(null),
    fc.constantFrom(1, 2, 7, 4096),
  );
  const call = fc.dictionary(fc.constantFrom(...names), value);
  const apis = fc.constantFrom<ModelApi>("openai-completions", "openai-responses", "anthropic-messages");
  fc.assert(
    fc.property(apis, call, fc.integer({ min: 16, max: 100_000 }), (api, fields, cap) => {
      const capped = Object.entries(capCall(api, fields, cap)).map(
        ([name, held]) => [name.toLowerCase(), held] as const,
      );
      const counts = (wanted: RegExp) => capped.filter(([name]) => wanted.test(name)).map(([, held]) => held);
      const choices = Math.max(1, ...counts(/^(n|best_of)$/).map(Number));
      const caps = counts(/^max_|^n_predict$/);
      expect(caps.length).toBeGreaterThan(0);
      for (const held of caps) {
        expect(Number.isSafeInteger(held)).toBe(true);
        expect(Number(held)).toBeGreaterThan(0);
        // A single token for each choice is the least that can be asked for; the budget admits 16.
        expect(Number(held) * choices).toBeLessThanOrEqual(Math.max(cap, choices));
      }
    }),
  );
});

test("S3.6 a field with a name that every object has is a field like others", () => {
  const call: Fields = JSON.parse('{"__proto__":1,"constructor":2,"toString":3,"max_tokens":900}');
  expect(JSON.stringify(capCall("openai-completions", call, 100))).toBe(
    '{"__proto__":1,"constructor":2,"toString":3,"max_tokens":100}',
  );
});
