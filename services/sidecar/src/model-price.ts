/** What a model's tokens cost. The list of prices and the run's budget share it. */
import type { ModelPrice } from "#contract/agent";

/** US dollars per million tokens; with tiers for long inputs, which count for the whole call. */
export type ListedPrice = ModelPrice & {
  /** `above`: more input tokens than this, cached ones included. */
  readonly tiers?: readonly (ModelPrice & { readonly above: number })[] | undefined;
};

/** Without the noise that sums of fractions have; a millionth of a millionth counts. */
export function toMoney(usd: number): number {
  return Math.round(usd * 1e12) / 1e12;
}

/** Only the four figures, as a claim holds them. */
export function toBasePrice({ input, output, cacheRead, cacheWrite }: ListedPrice): ModelPrice {
  return { input, output, cacheRead, cacheWrite };
}
