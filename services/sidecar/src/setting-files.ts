/** Reads the files of the product's defaults, which an operator may have changed: whole and right, or told as settings are. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { z } from "zod";
import { toIssueText } from "./setting-issues.ts";
import { SettingsError } from "./settings.ts";

/** Throws a SettingsError that names the file and everything that is wrong in it. */
export function readDefaultsFile<T>(configDir: string, name: string, schema: z.ZodType<T>): T {
  const file = join(configDir, name);
  const refuse = (...reasons: readonly string[]): SettingsError =>
    new SettingsError(reasons.map((why) => ({ setting: file, message: `cannot be used: ${why}` })));
  const value = readJson(file, refuse);
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw refuse(...parsed.error.issues.map((issue) => toIssueText(issue, value)));
}

function readJson(file: string, refuse: (reason: string) => SettingsError): unknown {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    const isMissing = error instanceof Error && "code" in error && error.code === "ENOENT";
    throw refuse(
      isMissing
        ? "there is no such file; PILLION_CONFIG_DIR must name a whole copy of the product's `config`"
        : "it cannot be read",
    );
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    const why = error instanceof Error ? error.message.replace(/[^\x20-\x7e]+/g, " ").slice(0, 200) : "";
    throw refuse(`it is not JSON: ${why}`);
  }
}
