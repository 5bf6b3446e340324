// The source files of the repository and what they import, read without a compiler.
import { readdirSync, readFileSync } from "node:fs";
import { join, posix } from "node:path";

/** `path` is relative to the repository, with slashes. */
export type SourceFile = { readonly path: string; readonly text: string };

/** What an import names: a file of ours, or a package or builtin as it is written. */
export type Import = { readonly from: string; readonly file?: string; readonly module?: string };

const SKIPPED = new Set(["node_modules", "dist", "toolchain", "coverage"]);

/** All TypeScript and module files of our own. */
export function readSourceTree(root: string): SourceFile[] {
  return ["services", "scripts", "bin"]
    .flatMap((folder) => listFiles(root, folder))
    .map((path) => ({
      path,
      text: readFileSync(join(root, path), "utf8"),
    }));
}

/** Whether the file belongs to a program of ours, not to its tests or to the tools around it. */
export function isProduct({ path }: SourceFile): boolean {
  return path.startsWith("services/") && !path.includes("/test/");
}

/** Every static import and export-from, and dynamic imports of a fixed name. */
export function toImports(file: SourceFile): Import[] {
  const code = withoutComments(file.text);
  const statement =
    /(?:^|[\n;])[ \t]*(?:import|export)\b(?!\s*\()(?:[^"'`;()=]*?\bfrom)?\s*["']([^"'\n]+)["']/g;
  const dynamic = /\bimport\(\s*["']([^"'\n]+)["']/g;
  const names = [...code.matchAll(statement), ...code.matchAll(dynamic)].map((match) => match[1] ?? "");
  return names.map((name) => ({ from: file.path, ...toTarget(file.path, name) }));
}

/** The code with comments blanked; lines stay where they are. */
export function withoutComments(text: string): string {
  return text.replace(TOKENS, (token) => (/^\/[/*]|^`/.test(token) ? toBlanks(token) : token));
}

/** The code with comments, strings, templates and regular expressions blanked; lines stay where they are. */
export function toBareCode(text: string): string {
  return text.replace(TOKENS, toBlanks);
}

const TOKENS =
  /\/\/[^\n]*|\/\*[\s\S]*?\*\/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\[\s\S]|[^`\\])*`|(?<=(?:^|[(,=:[!&|?{};>\n]|\breturn)\s*)\/(?![*/])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n[])+\/[a-z]*/g;

function toBlanks(token: string): string {
  return token.replace(/[^\n]/g, " ");
}

function toTarget(from: string, name: string): { file: string } | { module: string } {
  if (name.startsWith(".")) return { file: posix.normalize(posix.join(posix.dirname(from), name)) };
  if (name.startsWith("#contract/"))
    return { file: `services/contract/${name.slice("#contract/".length)}.ts` };
  return { module: name };
}

function listFiles(root: string, folder: string): string[] {
  const entries = readFolder(join(root, folder));
  return entries.flatMap((entry) => {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory()) return SKIPPED.has(entry.name) ? [] : listFiles(root, path);
    return entry.isFile() && /\.(ts|mts|mjs|js)$/.test(entry.name) ? [path] : [];
  });
}

function readFolder(path: string) {
  try {
    return readdirSync(path, { withFileTypes: true });
  } catch {
    return []; // a folder that is not there yet has no files
  }
}
