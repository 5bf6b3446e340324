import fs from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { setImmediate } from "node:timers/promises";
import { expect, it } from "vitest";
import { openWorkspaceFile } from "../../src/workspace/read-file.ts";
import { WORKSPACE_LIMITS } from "../../src/workspace/workspace-limits.ts";
import { countDescriptors, makeScratch } from "./scratch.ts";

function open(root: string, path: string) {
  const opened = openWorkspaceFile(root, path);
  if (!opened.ok) throw new Error(opened.refusal);
  return opened;
}

it("gives a file's size, mode and content", async () => {
  const content = "line\n".repeat(100_000);
  const { root } = makeScratch({ "a/b": content, run: "x:1", empty: "" });
  const before = countDescriptors();
  const opened = open(root, "a/b");
  expect([opened.size, opened.executable, await text(opened.stream)]).toEqual([
    content.length,
    false,
    content,
  ]);
  expect(open(root, "run").executable).toBe(true);
  expect(await text(open(root, "empty").stream)).toBe("");
  await setImmediate();
  expect(countDescriptors()).toBe(before + 1);
});

it.each([
  ["../outside/secret.txt", "unsafe_path"],
  ["/etc/passwd", "unsafe_path"],
  ["", "unsafe_path"],
  ["nothing", "not_found"],
  ["file/inner", "not_found"],
  ["directory", "not_a_file"],
])("refuses %j as %s", (path, refusal) => {
  const { root } = makeScratch({ file: "1", directory: "dir:" });
  expect(openWorkspaceFile(root, path)).toEqual({ ok: false, refusal });
});

it("refuses what is too large", () => {
  const { root } = makeScratch({ file: "12345" });
  const limits = { ...WORKSPACE_LIMITS, maxReadBytes: 4 };
  expect(openWorkspaceFile(root, "file", limits)).toEqual({ ok: false, refusal: "too_large" });
});

it("gives what the file held when it was opened: no more when it grows, an error when it shrinks", async () => {
  const { root } = makeScratch({ grows: "1234", shrinks: "x".repeat(300_000) });
  const [grows, shrinks] = [open(root, "grows"), open(root, "shrinks")];
  fs.appendFileSync(join(root, "grows"), "5678");
  fs.truncateSync(join(root, "shrinks"), 10);
  expect(await text(grows.stream)).toBe("1234");
  await expect(text(shrinks.stream)).rejects.toMatchObject({ code: "changed_while_read" });
});

it("closes the file when the reader goes away, also in the middle of a read", async () => {
  const { root } = makeScratch({ file: "x".repeat(300_000) });
  const before = countDescriptors();
  for (const start of [false, true]) {
    const { stream } = open(root, "file");
    if (start) stream.read(1);
    const closed = new Promise((resolve) => stream.once("close", resolve));
    stream.destroy();
    await closed;
  }
  expect(countDescriptors()).toBe(before);
});
