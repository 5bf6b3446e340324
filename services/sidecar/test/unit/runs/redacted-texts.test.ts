import { expect, test } from "vitest";
import { redactTexts } from "../../../src/runs/redacted-texts.ts";

const redact = (text: string): string =>
  text.replaceAll("run.ended", "[redacted]").replaceAll("secret-key", "[redacted]");

test("texts lose the secret, wherever they stand, and structure stays even where it reads like one", () => {
  const event = {
    type: "run.ended",
    output: `${"x".repeat(100_000)} secret-key`,
    failure: { code: "model_refused", detail: "secret-key", errors: [{ path: "/a", message: "secret-key" }] },
    usage: { inputTokens: 3 },
  };
  expect(redactTexts(event, redact)).toEqual({
    type: "run.ended",
    output: `${"x".repeat(100_000)} [redacted]`,
    failure: { code: "model_refused", detail: "[redacted]", errors: [{ path: "/a", message: "[redacted]" }] },
    usage: { inputTokens: 3 },
  });
});

test("the arguments of a tool are texts too", () => {
  expect(redactTexts({ type: "tool.call", arguments: { content: "secret-key" } }, redact)).toEqual({
    type: "tool.call",
    arguments: { content: "[redacted]" },
  });
});
