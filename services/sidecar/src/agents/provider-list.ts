/** The model providers that an operator has configured: product defaults, or the operator's own file in their place. */
import { z } from "zod";
import { ModelPrice } from "#contract/agent";
import { ModelApi } from "#contract/extension";
import { readDefaultsFile } from "../setting-files.ts";

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

/** Throws a SettingsError that names the file when it is missing or wrong. */
export function readProviderList(configDir: string): ProviderList {
  return readDefaultsFile(configDir, "providers.json", ProviderList);
}
