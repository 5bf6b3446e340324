/** What is here: harnesses, capabilities, and the description of this interface. */
import type { Capabilities } from "#contract/capabilities";
import type { HarnessInfo } from "#contract/harness";
import type { HarnessList } from "#contract/routes";
import type { Handlers } from "./caller-env.ts";
import { toOpenApi } from "./openapi.ts";

export type CatalogueParts = {
  readonly harnesses: () => Promise<HarnessInfo[]>;
  readonly capabilities: () => Promise<Capabilities>;
  readonly version: string;
  readonly port: number;
};

export function catalogueHandlers(
  parts: CatalogueParts,
): Handlers<"listHarnesses" | "getCapabilities" | "getOpenApi"> {
  let page: string | undefined; // rendered once, when first asked for
  return {
    listHarnesses: async (context) =>
      context.json({ harnesses: await parts.harnesses() } satisfies HarnessList),

    getCapabilities: async (context) => context.json(await parts.capabilities()),

    getOpenApi: (context) => {
      page ??= JSON.stringify(toOpenApi(parts));
      return context.body(page, 200, { "content-type": "application/json" });
    },
  };
}
