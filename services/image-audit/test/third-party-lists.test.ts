// What the build says of its own bundles: every file is listed with its digest, every package with an allowed licence and its text.
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { findLicenceProblem, isLicenceText } from "../src/licence-rule.ts";
import { ThirdPartyList } from "../src/third-party-list.ts";
import { POLICY } from "./clean-image.ts";

const DIST = join(import.meta.dirname, "../../../dist");
const PRODUCT = join(DIST, "product");

function listScripts(directory: string, skipped: readonly string[]): string[] {
  return readdirSync(directory, { recursive: true, encoding: "utf8" })
    .filter((path) => /\.[cm]?js$/.test(path) && !skipped.some((folder) => path.startsWith(`${folder}/`)))
    .sort();
}

function readList(directory: string): ThirdPartyList {
  return ThirdPartyList.parse(JSON.parse(readFileSync(join(directory, "THIRD-PARTY.json"), "utf8")));
}

describe.each([
  ["the service", DIST, ["product"], "hono"],
  ["what every sandbox sees", PRODUCT, ["pi"], "tar-stream"],
])("S1.4 the list of %s", (_, directory, skipped, known) => {
  const { files, packages } = readList(directory);

  test("has every script with the digest that it has", () => {
    const listed = files.map(({ path }) => path).filter((path) => /\.[cm]?js$/.test(path));
    expect(listed.sort()).toEqual(listScripts(directory, skipped));
    for (const { path, sha256 } of files) {
      const content = readFileSync(join(directory, path));
      expect(createHash("sha256").update(content).digest("hex"), path).toBe(sha256);
    }
  });

  test("has every package with an allowed licence and a text, and no file without its packages", () => {
    const problems = packages.flatMap(({ name, licence, text }) => [
      ...(findLicenceProblem(licence, POLICY.licences.allowed) === undefined ? [] : [`${name}: ${licence}`]),
      ...(text.length > 100 ? [] : [`${name}: no text`]),
    ]);
    expect(problems).toEqual([]);
    expect(packages.map(({ name }) => name)).toContain(known);
    const ids = new Set(packages.map(({ name, version }) => `${name}@${version}`));
    expect(files.flatMap((file) => file.packages).filter((id) => !ids.has(id))).toEqual([]);
    expect(files.some((file) => file.packages.some((id) => id.startsWith(`${known}@`)))).toBe(true);
  });
});

test("S1.4 Pi's licence text lies in Pi's package, which itself brings none", () => {
  const name = "@earendil-works/pi-coding-agent";
  const staged = join(PRODUCT, "pi/node_modules", name);
  expect(readFileSync(join(staged, "LICENSE"), "utf8")).toMatch(
    /^MIT License\n\nCopyright \(c\) 2025 Mario Zechner\n/,
  );
  const own = join(import.meta.dirname, "../../../node_modules", name);
  expect(readdirSync(own).filter(isLicenceText)).toEqual([]); // the day it does, ours can go
});

test("the audit is a part of the service that is loaded by itself, and is in no sandbox", () => {
  const parts = readdirSync(join(DIST, "parts")).filter((name) => name.startsWith("audit-command-"));
  expect(parts.filter((name) => name.endsWith(".mjs"))).toHaveLength(1);
  expect(readFileSync(join(DIST, "pillion.mjs"), "utf8")).not.toContain("secretlint");
  const inside = readList(PRODUCT).packages.map(({ name }) => name);
  expect(inside.filter((name) => /secretlint|cyclonedx|spdx|yauzl/.test(name))).toEqual([]);
  expect(readList(DIST).packages.map(({ name }) => name)).toContain("@secretlint/core");
  expect(existsSync(join(PRODUCT, "parts"))).toBe(false);
});
