// The source of a package as its authors published it, for a workspace: ulid, which we depend on ourselves.
import { readdir, readFile } from "node:fs/promises";
import { join, relative } from "node:path";

const PACKAGE = join(import.meta.dirname, "../../../../node_modules/ulid");

/** Sorted by path. */
export async function readPublishedPackage(): Promise<{ path: string; content: string }[]> {
  const entries = await readdir(PACKAGE, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  return Promise.all(
    files
      .filter((file) => !file.includes("/ulid/node_modules/"))
      .sort()
      .map(async (file) => ({ path: relative(PACKAGE, file), content: await readFile(file, "utf8") })),
  );
}
