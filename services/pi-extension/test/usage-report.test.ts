import { expect, test } from "vitest";
import type { Claim, UsageReport } from "#contract/extension";
import { CLAIM, loadExtension, type RecordedPi } from "./recorded-pi.ts";

const SAID = {
  role: "assistant",
  content: [],
  stopReason: "stop",
  usage: { input: 10, output: 20, cacheRead: 30, cacheWrite: 0, cost: { total: 0.25 } },
};

const REPORT: UsageReport = {
  httpStatus: 200,
  stopReason: "stop",
  inputTokens: 10,
  outputTokens: 20,
  cacheReadTokens: 30,
  costUsd: 0.25,
};

async function openPi(fields: Partial<Claim> = {}): Promise<RecordedPi> {
  const pi = loadExtension();
  await pi.offer({ ...CLAIM, ...fields });
  return pi;
}

/** One answer of the provider and the message that Pi makes of it. */
async function playCall(pi: RecordedPi, status: number, message: object = SAID): Promise<void> {
  await pi.play("after_provider_response", { type: "after_provider_response", status, headers: {} });
  await pi.play("message_end", { type: "message_end", message });
}

function toReports(pi: RecordedPi): [string, unknown][] {
  return pi.statuses.map(([key, text]) => [key, JSON.parse(text)]);
}

test("usage is reported once for each message of the assistant, and for no other message", async () => {
  const pi = await openPi();
  await pi.play("message_end", { message: { role: "user", content: "Hello." } });
  await playCall(pi, 200);
  await pi.play("message_end", { message: { role: "toolResult", content: [] } });
  await playCall(pi, 429, { ...SAID, stopReason: "error" });
  expect(toReports(pi)).toEqual([
    ["pillion-usage", REPORT],
    ["pillion-usage", { ...REPORT, httpStatus: 429, stopReason: "error" }],
  ]);
});

test("a message without an answer of the provider has no status, not the one before it", async () => {
  const pi = await openPi();
  await playCall(pi, 200);
  await pi.play("message_end", { message: SAID });
  expect(toReports(pi)).toEqual([
    ["pillion-usage", REPORT],
    ["pillion-usage", { ...REPORT, httpStatus: null }],
  ]);
});

test("without a price the cost is unknown, and not nothing", async () => {
  const pi = await openPi({ price: null });
  await playCall(pi, 200);
  expect(toReports(pi)).toEqual([["pillion-usage", { ...REPORT, costUsd: null }]]);
});
