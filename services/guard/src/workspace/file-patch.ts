/** The part of a git-style diff that tells of one path. Pure but for its time limit. */
import { formatPatch, OMIT_HEADERS, type StructuredPatchHunk, structuredPatch } from "diff";
import { isBinary } from "./content-digest.ts";
import { toQuotedPath } from "./quoted-path.ts";

export type PatchMode = "100644" | "100755" | "120000";

/** A file before or after; of a symlink (mode 120000) the content is its target. */
export interface PatchSide {
  readonly mode: PatchMode;
  readonly content: Buffer;
}

const CONTEXT_LINES = 3;
// Work grows with the square of the edits, and the time limit is looked at only once per edit length.
const MAX_EDIT_LENGTH = 4_000;
const NO_NEWLINE = "\\ No newline at end of file";

/** Empty when both sides are the same. Past `timeoutMs` the file is shown as replaced whole. */
export function toFilePatch(
  path: string,
  before: PatchSide | undefined,
  after: PatchSide | undefined,
  timeoutMs: number,
): string {
  if (before !== undefined && after !== undefined && isLink(before) !== isLink(after)) {
    // As git does: a diff cannot turn a file into a link.
    return toFilePatch(path, before, undefined, timeoutMs) + toFilePatch(path, undefined, after, timeoutMs);
  }
  const modes = toModeLines(before?.mode, after?.mode);
  const oldContent = before?.content ?? Buffer.alloc(0);
  const newContent = after?.content ?? Buffer.alloc(0);
  const same = oldContent.equals(newContent);
  if (same && modes === "") return "";
  const header = `diff --git ${toQuotedPath(`a/${path}`)} ${toQuotedPath(`b/${path}`)}\n${modes}`;
  if (same) return header;
  const oldName = before === undefined ? "/dev/null" : toQuotedPath(`a/${path}`);
  const newName = after === undefined ? "/dev/null" : toQuotedPath(`b/${path}`);
  if (isBinary(oldContent) || isBinary(newContent)) {
    return `${header}Binary files ${oldName} and ${newName} differ\n`;
  }
  const hunks = toHunks(oldContent.toString(), newContent.toString(), timeoutMs);
  return `${header}--- ${toHeaderName(oldName)}\n+++ ${toHeaderName(newName)}\n${hunks}`;
}

function isLink(side: PatchSide): boolean {
  return side.mode === "120000";
}

function toModeLines(before: PatchMode | undefined, after: PatchMode | undefined): string {
  if (before === after) return "";
  if (before === undefined) return `new file mode ${after}\n`;
  if (after === undefined) return `deleted file mode ${before}\n`;
  return `old mode ${before}\nnew mode ${after}\n`;
}

// A tab ends a name that holds a space, else patch(1) would cut it there.
function toHeaderName(name: string): string {
  return name.includes(" ") && !name.startsWith('"') ? `${name}\t` : name;
}

function toHunks(before: string, after: string, timeoutMs: number): string {
  const limits = { context: CONTEXT_LINES, timeout: timeoutMs, maxEditLength: MAX_EDIT_LENGTH };
  const patch =
    before === "" || after === "" || timeoutMs <= 0
      ? undefined
      : structuredPatch("", "", before, after, undefined, undefined, limits);
  const hunks = patch?.hunks ?? [toReplacement(before, after)];
  const names = {
    oldFileName: undefined,
    newFileName: undefined,
    oldHeader: undefined,
    newHeader: undefined,
  };
  return formatPatch({ ...names, hunks }, OMIT_HEADERS);
}

function toReplacement(before: string, after: string): StructuredPatchHunk {
  const removed = toLines(before, "-");
  const added = toLines(after, "+");
  return {
    oldStart: 1,
    oldLines: removed.count,
    newStart: 1,
    newLines: added.count,
    lines: removed.lines.concat(added.lines),
  };
}

function toLines(text: string, sign: "-" | "+"): { lines: string[]; count: number } {
  if (text === "") return { lines: [], count: 0 };
  const lines = text.split("\n").map((line) => sign + line);
  const count = text.endsWith("\n") ? lines.length - 1 : lines.length;
  if (count < lines.length) lines.pop();
  else lines.push(NO_NEWLINE);
  return { lines, count };
}
