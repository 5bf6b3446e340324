import { execFileSync } from "node:child_process";
import fs from "node:fs";
import { dirname, join } from "node:path";
import { buffer } from "node:stream/consumers";
import { extract, type Header } from "tar-stream";
import { expect, it } from "vitest";
import { exportTar } from "../../src/workspace/export-tar.ts";
import { WORKSPACE_LIMITS } from "../../src/workspace/workspace-limits.ts";
import { countDescriptors, makeScratch, readTree, type Tree } from "./scratch.ts";

async function readHeaders(root: string, paths?: string[]): Promise<Header[]> {
  const headers: Header[] = [];
  const reader = extract();
  reader.on("entry", (header, stream, next) => {
    headers.push(header);
    stream.on("end", next);
    stream.resume();
  });
  reader.end(await buffer(exportTar(root, paths)));
  await new Promise((resolve) => reader.on("finish", () => resolve(undefined)));
  return headers;
}

it("is taken by tar and gives the tree back", async () => {
  const tree: Tree = {
    "plain.txt": "1\n",
    empty: "",
    block: "x".repeat(512),
    large: "y".repeat(200_001),
    "bin/run": "x:#!/bin/sh\n",
    link: "link:plain.txt",
    dangling: `link:${"far/".repeat(60)}away`,
    [`${"long-".repeat(40)}/${"name-".repeat(40)}`]: "2\n",
    "ünï/✓ and\nline": "3\n",
    "node_modules/a/index.js": "4\n",
  };
  const { root } = makeScratch(tree);
  fs.mkdirSync(join(root, "empty-directory"));
  fs.utimesSync(join(root, "plain.txt"), 1_000_000_000, 1_000_000_000);
  const before = countDescriptors();
  const archive = await buffer(exportTar(root, undefined));
  expect(countDescriptors()).toBe(before);
  expect(archive.length % 512).toBe(0);

  const target = join(dirname(root), "unpacked");
  fs.mkdirSync(target);
  execFileSync("tar", ["-x", "-C", target], { input: archive });
  expect(readTree(target)).toEqual(readTree(root));
  expect(fs.statSync(join(target, "empty-directory")).isDirectory()).toBe(true);
  expect(fs.statSync(join(target, "plain.txt")).mtimeMs).toBe(1_000_000_000_000);
});

it("stores no owner, and no mode but the executable bit", async () => {
  const { root } = makeScratch({ "d/f": "1" });
  fs.chmodSync(join(root, "d/f"), 0o6711);
  fs.chownSync(join(root, "d/f"), process.getuid?.() ?? 0, process.getgid?.() ?? 0);
  fs.utimesSync(join(root, "d/f"), -5_000, 2 ** 33);
  const facts = (await readHeaders(root)).map(({ name, mode, uid, gid, mtime }) => ({
    name,
    mode,
    uid,
    gid,
    mtime,
  }));
  expect(facts).toEqual([
    { name: "d/", mode: 0o755, uid: 0, gid: 0, mtime: expect.any(Date) },
    { name: "d/f", mode: 0o755, uid: 0, gid: 0, mtime: new Date((2 ** 31 - 1) * 1000) },
  ]);
});

it("holds only what was asked for, directories whole", async () => {
  const { root } = makeScratch({ "a/b/c": "1", "a/d": "2", e: "3" });
  const names = (paths: string[]) =>
    readHeaders(root, paths).then((headers) => headers.map(({ name }) => name));
  expect(await names(["a/b", "e", "e"])).toEqual(["a/b/", "a/b/c", "e"]);
  expect(await names([])).toEqual([]);
});

it.each([
  ["unsafe_path", ["../outside"]],
  ["not_found", ["a", "nothing"]],
  ["not_found", ["a/inner"]],
  ["not_found", ["link/secret.txt"]],
])("ends with %s for %j", async (code, paths) => {
  const { root } = makeScratch({ a: "1", link: "link:../outside" });
  await expect(buffer(exportTar(root, paths))).rejects.toMatchObject({ code });
});

it("ends with an error when it gets too long or holds too much", async () => {
  const { root } = makeScratch({ a: "x".repeat(2000), b: "" });
  const fails = async (some: Partial<typeof WORKSPACE_LIMITS>) =>
    expect(buffer(exportTar(root, undefined, { ...WORKSPACE_LIMITS, ...some }))).rejects.toMatchObject({
      code: "too_large",
    });
  await fails({ maxExportBytes: 1500 });
  await fails({ maxEntries: 1 });
});

it("ends with an error when a file shrinks, and cuts one that grows", async () => {
  const { root } = makeScratch({ file: "x".repeat(1_000_000) });
  const read = async (act: () => void) => {
    let bytes = 0;
    for await (const chunk of exportTar(root, undefined)) {
      if (bytes === 0) act();
      bytes += chunk.length;
    }
    return bytes;
  };
  const rounded = Math.ceil(1_000_000 / 512) * 512;
  expect(await read(() => fs.appendFileSync(join(root, "file"), "more"))).toBe(512 + rounded + 1024);
  await expect(read(() => fs.truncateSync(join(root, "file"), 5))).rejects.toMatchObject({
    code: "changed_while_read",
  });
});

it("reads at its reader's pace and lets go of everything when the reader leaves", async () => {
  const { root } = makeScratch({ "d/file": "x".repeat(10_000_000) });
  const before = countDescriptors();
  const stream = exportTar(root, undefined);
  for await (const chunk of stream) {
    expect(chunk.length).toBe(512);
    break;
  }
  const unread = exportTar(root, undefined).destroy();
  for (const left of [stream, unread]) {
    if (!left.closed) await new Promise((resolve) => left.once("close", resolve));
  }
  expect(countDescriptors()).toBe(before);
});
