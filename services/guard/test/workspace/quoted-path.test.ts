import { execFileSync } from "node:child_process";
import { expect, it } from "vitest";
import { toQuotedPath } from "../../src/workspace/quoted-path.ts";
import { makeScratch } from "./scratch.ts";

it("quotes as git does", () => {
  const names = [
    "plain",
    "with space",
    'quo"te',
    "back\\slash",
    "tab\tbell\x07",
    "line\nbreak",
    "ünï✓",
    "\x01\x7f",
  ];
  const { root } = makeScratch(Object.fromEntries(names.map((name) => [name, ""])));
  const git = (...args: string[]) => execFileSync("git", args, { cwd: root, encoding: "utf8" });
  git("init", "-q");
  git("add", ".");
  expect(names.map(toQuotedPath).sort()).toEqual(git("ls-files").trimEnd().split("\n").sort());
});
