/** An agent program as callers see it in the catalogue and in a run. */
import { z } from "zod";

export const HarnessId = z.string().regex(/^[a-z][a-z0-9-]{0,31}$/);
export type HarnessId = z.infer<typeof HarnessId>;

export const HarnessInfo = z.object({
  id: HarnessId,
  title: z.string(),
  installed: z.boolean(),
  version: z.string().nullable(),
  sha256: z.string().nullable().describe("Digest of the program and all that it is made of."),
  licence: z.string().describe("SPDX expression, or `proprietary`."),
  source: z.enum(["baked", "daemon", "path"]),
  drivenBy: z.enum(["pi-rpc", "acp"]),
});
export type HarnessInfo = z.infer<typeof HarnessInfo>;

/** The harness as a run's report names it. */
export const RunHarness = z.object({
  id: HarnessId,
  version: z.string(),
  sha256: z.string(),
  source: z.enum(["baked", "daemon", "path"]),
});
export type RunHarness = z.infer<typeof RunHarness>;
