import { describe, expect, test } from "vitest";
import { RunRequest } from "#contract/run";
import { type ProfileContext, resolveProfile } from "../../../src/agents/profile.ts";
import { toFault } from "../../../src/kernel/fault.ts";
import { refuseWithoutPrice } from "../../../src/runs/known-price.ts";
import { clampLimits } from "../../../src/runs/limits.ts";

const price = { input: 1, output: 2, cacheRead: 0, cacheWrite: 0 };

/** What a request is told with an operator's ceiling or without, by the rules that prices really have; null: it has one. */
function refusal(model: unknown, ceiling: number | undefined, listed: string[] = []) {
  const request = RunRequest.parse({ prompt: "x", model, limits: { costUsd: 0.5 } });
  const context: ProfileContext = {
    defaults: { instructions: "", tools: [], skills: [], reasoning: "off" },
    providers: { acme: { title: "Acme", baseUrl: "https://models.acme.example", api: "openai-completions" } },
    ...{
      skillsDir: "/nowhere",
      defaultModel: undefined,
      demoModel: true,
      allowedPrograms: [],
      privateTargets: [],
    },
    ...{ credentials: [], providerKeys: { acme: "sk-0123456789" } },
    prices: new Map(listed.map((name) => [name, price])),
    isCostLimited: ceiling !== undefined,
  };
  const limits = clampLimits(request.limits, ceiling === undefined ? {} : { costUsd: ceiling });
  try {
    refuseWithoutPrice(limits, request, resolveProfile(request, context), context.isCostLimited);
    return null;
  } catch (error) {
    return toFault(error).errors;
  }
}

const told = (remedy: string) => [
  { path: "/limits/costUsd", message: `the price of acme/large is not known: ${remedy}` },
];
const own = { name: "acme/large", baseUrl: "https://own.example/v1", api: "openai-completions" };

describe("S3.11 a limit of cost for a model without a price is refused, and what is advised helps", () => {
  test.each([undefined, 1])("for an endpoint of the request's own: its price (ceiling %s)", (ceiling) => {
    const advice = told("give model.price");
    expect(refusal(own, ceiling)).toEqual(advice);
    expect(refusal(own, ceiling, ["acme/large"])).toEqual(advice);
    expect(refusal({ ...own, price }, ceiling)).toBeNull();
  });

  test("for a provider's, where the operator has a ceiling: the operator's list", () => {
    const advice = told("the operator can list it in prices.json, a request cannot name it here");
    expect(refusal("acme/large", 1)).toEqual(advice);
    expect(refusal({ name: "acme/large", price }, 1)).toEqual(advice);
    expect(refusal("acme/large", 1, ["acme/large"])).toBeNull();
  });

  test("for a provider's without a ceiling: either", () => {
    expect(refusal("acme/large", undefined)).toEqual(
      told("give model.price, or let the operator list it in prices.json"),
    );
    expect(refusal({ name: "acme/large", price }, undefined)).toBeNull();
    expect(refusal("acme/large", undefined, ["acme/large"])).toBeNull();
  });
});
