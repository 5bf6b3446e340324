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
export function toInstructions(
  { instructions }: Profile,
  references: readonly Reference[],
  patterns: readonly string[] = [],
): string {
  const list = references.map(({ name }) => `- ${toReferencePath(name)}`).join("\n");
  return [
    instructions,
    references.length === 0 ? "" : `Reference material, to read only:\n${list}`,
    patterns.length === 0 ? "" : toNetworkNote(patterns),
  ]
    .filter(Boolean)
    .join("\n\n");
}

/** Without it an agent tries what cannot work, a name's address for example, and gives up. */
function toNetworkNote(patterns: readonly string[]): string {
  return `The network is reached only through the HTTP proxy that HTTP_PROXY and HTTPS_PROXY name, and no hosts but these: ${patterns.join(", ")}. Names cannot be looked up. A refusal is JSON that says what may be done instead.`;
}
