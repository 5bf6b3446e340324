/** The hosts that an operator lets runs reach: the setting's list, or the product's file in its place. */
import { z } from "zod";
import { EgressPattern } from "#contract/egress";
import { readDefaultsFile } from "../setting-files.ts";
import { type EgressRule, toEgressRule } from "./egress-policy.ts";

const EgressFile = z.strictObject({ allow: z.array(EgressPattern).max(1000) });

/** A setting, also an empty one, goes before the file. Throws a SettingsError that names the file. */
export function readEgressList(
  configDir: string,
  setting: readonly EgressPattern[] | undefined,
): readonly EgressRule[] {
  return (setting ?? readDefaultsFile(configDir, "egress.json", EgressFile).allow).map(toEgressRule);
}
