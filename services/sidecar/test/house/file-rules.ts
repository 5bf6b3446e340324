// What every file keeps to: its name, its first line, its length, and what stands at the top of a module.
import { basename } from "node:path";
import { isProduct, type SourceFile, toBareCode, withoutComments } from "./source-tree.ts";

/** Names that say nothing. */
const BANNED = "utils helpers common misc manager service impl types index base core".split(" ");

const MAX_LINES = 400;

export function findBannedNames(files: readonly SourceFile[]): string[] {
  const toStem = (path: string) => basename(path).replace(/(\.test|\.d)?\.\w+$/, "");
  return files
    .filter(({ path }) => BANNED.includes(toStem(path)) || path.split("/").slice(0, -1).some(isBannedFolder))
    .map(({ path }) => `${path} has a name that says nothing`);
}

/** `services` is the plan's own word for the programs; the singular and the others say nothing as folders too. */
function isBannedFolder(name: string): boolean {
  return BANNED.includes(name);
}

/** A test needs none: its name says what it tests, and its sentences say the rest. */
export function findMissingFirstLines(files: readonly SourceFile[]): string[] {
  return files
    .filter(({ path }) => !path.endsWith(".test.ts"))
    .filter(({ text }) => !/^(#![^\n]*\n)?(\/\/ \S|\/\*\*? \S)/.test(text))
    .map(({ path }) => `${path} does not open with a line that says what it is for`);
}

/** `decisions` is all text of docs/decisions/. */
export function findLongFiles(files: readonly SourceFile[], decisions: string): string[] {
  const count = (text: string) => text.split("\n").length - 1;
  return files
    .filter(({ path, text }) => count(text) > MAX_LINES && !decisions.includes(path))
    .map(({ path, text }) => `${path} has ${count(text)} lines and docs/decisions/ does not say why`);
}

/** A barrel hides which file a name comes from, and closes import circles. */
export function findReExports(files: readonly SourceFile[]): string[] {
  const reExport = /(?:^|[\n;])\s*export\s+(?:type\s+)?(?:\*|\{[^{}]*\})[^;{}=()\n]*\bfrom\s*["']/;
  return files
    .filter(({ text }) => reExport.test(withoutComments(text)))
    .map(({ path }) => `${path} re-exports what another file defines`);
}

export function findModuleState(files: readonly SourceFile[]): string[] {
  return files
    .filter((file) => isProduct(file) && /^(export )?(let|var)\b/m.test(toBareCode(file.text)))
    .map(({ path }) => `${path} has a let at the top of the module`);
}

export function findAny(files: readonly SourceFile[]): string[] {
  const any = /(?:[:<,|&([]|=(?!>)|=>|\bas|\bextends|\bsatisfies)\s*any\b(?=\s*(?:$|[[\]>,;)|&={}]))/m;
  return files
    .filter(({ path, text }) => path.endsWith(".ts") && any.test(toBareCode(text)))
    .map(({ path }) => `${path} uses any`);
}
