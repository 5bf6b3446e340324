/** Skills: folders with a SKILL.md shipped with the product, and those that a request brings along. */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import { z } from "zod";
import type { Skill } from "#contract/agent";
import { Fault } from "../kernel/fault.ts";

const MAX_SKILL_BYTES = 1024 * 1024;
const MAX_SKILL_FILES = 256;
const FrontMatter = z.object({ name: z.string(), description: z.string().min(1).max(1024) });

export type ResolvedSkill = {
  readonly name: string;
  readonly description: string;
  /** Relative to the skill's folder; SKILL.md is among them. */
  readonly files: readonly { readonly path: string; readonly content: Buffer }[];
};

/** Throws invalid_request, naming the skill that is missing or does not parse: a skill is never skipped. */
export function resolveSkill(skill: Skill, path: string, skillsDir: string): ResolvedSkill {
  const refuse = (message: string): Fault =>
    new Fault("invalid_request", `The skill "${skill.name}" cannot be used: ${message}.`, {
      errors: [{ path, message }],
    });
  if (skill.content === undefined) return readSkill(skill.name, skillsDir, refuse);
  if (skill.description === undefined) throw refuse("a description is needed with content");
  const head = `---\nname: ${skill.name}\ndescription: ${JSON.stringify(skill.description)}\n---\n\n`;
  const text = skill.content.startsWith("---\n") ? skill.content : `${head}${skill.content}`;
  return {
    name: skill.name,
    description: skill.description,
    files: [{ path: "SKILL.md", content: Buffer.from(text) }],
  };
}

function readSkill(name: string, skillsDir: string, refuse: (message: string) => Fault): ResolvedSkill {
  const directory = join(skillsDir, name);
  if (!statSync(join(directory, "SKILL.md"), { throwIfNoEntry: false })?.isFile())
    throw refuse("there is no such skill");
  const files = readFiles(directory, refuse);
  const text = files.find((file) => file.path === "SKILL.md")?.content.toString("utf8") ?? "";
  const front = /^---\n([\s\S]*?)\n---(\n|$)/.exec(text)?.[1];
  const parsed = FrontMatter.safeParse(front === undefined ? undefined : parseYaml(front));
  if (!parsed.success || parsed.data.name !== name) throw refuse("its SKILL.md has no valid front matter");
  return { name, description: parsed.data.description, files };
}

function readFiles(
  directory: string,
  refuse: (message: string) => Fault,
): { path: string; content: Buffer }[] {
  const entries = readdirSync(directory, { recursive: true, withFileTypes: true }).filter((entry) =>
    entry.isFile(),
  );
  if (entries.length > MAX_SKILL_FILES) throw refuse("it has too many files");
  const files = entries.map((entry) => {
    const full = join(entry.parentPath, entry.name);
    return { path: full.slice(directory.length + 1), content: readFileSync(full) };
  });
  if (files.reduce((sum, file) => sum + file.content.length, 0) > MAX_SKILL_BYTES)
    throw refuse("it is too large");
  return files;
}

function parseYaml(text: string): unknown {
  try {
    return parse(text);
  } catch {
    return undefined;
  }
}
