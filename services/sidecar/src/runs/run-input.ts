/** Turns what a request brings along into what a sandbox is filled with. Pure. */
import type { ReferenceRequest, RunRequest } from "#contract/run";
import type { Profile } from "../agents/profile.ts";
import type { ResolvedSkill } from "../agents/skill-library.ts";
import { toReferencePath } from "../sandboxes/references.ts";
import type { FillFile, Reference } from "../sandboxes/sandbox.ts";

/** The text to send; the contract sees to it that exactly one of the two is there. */
export function toPrompt(request: RunRequest): string {
  if (request.prompt !== undefined) return request.prompt;
  const content = request.messages?.[0]?.content ?? "";
  return typeof content === "string" ? content : content.map((block) => block.text).join("\n\n");
}

export function toWorkspaceFiles(request: RunRequest): FillFile[] {
  if (request.workspace.kind !== "files") return [];
  return request.workspace.files.map(({ path, content, encoding, executable }) => ({
    path,
    executable,
    content: Buffer.from(content, encoding),
  }));
}

export function toSkillFiles(skills: readonly ResolvedSkill[]): FillFile[] {
  return skills.flatMap(({ name, files }) =>
    files.map((file) => ({ path: `skills/${name}/${file.path}`, content: file.content, executable: false })),
  );
}

/** The request as it may be written down: no secret values, and files by size only. */
export function toStoredRequest(request: RunRequest): unknown {
  const { credentials, workspace, references, ...rest } = request;
  return {
    ...rest,
    workspace:
      workspace.kind === "files"
        ? {
            kind: "files",
            files: workspace.files.map(({ path, content }) => ({ path, chars: content.length })),
          }
        : workspace,
    ...(references === undefined ? {} : { references: references.map(toStoredReference) }),
    ...(credentials === undefined
      ? {}
      : { credentials: credentials.map(({ host, header }) => ({ host, header })) }),
  };
}

function toStoredReference({ name, path, content = "" }: ReferenceRequest): unknown {
  return path === undefined ? { name, chars: content.length } : { name, path };
}

/** What the agent is told of its references, after its other instructions. */
export function toInstructions({ instructions }: Profile, references: readonly Reference[]): string {
  if (references.length === 0) return instructions;
  const list = references.map(({ name }) => `- ${toReferencePath(name)}`).join("\n");
  return [instructions, `Reference material, to read only:\n${list}`].filter(Boolean).join("\n\n");
}
