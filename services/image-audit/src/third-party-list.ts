/** The list that a build lays beside its bundles: which files it made, of which packages, with their licences' texts. */
import { z } from "zod";

export const THIRD_PARTY_FILE = "THIRD-PARTY.json";

export const ThirdPartyList = z.strictObject({
  files: z
    .array(
      z.strictObject({
        path: z.string().regex(/^[^/]/).describe("Relative to the list."),
        sha256: z.string().regex(/^[0-9a-f]{64}$/),
        packages: z.array(z.string()).describe("What it contains, as name@version."),
      }),
    )
    .describe("Programs and bundles that are in no package of their own."),
  packages: z.array(
    z.strictObject({
      name: z.string().min(1),
      version: z.string().min(1),
      licence: z.string(),
      text: z.string().describe("The whole text of the licence."),
    }),
  ),
});
export type ThirdPartyList = z.infer<typeof ThirdPartyList>;
