import { createHash } from "node:crypto";
import fs from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { listFiles, readChanges } from "../../src/workspace/changes.ts";
import { takeSnapshot } from "../../src/workspace/snapshot.ts";
import { WORKSPACE_LIMITS } from "../../src/workspace/workspace-limits.ts";
import { makeScratch, type Tree, toWords, writeTree } from "./scratch.ts";

async function changesAfter(tree: Tree, act: (root: string) => void, limits = WORKSPACE_LIMITS) {
  const { root, keepDir } = makeScratch(tree);
  const snapshot = await takeSnapshot(root, keepDir, limits);
  act(root);
  return readChanges(root, snapshot, limits);
}

const sha256 = (content: string) => createHash("sha256").update(content).digest("hex");

describe("changes", () => {
  it("are none when nothing happened", async () => {
    const tree = { "a/b": "1\n", link: "link:a/b", "empty/": "dir:", pipe: "fifo:" };
    expect(await changesAfter(tree, () => {})).toEqual({ files: [], truncated: false });
  });

  it("tell what was added, modified and deleted, sorted by path", async () => {
    const tree = { "keep.txt": "same\n", "edit.txt": "old\n", "gone.txt": "bye\n" };
    const { files } = await changesAfter(tree, (root) => {
      writeTree(root, {
        "edit.txt": "longer\n",
        "new/run.sh": "x:#!/bin/sh\n",
        blob: Buffer.from([0, 1, 2]),
      });
      fs.symlinkSync("keep.txt", join(root, "link"));
      fs.rmSync(join(root, "gone.txt"));
    });
    const text = { kind: "file", binary: false, executable: false };
    expect(files).toEqual([
      { ...text, path: "blob", change: "added", size: 3, binary: true, sha256: sha256("\0\x01\x02") },
      { ...text, path: "edit.txt", change: "modified", size: 7, sha256: sha256("longer\n") },
      { path: "gone.txt", change: "deleted", kind: "file", size: 4, executable: false },
      { path: "link", change: "added", kind: "symlink", size: 8, executable: false, linkTarget: "keep.txt" },
      { path: "new", change: "added", kind: "directory", size: expect.any(Number), executable: false },
      {
        ...text,
        path: "new/run.sh",
        change: "added",
        size: 10,
        executable: true,
        sha256: sha256("#!/bin/sh\n"),
      },
    ]);
  });

  it.each<[string, Tree, (root: string) => void, string[]]>([
    [
      "a write of the same length",
      { f: "aaa\n" },
      (root) => fs.writeFileSync(join(root, "f"), "bbb\n"),
      ["modified f"],
    ],
    ["a touch", { f: "aaa\n" }, (root) => fs.utimesSync(join(root, "f"), 1, 1), []],
    [
      "a rewrite with the same content",
      { f: "aaa\n" },
      (root) => fs.writeFileSync(join(root, "f"), "aaa\n"),
      [],
    ],
    ["an executable bit", { f: "aaa\n" }, (root) => fs.chmodSync(join(root, "f"), 0o755), ["modified f"]],
    ["other permissions", { f: "aaa\n" }, (root) => fs.chmodSync(join(root, "f"), 0o600), []],
    [
      "a file replaced by a directory",
      { f: "aaa\n" },
      (root) => {
        fs.rmSync(join(root, "f"));
        writeTree(root, { "f/inner": "1\n" });
      },
      ["modified f", "added f/inner"],
    ],
    [
      "a directory replaced by a file",
      { "d/inner": "aaa\n" },
      (root) => {
        fs.rmSync(join(root, "d"), { recursive: true });
        writeTree(root, { d: "1\n" });
      },
      ["modified d", "deleted d/inner"],
    ],
    [
      "a file replaced by a symlink",
      { f: "aaa\n" },
      (root) => {
        fs.rmSync(join(root, "f"));
        fs.symlinkSync("x", join(root, "f"));
      },
      ["modified f"],
    ],
    [
      "a symlink that points elsewhere",
      { l: "link:a" },
      (root) => {
        fs.rmSync(join(root, "l"));
        fs.symlinkSync("b", join(root, "l"));
      },
      ["modified l"],
    ],
    [
      "a deleted directory",
      { "d/e/f": "1\n", g: "2\n" },
      (root) => fs.rmSync(join(root, "d"), { recursive: true }),
      ["deleted d", "deleted d/e", "deleted d/e/f"],
    ],
    [
      "a root that is gone",
      { "d/f": "1\n" },
      (root) => fs.rmSync(root, { recursive: true }),
      ["deleted d", "deleted d/f"],
    ],
    [
      "names that are hard to write",
      {},
      (root) => writeTree(root, { "line\nbreak": "", 'quo"te': "", "ünï ✓": "" }),
      ["added line\nbreak", 'added quo"te', "added ünï ✓"],
    ],
    [
      "what is in .git and node_modules, told as one entry",
      { ".git/HEAD": "x\n", "node_modules/a/index.js": "1\n", "sub/node_modules/b": "1\n" },
      (root) => writeTree(root, { ".git/objects/1": "", "node_modules/a/index.js": "2\n" }),
      ["modified .git"],
    ],
  ])("know %s", async (_, tree, act, words) => {
    expect(toWords((await changesAfter(tree, act)).files)).toEqual(words);
  });

  it("know a write of the same length even when its time was set back", async () => {
    const { root, keepDir } = makeScratch({ f: "aaa\n" });
    const { mtime } = fs.statSync(join(root, "f"));
    await new Promise((resolve) => setTimeout(resolve, 60));
    const snapshot = await takeSnapshot(root, keepDir);
    fs.writeFileSync(join(root, "f"), "bbb\n");
    fs.utimesSync(join(root, "f"), mtime, mtime);
    expect(toWords((await readChanges(root, snapshot)).files)).toEqual(["modified f"]);
  });

  it("know a write in the clock tick of the snapshot, which leaves the times as they were", async () => {
    const { root, keepDir } = makeScratch({ f: "aaa\n" });
    const snapshot = await takeSnapshot(root, keepDir);
    fs.writeFileSync(join(root, "f"), "bbb\n");
    const { mtimeNs, ctimeNs } = fs.statSync(join(root, "f"), { bigint: true });
    const sameTick = { ...snapshot.entries.get("f")!, mtimeNs, ctimeNs };
    const { files } = await readChanges(root, { ...snapshot, entries: new Map([["f", sameTick]]) });
    expect(toWords(files)).toEqual(["modified f"]);
  });

  it("list every file on demand", async () => {
    const { root, keepDir } = makeScratch({ a: "1\n", b: "2\n" });
    const snapshot = await takeSnapshot(root, keepDir);
    writeTree(root, { b: "3\n", c: "4\n" });
    const { files } = await readChanges(root, snapshot, WORKSPACE_LIMITS, { all: true });
    expect(toWords(files)).toEqual(["unchanged a", "modified b", "added c"]);
    expect(files[0]).toMatchObject({ sha256: sha256("1\n"), binary: false });
    expect(toWords((await listFiles(root)).files)).toEqual(["unchanged a", "unchanged b", "unchanged c"]);
  });
});

describe("bounds", () => {
  const limits = (some: Partial<typeof WORKSPACE_LIMITS>) => ({ ...WORKSPACE_LIMITS, ...some });

  it("stop a walk at a number of entries, without calling the rest deleted", async () => {
    const { root, keepDir } = makeScratch({ a: "", b: "", c: "", d: "" });
    const snapshot = await takeSnapshot(root, keepDir);
    expect(await readChanges(root, snapshot, limits({ maxEntries: 2 }))).toEqual({
      files: [],
      truncated: true,
    });
    expect((await takeSnapshot(root, keepDir, limits({ maxEntries: 2 }))).entries.size).toBe(2);
  });

  it("stop at a depth and after a time", async () => {
    const { root } = makeScratch({ "a/b/c/d": "" });
    expect(toWords((await listFiles(root, limits({ maxDepth: 1 }))).files)).toEqual([
      "unchanged a",
      "unchanged a/b",
    ]);
    expect(await listFiles(root, limits({ maxWalkMs: -1 }))).toEqual({ files: [], truncated: true });
  });

  it("leave large files without a digest, and call a newer one modified", async () => {
    const big = limits({ maxFileBytes: 2, maxHashBytes: 2 });
    const { files } = await changesAfter(
      { f: "large\n" },
      (root) => fs.utimesSync(join(root, "f"), 1, 1),
      big,
    );
    expect(files).toEqual([{ path: "f", change: "modified", kind: "file", size: 6, executable: false }]);
  });

  it("are told where a snapshot that left things out cannot know what is new", async () => {
    const { root, keepDir } = makeScratch({ a: "", b: "", c: "" });
    await new Promise((resolve) => setTimeout(resolve, 60));
    const snapshot = await takeSnapshot(root, keepDir, limits({ maxEntries: 2 }));
    writeTree(root, { d: "" });
    const { files, truncated } = await readChanges(root, snapshot);
    expect([toWords(files), truncated]).toEqual([["added d"], true]);
  });

  it("hold for 10,000 files and for a file that says it has a tebibyte", async () => {
    const { root, keepDir } = makeScratch();
    for (const count of [0, 1_000, 10_000]) {
      for (let index = fs.readdirSync(root).length; index < count; index++)
        fs.writeFileSync(join(root, `f${index}`), `${index}\n`);
      const begin = performance.now();
      const snapshot = await takeSnapshot(root, keepDir);
      const middle = performance.now();
      expect((await readChanges(root, snapshot)).files).toEqual([]);
      const ms = [middle - begin, performance.now() - middle].map((time) => time.toFixed(1));
      console.log(`${count} files: snapshot ${ms[0]} ms, changes ${ms[1]} ms`);
    }
    fs.writeFileSync(join(root, "huge"), "");
    fs.truncateSync(join(root, "huge"), 2 ** 40);
    const snapshot = await takeSnapshot(root, keepDir);
    expect(snapshot.entries.get("huge")).toMatchObject({ size: 2 ** 40 });
    expect(snapshot.entries.get("huge")).not.toHaveProperty("kept");
  });
});
