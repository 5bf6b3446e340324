// The name of an instance: its own for each data directory, and the same after a restart.
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { readInstanceId } from "../../../src/kernel/instance-id.ts";

let homes: string[];
beforeEach(() => {
  homes = [1, 2].map(() => mkdtempSync(join(tmpdir(), "pillion-instance-")));
});
afterEach(() => {
  for (const home of homes) rmSync(home, { recursive: true });
});

test("S2.13 two data directories have two names, which stay, wherever the directories lie", () => {
  const [one = "", two = ""] = homes.map(readInstanceId);
  expect(one).toMatch(/^[0-9a-f]{12}$/);
  expect(two).not.toBe(one);
  expect(homes.map(readInstanceId)).toEqual([one, two]);
  expect(statSync(join(homes[0] ?? "", "instance-id")).mode & 0o777).toBe(0o600);
});

test("a name that is none is drawn anew", () => {
  const [home = ""] = homes;
  writeFileSync(join(home, "instance-id"), "half");
  expect(readInstanceId(home)).toMatch(/^[0-9a-f]{12}$/);
});
