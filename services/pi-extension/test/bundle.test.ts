import { readFileSync } from "node:fs";
import { isBuiltin } from "node:module";
import { join } from "node:path";
import { build } from "esbuild";
import { expect, test } from "vitest";

const ROOT = join(import.meta.dirname, "../../..");
const BUILT = readFileSync(join(ROOT, "dist/product/extension/pillion.js"), "utf8");

/** The options of scripts/build.mjs; that they are the same is seen by the same bytes. */
async function bundle(entryPoint: string) {
  const { metafile, outputFiles } = await build({
    absWorkingDir: ROOT,
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node22",
    logLevel: "warning",
    legalComments: "none",
    entryPoints: [entryPoint],
    external: ["@earendil-works/*", "typebox"],
    outfile: "pillion.js",
    metafile: true,
    write: false,
  });
  const [output] = Object.values(metafile.outputs);
  return {
    text: outputFiles[0]?.text,
    inputs: Object.keys(metafile.inputs),
    imported: output?.imports.map(({ path }) => path) ?? [],
  };
}

function findForeign(inputs: readonly string[]): string[] {
  return inputs.filter((path) => !/^services\/(pi-extension\/src|contract)\//.test(path));
}

test("the extension is at most 20 kB", () => {
  expect(Buffer.byteLength(BUILT)).toBeLessThanOrEqual(20_000);
});

test("the extension holds nothing but our own code, and imports nothing but Pi and Node", async () => {
  const { text, inputs, imported } = await bundle("services/pi-extension/src/pillion.ts");
  expect(text).toBe(BUILT);
  expect(inputs).toContain("services/pi-extension/src/pillion.ts");
  expect(findForeign(inputs)).toEqual([]);
  expect(imported.filter((name) => !isBuiltin(name))).toEqual(["@earendil-works/pi-coding-agent"]);
});

test("a package that came into the extension would be noticed", async () => {
  const { inputs } = await bundle("services/contract/extension.ts");
  expect(findForeign(inputs)).toContainEqual(expect.stringMatching(/^node_modules\/.*zod/));
});
