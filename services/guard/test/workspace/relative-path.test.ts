import { expect, it } from "vitest";
import { isSafeRelativePath } from "../../src/workspace/relative-path.ts";

it.each([
  "a",
  "a/b.txt",
  ".hidden",
  "..a",
  "a/...",
  "back\\slash",
  "line\nbreak",
  'quo"te',
  "ünï/✓",
  "a".repeat(4096),
])("takes %j", (path) => expect(isSafeRelativePath(path)).toBe(true));

it.each([
  "",
  "/",
  "/etc/passwd",
  "..",
  "../x",
  "a/../b",
  "a/..",
  ".",
  "./a",
  "a/.",
  "a//b",
  "a/",
  "nul\0byte",
  "\ud800",
  "a".repeat(4097),
  "ü".repeat(2049),
])("refuses %j", (path) => expect(isSafeRelativePath(path)).toBe(false));
