/** What models cost, by `provider/model`: the product's list, or the operator's own file in its place. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { ModelPrice } from "#contract/agent";
import type { ListedPrice } from "../model-price.ts";

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

/** Throws an Error that names the file when it is missing or wrong; an operator reads it at start. */
export function readPriceList(configDir: string): ReadonlyMap<string, ListedPrice> {
  const file = join(configDir, "prices.json");
  try {
    return new Map(Object.entries(PriceList.parse(JSON.parse(readFileSync(file, "utf8"))).prices));
  } catch (error) {
    throw new Error(`${file} cannot be used: ${error instanceof Error ? error.message : String(error)}`);
  }
}
