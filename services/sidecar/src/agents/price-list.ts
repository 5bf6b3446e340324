/** What models cost, by `provider/model`: the product's list, or the operator's own file in its place. */
import { z } from "zod";
import { ModelPrice } from "#contract/agent";
import type { ListedPrice } from "../model-price.ts";
import { readDefaultsFile } from "../setting-files.ts";

export const PriceList = z.strictObject({
  source: z.string().describe("Where the figures come from and of when they are."),
  prices: z.record(
    z.string().regex(/^[a-z0-9][a-z0-9-]*\/\S+$/, "must be provider/model"),
    z.strictObject({
      ...ModelPrice.shape,
      tiers: z.array(z.strictObject({ above: z.int().positive(), ...ModelPrice.shape })).optional(),
    }),
  ),
});
export type PriceList = z.infer<typeof PriceList>;

/** Throws a SettingsError that names the file when it is missing or wrong. */
export function readPriceList(configDir: string): ReadonlyMap<string, ListedPrice> {
  return new Map(Object.entries(readDefaultsFile(configDir, "prices.json", PriceList).prices));
}
