import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { readInstance } from "../../src/instance.ts";

let home: string;

beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "pillion-instance-"));
});
afterEach(() => rmSync(home, { recursive: true, force: true }));

test("S2.13 an instance keeps its name with its data directory, and no other has it, whatever the path", () => {
  const first = readInstance(home);
  expect(first).toMatch(/^[0-9a-f]{12}$/);
  expect(readInstance(home)).toBe(first);
  expect(readdirSync(home)).toEqual(["instance"]);
  rmSync(home, { recursive: true });
  home = mkdtempSync(join(tmpdir(), "pillion-instance-"));
  expect(readInstance(home)).not.toBe(first);
});

test.each(["", "0123", "../../etc/x", "0123456789ab\n0123456789ab"])(
  "a name that was cut or is no name is made anew: %j",
  (text) => {
    writeFileSync(join(home, "instance"), text);
    const made = readInstance(home);
    expect(made).toMatch(/^[0-9a-f]{12}$/);
    expect(readInstance(home)).toBe(made);
  },
);
