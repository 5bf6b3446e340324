/** What a run may spend: single calls, parallel ones, honest providers and others. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Admission, Budget, type BudgetLimits } from "../../../../src/broker/model/budget.ts";
import { toAffordable, toCost } from "../../../../src/broker/model/call-cost.ts";
import { estimateInput } from "../../../../src/broker/model/input-estimate.ts";
import type { CallUsage } from "../../../../src/broker/model/usage-reader.ts";
import type { ListedPrice } from "../../../../src/model-price.ts";

const PRICE: ListedPrice = { input: 2, output: 10, cacheRead: 0.2, cacheWrite: 2.5 };
const API = "openai-completions";
const CALL = { model: "m", messages: [{ role: "user", content: "Good day." }] };
const INPUT = estimateInput(CALL);

const usage = (
  inputTokens: number,
  outputTokens: number,
  cacheReadTokens = 0,
  cacheWriteTokens = 0,
): CallUsage => ({
  inputTokens,
  outputTokens,
  cacheReadTokens,
  cacheWriteTokens,
});

function admit(budget: Budget, call: Record<string, unknown> = CALL): Admission {
  const admission = budget.admit(API, call);
  if (typeof admission === "string") throw new Error(admission);
  return admission;
}

describe("S3.11 without a budget", () => {
  test("S3.11 a call goes as it came, is never cut, and is counted", () => {
    const budget = new Budget({}, PRICE, 1000);
    const call = { ...CALL, max_tokens: 1e9, n: 50, stream: true };
    const admission = admit(budget, call);
    expect(admission.call).toEqual(call);
    expect(admission.cap).toBeNull();
    expect(admission.isOverrun(1e12)).toBe(false);
    admission.settle(usage(100, 10, 40, 20), 9);
    expect(budget.used).toEqual({
      inputTokens: 100,
      outputTokens: 10,
      cacheReadTokens: 40,
      cacheWriteTokens: 20,
      longCacheWriteTokens: 0,
      costUsd: expect.closeTo((100 * 2 + 10 * 10 + 40 * 0.2 + 20 * 2.5) / 1e6, 12),
      calls: 1,
    });
    expect([budget.isExceeded, budget.limitName]).toEqual([false, null]);
  });

  test("S3.11 the cost of a model without a price is null", () => {
    const budget = new Budget({}, null, 1000);
    admit(budget).settle(usage(100, 10), 9);
    expect(budget.used.costUsd).toBeNull();
    expect(() => new Budget({ costUsd: 1 }, null, 1000)).toThrow(RangeError);
  });
});

describe("S3.11 caps", () => {
  test("S3.11 a call gets what it asks for, or the model's most, while that is left", () => {
    const budget = new Budget({ tokens: 10_000 }, null, 1000);
    expect(admit(budget, { ...CALL, max_tokens: 300 })).toMatchObject({
      cap: 300,
      call: { max_tokens: 300 },
    });
    expect(admit(budget)).toMatchObject({ cap: 1000, call: { max_completion_tokens: 1000 } });
  });

  test("S3.11 then what is left after its input", () => {
    const budget = new Budget({ tokens: 500 }, null, 1000);
    expect(admit(budget, { ...CALL, max_tokens: 900 })).toMatchObject({
      cap: 500 - estimateInput({ ...CALL, max_tokens: 900 }),
    });
  });

  test("S3.11 of two limits the nearer one counts", () => {
    const dear = new Budget({ tokens: 10_000, costUsd: 0.001 }, PRICE, 1000);
    expect(admit(dear).cap).toBe(Math.floor((0.001 - (INPUT * 2.5) / 1e6) / (10 / 1e6)));
    const cheap = new Budget({ tokens: 100, costUsd: 100 }, PRICE, 1000);
    expect(admit(cheap).cap).toBe(100 - INPUT);
  });

  test("S3.11 a price that rises with the input, or with the time it is kept, leaves less", () => {
    const long = { ...CALL, messages: [{ role: "user", content: "x".repeat(8000) }] };
    const tiered = { ...PRICE, tiers: [{ above: 1000, input: 4, output: 40, cacheRead: 1, cacheWrite: 5 }] };
    const caps = (price: ListedPrice, call: object) =>
      admit(new Budget({ costUsd: 0.02 }, price, 5000), { ...call }).cap;
    const input = estimateInput(long);
    expect(caps(PRICE, long)).toBe(Math.floor((0.02 - (input * 2.5) / 1e6) / (10 / 1e6)));
    expect(caps(tiered, long)).toBe(Math.floor((0.02 - (input * 5) / 1e6) / (40 / 1e6)));
    const kept = { ...long, cache_control: { type: "ephemeral", ttl: "1h" } };
    expect(caps(PRICE, kept)).toBe(Math.floor((0.02 - (estimateInput(kept) * 4) / 1e6) / (10 / 1e6)));
  });

  test("S3.11 a model whose output is free is limited by its input alone", () => {
    const budget = new Budget({ costUsd: 0.01 }, { ...PRICE, output: 0 }, 1000);
    expect(admit(budget).cap).toBe(1000);
    expect(admit(new Budget({ costUsd: (INPUT * 2.5) / 1e6 }, { ...PRICE, output: 0 }, 1000)).cap).toBe(1000);
    expect(toAffordable({ ...PRICE, output: 0 }, 0, 0)).toBe(Number.MAX_SAFE_INTEGER);
    expect(budget.admit(API, { messages: [{ content: "x".repeat(20_000) }] })).toBe("used_up");
  });

  test("S3.11 a call that leaves fewer than 16 tokens for each choice is not made", () => {
    expect(admit(new Budget({ tokens: INPUT + 16 }, null, 1000)).cap).toBe(16);
    const budget = new Budget({ tokens: INPUT + 15 }, null, 1000);
    expect([budget.admit(API, CALL), budget.limitName, budget.isExceeded]).toEqual([
      "used_up",
      "tokens",
      false,
    ]);
    const several = { ...CALL, n: 4 };
    const few = estimateInput(several) + 63;
    expect(new Budget({ tokens: few }, null, 1000).admit(API, several)).toBe("used_up");
    expect(admit(new Budget({ tokens: few + 1 }, null, 1000), several).call).toMatchObject({
      max_completion_tokens: 16,
    });
  });

  test("S3.11 a call that is refused costs nothing and leaves the rest to a smaller one", () => {
    const budget = new Budget({ costUsd: 0.01 }, PRICE, 100);
    expect(budget.admit(API, { messages: [{ content: "x".repeat(100_000) }] })).toBe("used_up");
    expect(budget.limitName).toBe("costUsd");
    expect(admit(budget).cap).toBe(100);
    expect(budget.used).toMatchObject({ calls: 1, costUsd: 0 });
  });
});

describe("S3.11 settling", () => {
  test("S3.11 the limit is reached by what is used, not by what is reserved", () => {
    const budget = new Budget({ tokens: 1000 }, null, 1000);
    const admission = admit(budget);
    expect(budget.isExceeded).toBe(false);
    admission.settle(usage(INPUT, 999 - INPUT), 900);
    expect(budget.isExceeded).toBe(false);
    const last = new Budget({ tokens: 1000 }, null, 1000);
    admit(last).settle(usage(500, 100, 300, 100), 90);
    expect([last.isExceeded, last.limitName, last.admit(API, CALL)]).toEqual([true, "tokens", "used_up"]);
  });

  test("S3.11 what a call did not need is free again; settling twice counts once", () => {
    const budget = new Budget({ tokens: 1000 }, null, 1000);
    const admission = admit(budget);
    expect(budget.admit(API, CALL)).toBe("reserved");
    const settlement = admission.settle(usage(INPUT, 10), 9);
    expect(admission.settle(usage(INPUT, 500), 500)).toBe(settlement);
    expect(budget.used).toMatchObject({ inputTokens: INPUT, outputTokens: 10 });
    expect(admit(budget).cap).toBe(1000 - INPUT - 10 - INPUT);
    expect(budget.limitName).toBeNull();
  });

  test("S3.11 parallel calls share what is left, and those for which nothing is left may come again", () => {
    const budget = new Budget({ tokens: 800 }, null, 300);
    const admissions = [admit(budget), admit(budget), admit(budget)];
    expect(admissions.map(({ cap }) => cap)).toEqual([300, 300, 800 - 600 - 3 * INPUT]);
    expect(budget.admit(API, CALL)).toBe("reserved");
    for (const admission of admissions) admission.settle(usage(INPUT, admission.cap ?? 0), 0);
    expect(budget.isExceeded).toBe(true);
    expect(budget.used.inputTokens + budget.used.outputTokens).toBe(800);
  });

  test("S3.11 so they do with a limit of cost", () => {
    const budget = new Budget({ costUsd: 0.01 }, PRICE, 700);
    const first = admit(budget);
    const left = 0.01 - (2 * INPUT * 2.5 + 700 * 10) / 1e6;
    expect([first.cap, admit(budget).cap]).toEqual([700, Math.floor((left * 1e6) / 10)]);
    expect([budget.admit(API, CALL), budget.limitName]).toEqual(["reserved", null]);
    first.settle(null, 0);
    expect(admit(budget).cap).toBe(700);
  });

  test.each([
    ["nothing was reported and nothing seen: nothing", null, 0, usage(0, 0), false],
    ["nothing was reported: the estimates", null, 50, usage(INPUT, 50), false],
    ["the report, when it is more than was seen", usage(90, 500), 50, usage(90, 500), false],
    ["the report, when it is a little less", usage(90, 30), 124, usage(90, 30), false],
    ["the estimate, when the report is far less", usage(90, 30), 125, usage(90, 125), true],
    ["the estimate, when the report says nothing was made", usage(90, 0), 65, usage(90, 65), true],
  ])("S3.11 what counts where %s", (_what, reported, estimate, counted, doubted) => {
    const budget = new Budget({ tokens: 1000 }, null, 500);
    expect(admit(budget).settle(reported, estimate)).toEqual({ usage: counted, doubted });
    expect(budget.used).toMatchObject(counted);
  });

  test("S3.11 a call that was taken counts its input, also when its caller hung up before the first word", () => {
    const budget = new Budget({ tokens: 1000 }, null, 500);
    expect(admit(budget).settle(null, 0, true)).toEqual({ usage: usage(INPUT, 0), doubted: false });
    expect(budget.used.inputTokens).toBe(INPUT);
  });

  test("S3.11 an input that is reported far below what was sent is doubted too", () => {
    const long = { messages: [{ content: "x".repeat(40_000) }] };
    const input = estimateInput(long);
    const settle = (reported: CallUsage) =>
      admit(new Budget({ tokens: 1e6 }, null, 500), long).settle(reported, 4);
    expect(settle(usage(0, 4))).toEqual({ usage: usage(input, 4), doubted: true });
    expect(settle(usage(100, 4, 200))).toEqual({ usage: usage(input - 200, 4, 200), doubted: true });
    expect(settle(usage(4000, 4))).toEqual({ usage: usage(4000, 4), doubted: false });
  });

  test("S3.11 what is kept for an hour costs twice the input, and a tier counts for the whole call", () => {
    expect(toCost(PRICE, { ...usage(0, 0, 0, 100), longCacheWriteTokens: 40 })).toBeCloseTo(
      (60 * 2.5 + 40 * 4) / 1e6,
      12,
    );
    const tiers = [
      { above: 100, input: 4, output: 20, cacheRead: 1, cacheWrite: 5 },
      { above: 200, input: 8, output: 40, cacheRead: 2, cacheWrite: 10 },
    ];
    const cost = (...counts: [number, number, number]) => toCost({ ...PRICE, tiers }, usage(...counts));
    expect([cost(100, 1, 0), cost(50, 1, 51), cost(201, 1, 0)]).toEqual([
      expect.closeTo((100 * 2 + 10) / 1e6, 12),
      expect.closeTo((50 * 4 + 51 + 20) / 1e6, 12),
      expect.closeTo((201 * 8 + 40) / 1e6, 12),
    ]);
  });
});

describe("S3.11 an answer that the budget cut short", () => {
  const settled = (call: object, output: number): Budget => {
    const budget = new Budget({ tokens: 1000 + INPUT }, null, 5000);
    admit(budget, { ...CALL, ...call }).settle(usage(INPUT - 1, output), output);
    return budget;
  };

  test("S3.11 exceeds it, though the input was less than it was taken for and something is left", () => {
    const budget = settled({}, 1000);
    expect(budget.used.inputTokens + budget.used.outputTokens).toBeLessThan(1000 + INPUT);
    expect([budget.isExceeded, budget.limitName]).toEqual([true, "tokens"]);
  });

  test.each([
    ["ended by itself", {}, 999],
    ["was cut short by what the call itself asked for", { max_tokens: 500 }, 500],
  ])("S3.11 does not where it %s", (_what, call, output) => {
    const budget = settled(call, output);
    expect([budget.isExceeded, budget.limitName]).toEqual([false, null]);
  });
});

describe("S3.11 a liar", () => {
  test("S3.11 is cut as soon as the estimate proves that the cap is ignored", () => {
    const budget = new Budget({ tokens: 100 + INPUT }, null, 1000);
    const admission = admit(budget);
    expect([admission.cap, admission.isOverrun(157), admission.isOverrun(158)]).toEqual([100, false, true]);
    expect(admission.settle(usage(INPUT, 1), 158)).toEqual({ usage: usage(INPUT, 158), doubted: true });
    expect([budget.isExceeded, budget.admit(API, CALL)]).toEqual([true, "used_up"]);
  });

  test("S3.11 is not one whose long words pass the cap of its call while the budget has more", () => {
    const budget = new Budget({ tokens: 100_000 }, null, 1000);
    const admission = admit(budget);
    expect([admission.cap, admission.isOverrun(2_000)]).toEqual([1000, false]);
    expect(admission.isOverrun(125_033)).toBe(true);
  });

  test("S3.11 that stays below the proof gains little, however often it is called", () => {
    const budget = new Budget({ tokens: 2000 }, null, 100);
    let made = 0;
    for (let calls = 0; calls < 1000; calls += 1) {
      const admission = budget.admit(API, CALL);
      if (typeof admission === "string") break;
      const output = Math.floor(1.25 * (admission.cap ?? 0) + 32);
      expect(admission.isOverrun(output)).toBe(false);
      made += output;
      admission.settle(usage(INPUT, Math.ceil((output - 64) / 2)), output);
    }
    expect(budget.admit(API, CALL)).toBe("used_up");
    expect(made).toBeLessThan(2.5 * 2000);
  });
});

/** What happens in a run: calls begin, of some size, and end in any order with some part of their cap made. */
const step = fc.oneof(
  fc.record({
    chars: fc.integer({ min: 0, max: 8000 }),
    asked: fc.option(fc.integer({ min: 1, max: 5000 }), { nil: undefined }),
    choices: fc.constantFrom(undefined, 1, 3),
  }),
  fc.record({
    pick: fc.nat(),
    made: fc.double({ min: 0, max: 1, noNaN: true }),
    cached: fc.double({ min: 0, max: 1, noNaN: true }),
    inputError: fc.integer({ min: 0, max: 500 }),
  }),
);

function play(
  limits: BudgetLimits,
  steps: readonly (typeof step extends fc.Arbitrary<infer Step> ? Step : never)[],
) {
  const budget = new Budget(limits, PRICE, 800);
  const open: { admission: Admission; input: number }[] = [];
  let errors = 0;
  for (const one of steps) {
    if ("chars" in one) {
      const { chars, asked, choices } = one;
      const call = { messages: [{ content: "x".repeat(chars) }], max_tokens: asked, n: choices };
      const admission = budget.admit(API, call);
      if (typeof admission !== "string") open.push({ admission, input: estimateInput(call) });
      continue;
    }
    const [ended] = open.splice(one.pick % Math.max(1, open.length), 1);
    if (ended === undefined) continue;
    const input = ended.input + one.inputError;
    const written = Math.floor(input * one.cached);
    errors += one.inputError;
    const output = Math.floor((ended.admission.cap ?? 0) * one.made);
    ended.admission.settle(usage(input - written, output, 0, written), output);
  }
  return { used: budget.used, errors };
}

test("S3.11 whatever is called in parallel, honest answers pass a limit of tokens by the error of the input's estimate at most", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 20_000 }), fc.array(step, { maxLength: 60 }), (tokens, steps) => {
      const { used, errors } = play({ tokens }, steps);
      expect(used.inputTokens + used.outputTokens + used.cacheWriteTokens).toBeLessThanOrEqual(
        tokens + errors,
      );
    }),
    { numRuns: 300 },
  );
});

test("S3.11 and so do they with a limit of cost", () => {
  fc.assert(
    fc.property(
      fc.double({ min: 1e-6, max: 0.2, noNaN: true }),
      fc.array(step, { maxLength: 60 }),
      (costUsd, steps) => {
        const { used, errors } = play({ costUsd }, steps);
        expect(used.costUsd ?? 0).toBeLessThanOrEqual(costUsd + (errors * 2.5) / 1e6 + 1e-9);
      },
    ),
    { numRuns: 300 },
  );
});
