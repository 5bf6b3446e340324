/** Tokens of a call before it is made. */
import { expect, test } from "vitest";
import { asksLongCache, estimateInput } from "../../../../src/broker/model/input-estimate.ts";

const image = "A".repeat(400_000);

test("S3.11 text counts a token for four bytes, with what stands around it", () => {
  const call = { messages: [{ role: "user", content: "x".repeat(4000) }] };
  expect(estimateInput(call)).toBe(1011);
  expect(estimateInput({ messages: [{ role: "user", content: "ж".repeat(4000) }] })).toBe(2011);
});

test.each([
  [
    "chat completions",
    {
      messages: [
        {
          role: "user",
          content: [{ type: "image_url", image_url: { url: `data:image/png;base64,${image}` } }],
        },
      ],
    },
  ],
  [
    "responses",
    {
      input: [
        { role: "user", content: [{ type: "input_image", image_url: `data:image/png;base64,${image}` }] },
      ],
    },
  ],
  [
    "a tool's output",
    {
      input: [
        {
          type: "function_call_output",
          output: [{ type: "input_image", image_url: `data:image/png;base64,${image}` }],
        },
      ],
    },
  ],
  [
    "messages",
    {
      messages: [
        {
          role: "user",
          content: [{ type: "image", source: { type: "base64", media_type: "image/png", data: image } }],
        },
      ],
    },
  ],
  [
    "a tool's result",
    {
      messages: [
        {
          role: "user",
          content: [
            { type: "tool_result", content: [{ type: "image", source: { type: "base64", data: image } }] },
          ],
        },
      ],
    },
  ],
])("S3.11 an image of %s counts 1,600 tokens, whatever its size", (_where, call) => {
  expect(estimateInput(call)).toBeGreaterThan(1600);
  expect(estimateInput(call)).toBeLessThan(1660);
});

test.each([
  [
    "text",
    { messages: [{ role: "user", content: [{ type: "text", text: `data:image/png;base64,${image}` }] }] },
  ],
  [
    "what a tool was called with",
    {
      messages: [
        {
          role: "assistant",
          content: [{ type: "tool_use", input: { type: "image", source: { type: "base64", data: image } } }],
        },
      ],
    },
  ],
  [
    "a document",
    {
      messages: [{ role: "user", content: [{ type: "document", source: { type: "base64", data: image } }] }],
    },
  ],
  ["a tool's description", { tools: [{ type: "function", description: image }] }],
])("S3.11 %s counts by its size, whatever it looks like", (_where, call) => {
  expect(estimateInput(call)).toBeGreaterThan(100_000);
});

test("S3.11 input that is to be kept for an hour is known", () => {
  expect(asksLongCache({ system: [{ text: "a", cache_control: { type: "ephemeral", ttl: "1h" } }] })).toBe(
    true,
  );
  expect(asksLongCache({ system: [{ text: '"ttl":"1h"', cache_control: { type: "ephemeral" } }] })).toBe(
    false,
  );
});
