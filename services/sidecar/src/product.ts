/** Where this program's own read-only parts are, and which version it is. */
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";

export const PROGRAM_DIR = dirname(fileURLToPath(import.meta.url));

/** Throws an Error that says how to make it when there is no build. */
export function findProductDir(): string {
  // Beside the bundle, or in the clone's dist/ when running from source.
  const found = [join(PROGRAM_DIR, "product"), join(PROGRAM_DIR, "../../../dist/product")].find((path) =>
    existsSync(join(path, "guard/main.mjs")),
  );
  if (found === undefined)
    throw new Error("There is no build of the sandbox parts; run `npm run setup`, then `npm run build`.");
  return found;
}

export function readVersion(): string {
  const file = ["../package.json", "../../../package.json"]
    .map((path) => join(PROGRAM_DIR, path))
    .find(existsSync);
  if (file === undefined) return "0.0.0";
  return z.object({ version: z.string() }).parse(JSON.parse(readFileSync(file, "utf8"))).version;
}
