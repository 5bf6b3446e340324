import { execFileSync } from "node:child_process";
import fs from "node:fs";
import { dirname, join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readDiff } from "../../src/workspace/diff.ts";
import { takeSnapshot } from "../../src/workspace/snapshot.ts";
import { WORKSPACE_LIMITS } from "../../src/workspace/workspace-limits.ts";
import { makeScratch, readTree, type Scratch, type Tree, writeTree } from "./scratch.ts";

/** The diff from one tree to another, and a copy of the first to apply it to. */
async function diffBetween(before: Tree, after: Tree, limits = WORKSPACE_LIMITS) {
  const scratch = makeScratch(before);
  const copy = join(dirname(scratch.root), "copy");
  fs.cpSync(scratch.root, copy, { recursive: true, verbatimSymlinks: true });
  const snapshot = await takeSnapshot(scratch.root, scratch.keepDir, limits);
  fs.rmSync(scratch.root, { recursive: true });
  fs.mkdirSync(scratch.root);
  writeTree(scratch.root, after);
  return { ...scratch, copy, ...(await readDiff(scratch.root, snapshot, scratch.keepDir, limits)) };
}

function apply(
  { copy, text }: { copy: string; text: string },
  program: "git" | "patch",
  flags: string[] = [],
): Tree {
  const args = program === "git" ? ["apply", "--whitespace=nowarn", ...flags, "-"] : ["-p1", "--quiet"];
  // Not inside any repository: else git looks for paths below that one's root.
  const env = { ...process.env, GIT_CEILING_DIRECTORIES: dirname(copy) };
  if (text !== "")
    execFileSync(program, args, { cwd: copy, input: text, env, stdio: ["pipe", "pipe", "pipe"] });
  return readTree(copy);
}

describe("the text", () => {
  it("is git's", async () => {
    const before = {
      "a.txt": "1\n2\n3\n4\n5\n6\n7\n8\n9\n",
      gone: "bye",
      mode: "same\n",
      "with space": "a\n",
    };
    const after = {
      "a.txt": "1\n2\n3\n4\nfive\n6\n7\n8\n9\n",
      mode: "x:same\n",
      "new": "",
      "with space": "b",
    };
    const { text, truncated } = await diffBetween(before, after);
    expect(truncated).toBe(false);
    expect(text).toBe(
      [
        "diff --git a/a.txt b/a.txt",
        "--- a/a.txt",
        "+++ b/a.txt",
        "@@ -2,7 +2,7 @@",
        " 2",
        " 3",
        " 4",
        "-5",
        "+five",
        " 6",
        " 7",
        " 8",
        "diff --git a/gone b/gone",
        "deleted file mode 100644",
        "--- a/gone",
        "+++ /dev/null",
        "@@ -1,1 +0,0 @@",
        "-bye",
        "\\ No newline at end of file",
        "diff --git a/mode b/mode",
        "old mode 100644",
        "new mode 100755",
        "diff --git a/new b/new",
        "new file mode 100644",
        "diff --git a/with space b/with space",
        "--- a/with space\t",
        "+++ b/with space\t",
        "@@ -1,1 +1,1 @@",
        "-a",
        "+b",
        "\\ No newline at end of file",
        "",
      ].join("\n"),
    );
  });

  it("names binary files, links and what cannot be shown", async () => {
    const limits = { ...WORKSPACE_LIMITS, maxFileBytes: 20 };
    const before: Tree = {
      blob: Buffer.from([0, 1]),
      link: "link:a",
      big: "b".repeat(21),
      'odd"\n': "c".repeat(21),
    };
    const after: Tree = {
      blob: Buffer.from([0, 2]),
      link: "link:b",
      big: "short",
      latin: Buffer.from([0xe9]),
    };
    const { text } = await diffBetween(before, after, limits);
    expect(text.split("\n").slice(0, -1)).toEqual([
      "# big: too large to diff",
      "diff --git a/blob b/blob",
      "Binary files a/blob and b/blob differ",
      "diff --git a/latin b/latin",
      "new file mode 100644",
      "Binary files /dev/null and b/latin differ",
      "diff --git a/link b/link",
      "--- a/link",
      "+++ b/link",
      "@@ -1,1 +1,1 @@",
      "-a",
      "\\ No newline at end of file",
      "+b",
      "\\ No newline at end of file",
      '# "odd\\"\\n": too large to diff',
    ]);
  });

  it("never uses a baseline that was changed behind our back", async () => {
    const { root, keepDir } = makeScratch({ f: "old\n" });
    const snapshot = await takeSnapshot(root, keepDir);
    fs.writeFileSync(join(root, "f"), "new\n");
    fs.writeFileSync(join(keepDir, "baseline.pack"), "lie\n");
    expect((await readDiff(root, snapshot, keepDir)).text).toBe("# f: not readable\n");
    fs.rmSync(keepDir, { recursive: true });
    expect((await readDiff(root, snapshot, keepDir)).text).toBe("# f: not readable\n");
  });
});

describe("bounds", () => {
  it("cut between files, say so, and leave a diff that applies", async () => {
    const text = "line\n".repeat(50);
    const result = await diffBetween(
      {},
      { a: text, b: text, c: text },
      { ...WORKSPACE_LIMITS, maxDiffBytes: 800 },
    );
    expect(result.truncated).toBe(true);
    expect(result.text).toMatch(/\n# the diff was truncated: it is longer than 800 bytes\n$/);
    expect(apply(result, "git")).toEqual({ a: text, b: text });
  });

  it("hold for two large files without a common line", async () => {
    const lines = (from: number) =>
      Array.from({ length: 60_000 }, (_, index) => `${from + index * 7}`).join("\n");
    const begin = performance.now();
    const result = await diffBetween({ f: lines(1) }, { f: lines(3) });
    console.log(`two files of 60,000 different lines: ${(performance.now() - begin).toFixed(0)} ms`);
    expect(apply(result, "git")).toEqual({ f: lines(3) });
    expect(performance.now() - begin).toBeLessThan(10_000);
  });
});

describe("applying", () => {
  const cases: [string, Tree, Tree][] = [
    ["a file becomes a directory", { x: "1\n" }, { "x/y": "2\n" }],
    ["a directory becomes a file", { "x/y": "1\n", "x/z": "2\n" }, { x: "3\n" }],
    ["a file becomes executable with new content", { x: "1\n" }, { x: "x:2\n" }],
    [
      "names are odd",
      { "a b": "1\n", "ünï✓": "2\n" },
      { "a b": "3\n", 'tab\t"q"\n\\': "4\n", "ünï✓": "5\n" },
    ],
    ["lines end with CR LF", { x: "1\r\n2\r\n" }, { x: "1\r\n3\r\n4" }],
    [
      "lines look like a diff",
      { x: "-- a\n++ b\n" },
      { x: "++ b\n@@ -1 +1 @@\n\\ No newline at end of file\n" },
    ],
    ["a deep file is all there was", { "a/b/c": "1\n" }, {}],
    ["a file is emptied, another filled", { x: "1\n", y: "" }, { x: "", y: "2" }],
  ];
  it.each(cases)("works when %s", async (_, before, after) => {
    expect(apply(await diffBetween(before, after), "git")).toEqual(readTreeOf(after));
  });
  it.each(cases.filter(([name]) => !/a file becomes a dir|a directory becomes/.test(name)))(
    "works with patch(1) when %s",
    async (_, before, after) => {
      expect(apply(await diffBetween(before, after), "patch")).toEqual(readTreeOf(after));
    },
  );
  it.each<[string, Tree, Tree]>([
    ["a link is retargeted", { l: "link:a" }, { l: "link:b/c" }],
    ["a file becomes a link and a link a file", { f: "1\n", l: "link:f" }, { f: "link:l", l: "2\n" }],
  ])("works with git when %s", async (_, before, after) => {
    expect(apply(await diffBetween(before, after), "git")).toEqual(after);
  });

  it("works for any small tree of text, with or without time for short edits", {
    timeout: 300_000,
  }, async () => {
    const line = fc.constantFrom(
      "a",
      "b",
      "",
      "}",
      "ü",
      "-x",
      "+y",
      " z",
      "\r",
      "\\ n",
      "diff --git a/x b/x",
      "@@ -1 +1 @@",
    );
    const content = fc
      .tuple(fc.array(line, { maxLength: 25 }), fc.boolean(), fc.boolean())
      .map(([lines, ends, runs]) => `${runs ? "x:" : ""}${lines.join("\n")}${ends ? "\n" : ""}`);
    const part = fc.constantFrom("a", "b", "c d", "é", 'q"', "t\t", "n\nn", "\\");
    const path = fc.array(part, { minLength: 1, maxLength: 3 }).map((parts) => parts.join("/"));
    const tree = fc.dictionary(path, content, { maxKeys: 6, noNullPrototype: true }).map(withoutConflicts);
    await fc.assert(
      fc.asyncProperty(tree, tree, fc.boolean(), async (before, after, timely) => {
        const limits = timely ? WORKSPACE_LIMITS : { ...WORKSPACE_LIMITS, maxFileDiffMs: 0 };
        const result = await diffBetween(before, after, limits);
        expect(apply(result, "git")).toEqual(readTreeOf(after));
        removeScratch(result);
      }),
      { numRuns: 150 },
    );
  });
});

function removeScratch({ root }: Scratch): void {
  fs.rmSync(dirname(root), { recursive: true });
}

// A path cannot be both a file and a directory.
function withoutConflicts(tree: Tree): Tree {
  const paths = Object.keys(tree);
  return Object.fromEntries(
    Object.entries(tree).filter(([path]) => !paths.some((other) => other.startsWith(`${path}/`))),
  );
}

function readTreeOf(tree: Tree): Tree {
  return Object.fromEntries(Object.entries(tree).sort(([a], [b]) => (a < b ? -1 : 1)));
}
