import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { readEgressList } from "../../../src/broker/egress-list.ts";

const directory = mkdtempSync(join(tmpdir(), "pillion-egress-"));
const file = join(directory, "egress.json");
afterAll(() => rmSync(directory, { recursive: true }));

const read = (text: string, setting?: string[]) => {
  writeFileSync(file, text);
  return readEgressList(directory, setting);
};

describe("the operator's egress list", () => {
  test("is the file's, and the product's own file names none", () => {
    expect(read('{"allow": ["a.example", "http://*.b.example:8080"]}')).toEqual([
      { scheme: "https", host: "a.example", port: 443 },
      { scheme: "http", host: "*.b.example", port: 8080 },
    ]);
    expect(readEgressList(join(import.meta.dirname, "../../../../../config"), undefined)).toEqual([]);
  });

  test("is the setting's where that is given, also an empty one, whatever the file says", () => {
    expect(read('{"allow": ["a.example"]}', ["[FD00::1]:8443".toLowerCase()])).toEqual([
      { scheme: "https", host: "fd00::1", port: 8443 },
    ]);
    expect(read('{"allow": ["a.example"]}', [])).toEqual([]);
    expect(readEgressList(join(directory, "none"), [])).toEqual([]);
  });

  test.each([
    ["no JSON", "{"],
    ["no object", "[]"],
    ["no list", "{}"],
    ["a name that is not known", '{"allow": [], "deny": []}'],
    ["a bare star", '{"allow": ["*"]}'],
    ["a star inside", '{"allow": ["a.*.example"]}'],
    ["an upper-case letter", '{"allow": ["A.example"]}'],
    ["an underscore", '{"allow": ["a_b.example"]}'],
    ["a last dot", '{"allow": ["a.example."]}'],
    ["a path", '{"allow": ["a.example/x"]}'],
    ["another scheme", '{"allow": ["ftp://a.example"]}'],
    ["a port that there is not", '{"allow": ["a.example:65536"]}'],
    ["an address in another spelling", '{"allow": ["127.1"]}'],
    ["a star before an address", '{"allow": ["*.0.0.1"]}'],
    ["no address", '{"allow": ["[1::2::3]"]}'],
  ])("a file with %s is refused by its name", (_what, text) => {
    expect(() => read(text)).toThrow(`${file} cannot be used: `);
  });

  test("a missing file is refused by its name", () => {
    const missing = join(directory, "none");
    expect(() => readEgressList(missing, undefined)).toThrow(
      `${join(missing, "egress.json")} cannot be used: `,
    );
  });
});
