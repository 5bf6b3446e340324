/** The hosts that an operator lets runs reach: the setting's list, or the product's file in its place. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { EgressPattern } from "#contract/egress";
import { type EgressRule, toEgressRule } from "./egress-policy.ts";

const EgressFile = z.strictObject({ allow: z.array(EgressPattern).max(1000) });

/** A setting, also an empty one, goes before the file. Throws an Error that names the file; an operator reads it at start. */
export function readEgressList(
  configDir: string,
  setting: readonly EgressPattern[] | undefined,
): readonly EgressRule[] {
  return (setting ?? readEgressFile(join(configDir, "egress.json"))).map(toEgressRule);
}

function readEgressFile(file: string): readonly EgressPattern[] {
  try {
    return EgressFile.parse(JSON.parse(readFileSync(file, "utf8"))).allow;
  } catch (error) {
    throw new Error(`${file} cannot be used: ${error instanceof Error ? error.message : String(error)}`);
  }
}
