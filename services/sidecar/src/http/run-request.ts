/** From a parsed body to a run request: the schema, then the few rules between fields that a schema cannot say. */
import type { FieldError } from "#contract/failure";
import { type InlineFile, RunRequest } from "#contract/run";
import { toInvalid, toInvalidBody } from "./field-errors.ts";

/** Throws invalid_request with every bad field. What is not implemented yet is refused by name. */
export function toRunRequest(body: unknown): RunRequest {
  const parsed = RunRequest.safeParse(body);
  if (!parsed.success) throw toInvalidBody(parsed.error, body);
  const request = parsed.data;
  const errors = [...toPromptErrors(request), ...toSkillErrors(request), ...toFileErrors(request)];
  if (errors.length > 0) throw toInvalid(errors);
  return request;
}

function toPromptErrors(request: RunRequest): FieldError[] {
  const given = Number(request.prompt !== undefined) + Number(request.messages !== undefined);
  if (given === 1) return [];
  return [{ path: "/prompt", message: "give either `prompt` or `messages`" }];
}

function toSkillErrors(request: RunRequest): FieldError[] {
  const skills = request.agent?.skills ?? [];
  return skills.flatMap((skill, index) => {
    const path = `/agent/skills/${index}`;
    if (skill.content !== undefined && skill.description === undefined) {
      return [{ path: `${path}/description`, message: "a skill with `content` needs a description" }];
    }
    if (skills.findIndex((other) => other.name === skill.name) !== index) {
      return [{ path: `${path}/name`, message: "another skill has this name" }];
    }
    return [];
  });
}

function toFileErrors(request: RunRequest): FieldError[] {
  if (request.workspace.kind !== "files") return [];
  const files = request.workspace.files.map((file, index) => ({ file, index, branch: `${file.path}/` }));
  const errors = files
    .filter(({ file }) => !isWhole(file))
    .map(({ index }) => ({ path: `/workspace/files/${index}/content`, message: "is not valid base64" }));
  // Sorted with a closing slash, whatever lies below a path follows it at once.
  const sorted = files.toSorted((a, b) =>
    a.branch < b.branch ? -1 : a.branch > b.branch ? 1 : a.index - b.index,
  );
  for (const [position, next] of sorted.entries()) {
    const before = sorted[position - 1];
    if (before === undefined || !next.branch.startsWith(before.branch)) continue;
    const message =
      next.branch === before.branch ? "another file has this path" : "goes through another file";
    errors.push({ path: `/workspace/files/${next.index}/path`, message });
  }
  return errors;
}

/** Buffer skips what is not base64, so only a way back to the same text proves it. */
function isWhole(file: InlineFile): boolean {
  return file.encoding === "utf8" || Buffer.from(file.content, "base64").toString("base64") === file.content;
}
