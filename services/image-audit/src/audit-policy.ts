/** What the audit forbids and allows, read from three files of the product's configuration. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { AuditError } from "./audit-error.ts";
import { RULES, type RuleName } from "./finding.ts";

const RULE_NAMES = Object.keys(RULES) as [RuleName, ...RuleName[]];

const ProprietaryProgram = z.strictObject({
  id: z.string().min(1),
  vendor: z.string().min(1),
  names: z.array(z.string().regex(/^[^/*]+$/)).describe("Names of the program's file, without a directory."),
  paths: z
    .array(z.string().startsWith("*/"))
    .describe("Paths it is installed under; `*` stands for anything."),
  packages: z
    .array(z.string().regex(/^[^*]+\*?$/))
    .describe("npm names; a `*` at the end covers platform packages."),
  signatures: z
    .array(z.array(z.string().min(5)).min(1))
    .describe("Texts in its content; one whole group in one file proves it, whatever the file's name."),
  sha256: z.array(z.string().regex(/^[0-9a-f]{64}$/)).describe("Digests that its vendor publishes."),
});
export type ProprietaryProgram = z.infer<typeof ProprietaryProgram>;

const ProprietaryList = z.strictObject({ programs: z.array(ProprietaryProgram).min(1) });

const LicenceList = z.strictObject({
  allowed: z.array(z.string().min(1)).describe("SPDX identifiers that may be in an image."),
  allowedForTools: z
    .array(z.string().min(1))
    .describe("What else a tool of the build may have; never shipped."),
  programs: z
    .array(
      z.strictObject({
        name: z.string().min(1),
        paths: z.array(z.string().startsWith("/")).min(1),
        licence: z.string().min(1),
        texts: z.array(z.string().startsWith("/")).min(1).describe("Where its text may lie; one must."),
      }),
    )
    .describe("Programs that are neither of Debian nor of npm."),
});

/** `*` stays within one segment, and no segment is only that: an exception is narrow or it is none. */
const NarrowPath = z
  .string()
  .min(3)
  .refine(
    (path) => path.split("/").every((segment) => !/^\*+$/.test(segment)),
    "a segment of only `*` is too wide",
  );

const Accepted = z.strictObject({
  rule: z.enum(RULE_NAMES),
  path: NarrowPath,
  why: z.string().min(15),
});
export type Accepted = z.infer<typeof Accepted>;

const AcceptedList = z.strictObject({ accepted: z.array(Accepted) });

export type AuditPolicy = {
  readonly programs: readonly ProprietaryProgram[];
  readonly licences: z.infer<typeof LicenceList>;
  readonly accepted: readonly Accepted[];
  /** Digest of the list of programs: the list itself holds their signatures and is no program. */
  readonly listDigest: string;
};

/** Throws AuditError that names the file and what is wrong with it. */
export function readAuditPolicy(directory: string): AuditPolicy {
  const proprietary = join(directory, "proprietary.json");
  return {
    programs: readList(proprietary, ProprietaryList).programs,
    licences: readList(join(directory, "licences.json"), LicenceList),
    accepted: readList(join(directory, "audit-accepted.json"), AcceptedList).accepted,
    listDigest: createHash("sha256").update(readFileSync(proprietary)).digest("hex"),
  };
}

function readList<T>(path: string, schema: z.ZodType<T>): T {
  try {
    return schema.parse(JSON.parse(readFileSync(path, "utf8")));
  } catch (error) {
    const why =
      error instanceof z.ZodError ? z.prettifyError(error) : error instanceof Error ? error.message : "";
    throw new AuditError(`${path} cannot be used: ${why}`);
  }
}

/** Whether a text is what a pattern means in which `*` stands for any run of characters. */
export function matches(pattern: string, text: string): boolean {
  const parts = pattern.split("*").map((part) => part.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&"));
  return new RegExp(`^${parts.join(".*")}$`, "s").test(text);
}

/** Like `matches`, but `*` stays within one segment of a path. */
export function matchesPath(pattern: string, path: string): boolean {
  const parts = pattern.split("*").map((part) => part.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&"));
  return new RegExp(`^${parts.join("[^/]*")}$`).test(path);
}
