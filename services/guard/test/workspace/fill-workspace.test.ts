import fs from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { fillWorkspace } from "../../src/workspace/fill-workspace.ts";
import { countDescriptors, makeScratch, readTree } from "./scratch.ts";

const file = (path: string, content = "new\n") => ({ path, content: Buffer.from(content) });

describe("filling", () => {
  it("writes files, makes their directories and sets the executable bit", () => {
    const { root } = makeScratch();
    const before = countDescriptors();
    fillWorkspace(root, [
      file("a/b/c.txt"),
      { ...file("run.sh"), executable: true },
      file("back\\slash"),
      file("empty", ""),
    ]);
    expect(readTree(root)).toEqual({
      "a/b/c.txt": "new\n",
      "back\\slash": "new\n",
      empty: "",
      "run.sh": "x:new\n",
    });
    expect(fs.statSync(join(root, "a/b/c.txt")).mode & 0o777).toBe(0o644);
    expect(countDescriptors()).toBe(before);
  });

  it.each([
    ["unsafe_path", [file("ok"), file("../x")]],
    ["unsafe_path", [file("ok"), file("/etc/x")]],
    ["duplicate_path", [file("ok"), file("a"), file("a")]],
    ["duplicate_path", [file("ok"), file("a/b"), file("a")]],
    ["duplicate_path", [file("ok"), file("a"), file("a/b/c")]],
  ])("refuses with %s before anything is written", (code, files) => {
    const { root } = makeScratch();
    expect(() => fillWorkspace(root, files)).toThrow(
      expect.objectContaining({ code, message: expect.any(String) }),
    );
    expect(fs.readdirSync(root)).toEqual([]);
  });

  it("refuses a file where a directory stands, and a directory where a file stands", () => {
    const { root } = makeScratch({ directory: "dir:", file: "old\n" });
    expect(() => fillWorkspace(root, [file("directory")])).toThrow(
      expect.objectContaining({ code: "not_a_file" }),
    );
    expect(() => fillWorkspace(root, [file("file/x")])).toThrow(
      expect.objectContaining({ code: "not_a_directory" }),
    );
  });
});

describe("a workspace that an earlier run has prepared", () => {
  it("has its symlinks and FIFOs replaced, never written through", () => {
    const { root, outside } = makeScratch({ link: "link:../outside/secret.txt", pipe: "fifo:" });
    fillWorkspace(root, [file("link"), file("pipe")]);
    expect(readTree(root)).toEqual({ link: "new\n", pipe: "new\n" });
    expect(fs.readFileSync(join(outside, "secret.txt"), "utf8")).toBe("the secret\n");
  });

  it("cannot lead a write through a symlinked directory, where a plain write goes", () => {
    const { root, outside } = makeScratch({ parent: "link:../outside" });
    expect(() => fillWorkspace(root, [file("parent/planted")])).toThrow(
      expect.objectContaining({ code: "not_a_directory" }),
    );
    expect(fs.existsSync(join(outside, "planted"))).toBe(false);
    fs.writeFileSync(join(root, "parent/planted"), "control");
    expect(fs.existsSync(join(outside, "planted"))).toBe(true);
  });
});
