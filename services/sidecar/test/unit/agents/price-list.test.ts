import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { readPriceList } from "../../../src/agents/price-list.ts";

const root = new URL("../../../../../", import.meta.url).pathname;
const price = { input: 1, output: 2, cacheRead: 0.5, cacheWrite: 1 };
const made: string[] = [];

afterEach(() => {
  for (const directory of made.splice(0)) rmSync(directory, { recursive: true });
});

function toConfig(list: unknown): string {
  const directory = mkdtempSync(join(tmpdir(), "prices-"));
  made.push(directory);
  writeFileSync(join(directory, "prices.json"), typeof list === "string" ? list : JSON.stringify(list));
  return directory;
}

test("S3.11 the list that is shipped has prices of every provider that is shipped, and none of them is a guess", () => {
  const prices = readPriceList(join(root, "config"));
  const providers = new Set([...prices.keys()].map((name) => name.split("/")[0]));
  expect([...providers].toSorted()).toEqual(["anthropic", "openai", "openrouter"]);
  expect(prices.get("anthropic/claude-haiku-4-5")).toEqual({
    input: 1,
    output: 5,
    cacheRead: 0.1,
    cacheWrite: 1.25,
  });
  // These choose another model, at that one's price.
  expect(prices.has("openrouter/openrouter/auto")).toBe(false);
  expect([...prices].filter(([name, { input }]) => input === 0 && !name.endsWith(":free"))).toEqual([]);
});

test("config/prices.json has not drifted from Pi's list (run `node scripts/prices.ts`)", () => {
  const output = execFileSync(process.execPath, ["scripts/prices.ts", "--check"], {
    cwd: root,
    encoding: "utf8",
  });
  expect(output).toBe("");
});

test("S3.11 an operator's own list is read, tiers and all", () => {
  const tiered = { ...price, tiers: [{ above: 200_000, ...price, input: 2 }] };
  const directory = toConfig({
    source: "our contract",
    prices: { "ours/big": price, "ours/team/long": tiered },
  });
  expect([...readPriceList(directory)]).toEqual([
    ["ours/big", price],
    ["ours/team/long", tiered],
  ]);
});

test.each<[string, unknown]>([
  ["is not there", null],
  ["is no JSON", "{"],
  ["lacks a figure", { source: "", prices: { "a/b": { input: 1 } } }],
  ["has a price below zero", { source: "", prices: { "a/b": { ...price, input: -1 } } }],
  ["names a model without its provider", { source: "", prices: { b: price } }],
  ["has a field of another kind", { source: "", prices: {}, currency: "EUR" }],
])("S3.11 a list that %s is an error that names the file", (_what, list) => {
  const directory = list === null ? join(tmpdir(), "no-such-prices") : toConfig(list);
  expect(() => readPriceList(directory)).toThrow(`${join(directory, "prices.json")} cannot be used`);
});
