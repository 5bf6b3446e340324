// What a run may read beside its workspace: there under its name, as it was checked, and written by nobody.
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { json } from "node:stream/consumers";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Reference } from "../../src/sandboxes/sandbox.ts";
import type { SandboxMaker } from "./open-places.ts";
import { startNode } from "./sandbox-behaviour.ts";

const toReferences = (directory: string): Reference[] => [
  { name: "notes.md", source: { kind: "content", content: Buffer.from("the notes") } },
  { name: "spec", source: { kind: "bind", path: directory } },
];

/** Reads, then tries all ways to change: each answers "done" or the error's code. A file of its own is the control. */
const SCRIPT = `
  const fs = require("node:fs");
  const attempt = (work) => { try { return work() ?? "done"; } catch (error) { return error.code; } };
  const change = (path) => [
    attempt(() => fs.writeFileSync(path, "other")),
    attempt(() => fs.chmodSync(path, 0o777)),
    attempt(() => fs.renameSync(path, path + ".old")),
    attempt(() => fs.writeFileSync(path + ".new", "new")),
    attempt(() => fs.rmSync(path + ".old")),
  ];
  fs.writeFileSync("/tmp/mine.txt", "mine");
  process.stdout.write(JSON.stringify({
    names: fs.readdirSync("/refs").sort(),
    read: [fs.readFileSync("/refs/notes.md", "utf8"), fs.readFileSync("/refs/spec/inner/spec.txt", "utf8")],
    control: change("/tmp/mine.txt"),
    content: change("/refs/notes.md"),
    bound: change("/refs/spec/inner/spec.txt"),
    place: attempt(() => fs.renameSync("/refs/spec", "/refs/other")),
  }));`;

export function keepsReferences(maker: SandboxMaker): void {
  describe(`references in ${maker.name}`, () => {
    let directory: string;
    beforeEach(() => {
      directory = realpathSync(mkdtempSync(join(tmpdir(), "pillion-refs-")));
      chmodSync(directory, 0o755);
      mkdirSync(join(directory, "inner"));
      writeFileSync(join(directory, "inner/spec.txt"), "the spec", { mode: 0o666 });
    });
    afterEach(() => rmSync(directory, { recursive: true, force: true }));

    test.each([false, true])(
      "S3.5 can be read by name and changed by nobody (by a reader: %s)",
      async (readOnly) => {
        await using opened = await maker.open({
          references: toReferences(directory),
          readOnly,
          workspaceBytes: 1024 * 1024,
        });
        const { sandbox } = opened;
        await sandbox.fill("references", [
          { path: "notes.md", content: Buffer.from("the notes"), executable: false },
        ]);
        await sandbox.seal();
        expect(sandbox.receipt.references).toEqual(["/refs/notes.md", "/refs/spec"]);
        const seen = await json((await startNode(sandbox, SCRIPT)).stdio);
        expect(seen).toEqual({
          names: ["notes.md", "spec"],
          read: ["the notes", "the spec"],
          control: ["done", "done", "done", "done", "done"],
          content: ["EROFS", "EROFS", "EROFS", "EROFS", "ENOENT"],
          bound: ["EROFS", "EROFS", "EROFS", "EROFS", "ENOENT"],
          place: expect.stringMatching(/^(EROFS|EBUSY)$/),
        });
        expect(readdirSync(join(directory, "inner"))).toEqual(["spec.txt"]);
        expect(readFileSync(join(directory, "inner/spec.txt"), "utf8")).toBe("the spec");
      },
    );

    test.runIf(process.getuid?.() === 0)("S3.5 do not bring what is mounted inside them", async () => {
      const inner = join(directory, "mounted");
      mkdirSync(inner);
      execFileSync("mount", ["-t", "tmpfs", "-o", "mode=1777", "pillion-test", inner]);
      try {
        writeFileSync(join(inner, "here.txt"), "here"); // the control: it is there, and everybody may write
        await using opened = await maker.open({ references: toReferences(directory).slice(1) });
        await opened.sandbox.seal();
        const script = `
          const fs = require("node:fs");
          let written = "done";
          try { fs.writeFileSync("/refs/spec/mounted/new.txt", "x"); } catch (error) { written = error.code; }
          process.stdout.write(JSON.stringify({ names: fs.readdirSync("/refs/spec/mounted"), written }));`;
        const seen = await json((await startNode(opened.sandbox, script)).stdio);
        expect(seen).toEqual({ names: [], written: "EROFS" });
        expect(readdirSync(inner)).toEqual(["here.txt"]);
      } finally {
        execFileSync("umount", [inner]);
      }
    });

    test("that the run could not read are refused by name", async () => {
      chmodSync(directory, 0o700);
      await using opened = await maker.open({ references: toReferences(directory).slice(1) });
      await expect(opened.sandbox.seal()).rejects.toMatchObject({
        code: "forbidden",
        message: "The run could not read: /refs/spec. Let others read them (chmod -R o+rX).",
      });
    });
  });
}
