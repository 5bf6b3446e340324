// What the pages must name, so that they cannot fall behind the code.
import { posix } from "node:path";
import { isProduct, type SourceFile } from "./source-tree.ts";

export function findUndescribedFailures(codes: readonly string[], page: string): string[] {
  return codes
    .filter((code) => !page.includes(`\`${code}\``))
    .map((code) => `docs/failures.md lacks \`${code}\``);
}

/** Every folder with a source file in it, named on the page as `name/`. */
export function findUnnamedFolders(files: readonly SourceFile[], page: string): string[] {
  const folders = new Set(files.filter(isProduct).flatMap(({ path }) => toFolders(path)));
  const isNamed = (folder: string) =>
    new RegExp(`(^|[^\\w-])${posix.basename(folder).replace(/\W/g, "\\$&")}/`, "m").test(page);
  return [...folders]
    .filter((folder) => !isNamed(folder))
    .map((folder) => `docs/architecture.md lacks ${folder}/`);
}

/** All folders from below services/ down to the file's own. */
function toFolders(path: string): string[] {
  const folder = posix.dirname(path);
  return folder === "services" || folder === "." ? [] : [...toFolders(folder), folder];
}
