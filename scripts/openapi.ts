// Writes docs/openapi.json from the contract; `--check` only tells whether it is up to date.
import { readFile, writeFile } from "node:fs/promises";
import { z } from "zod";
import { toOpenApi } from "../services/sidecar/src/http/openapi.ts";

const page = new URL("../docs/openapi.json", import.meta.url);
const manifest = await readFile(new URL("../package.json", import.meta.url), "utf8");
const { version } = z.object({ version: z.string() }).parse(JSON.parse(manifest));
const wanted = `${JSON.stringify(toOpenApi({ version }), null, 2)}\n`;

if (process.argv.includes("--check")) {
  const present = await readFile(page, "utf8").catch(() => "");
  if (present !== wanted) {
    console.error("docs/openapi.json is out of date: run `node scripts/openapi.ts`");
    process.exitCode = 1;
  }
} else {
  await writeFile(page, wanted);
}
