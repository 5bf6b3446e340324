/** What a model call costs, or may cost at most. Pure. */
import type { ModelPrice } from "#contract/agent";
import type { ListedPrice } from "../../model-price.ts";
import type { CallUsage } from "./usage-reader.ts";

const PER_MILLION = 1e-6;

/** US dollars. */
export function toCost(price: ListedPrice, usage: CallUsage): number {
  const { inputTokens, outputTokens, cacheReadTokens, cacheWriteTokens, longCacheWriteTokens = 0 } = usage;
  const rates = toRates(price, inputTokens + cacheReadTokens + cacheWriteTokens);
  const long = Math.min(longCacheWriteTokens, cacheWriteTokens);
  const input = rates.input * inputTokens + rates.cacheRead * cacheReadTokens;
  const written = rates.cacheWrite * (cacheWriteTokens - long) + 2 * rates.input * long;
  return (input + written + rates.output * outputTokens) * PER_MILLION;
}

/** US dollars for so many tokens, whichever of them the cache takes or gives. */
export function toMostCost(price: ListedPrice, input: number, output: number): number {
  const rates = toRates(price, input);
  const dearest = Math.max(rates.input, rates.cacheRead, rates.cacheWrite);
  return (dearest * input + rates.output * output) * PER_MILLION;
}

/** Output tokens that so many US dollars pay for, after the input; below 0 when they do not pay for that. */
export function toAffordable(price: ListedPrice, input: number, costUsd: number): number {
  const left = costUsd - toMostCost(price, input, 0);
  const rate = toRates(price, input).output * PER_MILLION;
  if (rate === 0) return left >= 0 ? Number.MAX_SAFE_INTEGER : -1;
  return Math.floor(left / rate);
}

/** What is written to the cache for an hour costs twice the input, where writing has a price of its own. */
export function toLongCachePrice({ tiers, ...rates }: ListedPrice): ListedPrice {
  const toLong = <Rates extends ModelPrice>(price: Rates): Rates =>
    price.cacheWrite > price.input ? { ...price, cacheWrite: 2 * price.input } : price;
  return { ...toLong(rates), tiers: tiers?.map(toLong) };
}

function toRates(price: ListedPrice, allInput: number): ModelPrice {
  const reached = (price.tiers ?? []).filter(({ above }) => allInput > above);
  return reached.reduce<ModelPrice & { above?: number }>(
    (dearest, tier) => (tier.above > (dearest.above ?? 0) ? tier : dearest),
    price,
  );
}
