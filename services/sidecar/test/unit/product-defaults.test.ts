import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { findDefaultsComplaints } from "../../src/product-defaults.ts";

const SHIPPED = join(import.meta.dirname, "../../../../config");

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "pillion-defaults-"));
  cpSync(SHIPPED, directory, { recursive: true });
});
afterEach(() => rmSync(directory, { recursive: true }));

const write = (name: string, content: unknown): void =>
  writeFileSync(join(directory, name), typeof content === "string" ? content : JSON.stringify(content));
const find = (hasEgress = false): string[] =>
  findDefaultsComplaints(directory, hasEgress).map(({ setting, message }) => `${setting} ${message}`);

describe("S4.7 the files of the product's defaults", () => {
  test("are right as they are shipped", () => {
    expect(find()).toEqual([]);
  });

  test("are all told at once, each with what is wrong where", () => {
    write("egress.json", { allow: ["ok.example", "API.github.com", "127.1"], deny: [] });
    write("prices.json", {
      source: "ours",
      prices: { "a/b": { input: -1, output: 1, cacheRead: 1, cacheWrite: 1 }, b: {} },
    });
    write("providers.json", '{"openai": ');
    write("agent.json", { instructions: "", tools: ["shell"], skills: [], reasoning: "off" });
    const words: [string, string][] = [
      [
        "agent.json",
        'tools[0] "shell" is not valid: Invalid option: expected one of "read"|"grep"|"find"|"ls"|"edit"|"write"|"bash"',
      ],
      ["providers.json", "it is not JSON: Unexpected end of JSON input"],
      ["prices.json", 'prices["a/b"].input is not valid: Too small: expected number to be >=0'],
      ["prices.json", "prices.b must be provider/model"],
      [
        "egress.json",
        'allow[1] "API.github.com" must be a lower-case host like `api.example.com`, all below one like `*.example.com`, with `:port` if not 443, or `http://` before it for plain HTTP',
      ],
      [
        "egress.json",
        'allow[2] "127.1" must have a port up to 65535, and an address in its usual form if it is one',
      ],
      ["egress.json", 'has unknown fields: "deny"'],
    ];
    expect(find()).toEqual(words.map(([name, why]) => `${join(directory, name)} cannot be used: ${why}`));
  });

  test("must all be there, but for the egress list where a setting takes its place", () => {
    rmSync(join(directory, "egress.json"));
    const missing =
      "there is no such file; PILLION_CONFIG_DIR must name a whole copy of the product's `config`";
    expect(find()).toEqual([`${join(directory, "egress.json")} cannot be used: ${missing}`]);
    expect(find(true)).toEqual([]);
    rmSync(join(directory, "prices.json"));
    expect(find(true)).toEqual([`${join(directory, "prices.json")} cannot be used: ${missing}`]);
  });
});
