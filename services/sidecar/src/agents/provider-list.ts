/** The model providers that an operator has configured: product defaults, or the operator's own file in their place. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { ModelPrice } from "#contract/agent";
import { ModelApi } from "#contract/extension";

const ModelFacts = z.strictObject({
  reasoning: z.boolean().optional(),
  contextWindow: z.int().positive().optional(),
  maxTokens: z.int().positive().optional(),
  price: ModelPrice.optional(),
});

export const Provider = z.strictObject({
  title: z.string(),
  baseUrl: z.url({ protocol: /^https?$/ }),
  api: ModelApi,
  models: z.record(z.string(), ModelFacts).optional(),
});
export type Provider = z.infer<typeof Provider>;

const ProviderList = z.record(z.string().regex(/^[a-z0-9][a-z0-9-]*$/), Provider);
export type ProviderList = z.infer<typeof ProviderList>;

/** Throws an Error that names the file when it is missing or wrong; an operator reads it at start. */
export function readProviderList(configDir: string): ProviderList {
  const file = join(configDir, "providers.json");
  try {
    return ProviderList.parse(JSON.parse(readFileSync(file, "utf8")));
  } catch (error) {
    throw new Error(`${file} cannot be used: ${error instanceof Error ? error.message : String(error)}`);
  }
}
