import { describe, expect, test } from "vitest";
import type { Lease } from "../../../src/broker/lease.ts";
import { LEAST_OUTPUT } from "../../../src/broker/model/call-cap.ts";
import { estimateInput } from "../../../src/broker/model/input-estimate.ts";
import { openLease } from "../../fakes/told-lease.ts";

const open = (): Lease =>
  openLease({
    upstream: {
      kind: "http",
      baseUrl: new URL("https://models.example/v1"),
      header: { name: "authorization", value: "Bearer sk-canary-0123456789", credential: "test" },
      privateAllowed: false,
    },
  }).lease;

describe("a lease", () => {
  test("has a placeholder of its own, of letters, digits and underscores only", () => {
    const placeholders = Array.from({ length: 100 }, () => open().placeholder);
    expect(new Set(placeholders).size).toBe(100);
    // Pi expands $NAME and !command in keys.
    for (const placeholder of placeholders) expect(placeholder).toMatch(/^pillion_[0-9a-f]{48}$/);
  });

  test("its placeholder holds nothing of the secret", () => {
    expect(open().placeholder).not.toContain("canary");
  });

  test("is shown as a bearer token or as an API key", () => {
    const lease = open();
    expect(lease.isShownBy({ authorization: `Bearer ${lease.placeholder}` })).toBe(true);
    expect(lease.isShownBy({ authorization: `bearer  ${lease.placeholder}` })).toBe(true);
    expect(lease.isShownBy({ "x-api-key": lease.placeholder })).toBe(true);
  });

  test("is not shown by nothing, by another lease's placeholder, by a part of its own or by the secret itself", () => {
    const [lease, other] = [open(), open()];
    const wrong = [
      undefined,
      "",
      "Bearer ",
      `Bearer ${other.placeholder}`,
      `Bearer ${lease.placeholder.slice(0, -1)}`,
      `Bearer ${lease.placeholder}0`,
      "Bearer sk-canary-0123456789",
    ];
    for (const authorization of wrong) {
      expect(lease.isShownBy({ authorization })).toBe(false);
      expect(lease.isShownBy({ "x-api-key": authorization })).toBe(false);
    }
  });

  test("ends when it is told to, and what it carries is told so", () => {
    const lease = open();
    expect(lease.ended.aborted).toBe(false);
    lease.end();
    expect(lease.ended.aborted).toBe(true);
  });
});

describe("S3.11 a limit is told as what it is", () => {
  const PRICE = { input: 2, output: 10, cacheRead: 0.2, cacheWrite: 2.5 };
  const CALL = { model: "m", messages: [{ role: "user", content: "a".repeat(8_000) }] };
  const NEEDS = estimateInput(CALL) + LEAST_OUTPUT;
  /** Its input may have to be written to the cache, at the dearest price. */
  const COST = Number((((NEEDS - LEAST_OUTPUT) * 2.5 + LEAST_OUTPUT * 10) / 1e6).toPrecision(3));
  const used = { inputTokens: 40, outputTokens: 10, cacheReadTokens: 0, cacheWriteTokens: 0 };
  const openLimited = (limits: { tokens?: number; costUsd?: number }) => {
    const told = openLease({ price: PRICE, limits: { requests: 9, bytes: 9_000, ...limits } });
    const call = (input: object): void => {
      const admission = told.lease.budget.admit("openai-completions", { ...input });
      if (typeof admission === "string") told.lease.exceedBudget();
      else {
        admission.settle(used, 0);
        told.lease.noteCall(false);
      }
    };
    return { ...told, call };
  };

  test("where the next call needs more than is left of it", () => {
    const tokens = openLimited({ tokens: 200 });
    tokens.call({ model: "m" });
    tokens.call(CALL);
    expect(tokens.faults.map(({ message }) => message)).toEqual([
      `The next model call needs about ${NEEDS} tokens, more than is left of the run's limit "tokens": 200, of which 50 are used.`,
    ]);
    const cost = openLimited({ costUsd: 0.001 });
    cost.call(CALL);
    expect(cost.faults.map(({ message }) => message)).toEqual([
      `The next model call may cost about ${COST} US dollars, more than is left of the run's limit "costUsd": 0.001, of which 0 are used.`,
    ]);
  });

  test("where it is used up", () => {
    const told = openLimited({ tokens: 50 });
    told.call({ model: "m" });
    told.call(CALL);
    expect(told.faults.map(({ message }) => message)).toEqual([
      'The run used up its limit "tokens": 50 tokens.',
    ]);
  });
});
