/** What an agent may plant or do while its workspace is read. Each control shows that a naive read falls for it. */
import { spawn } from "node:child_process";
import fs from "node:fs";
import net from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { describe, expect, it, onTestFinished } from "vitest";
import { listFiles, readChanges } from "../../src/workspace/changes.ts";
import { readDiff } from "../../src/workspace/diff.ts";
import { exportTar } from "../../src/workspace/export-tar.ts";
import { HeldDirectory } from "../../src/workspace/held-directory.ts";
import { openWorkspaceFile } from "../../src/workspace/read-file.ts";
import { takeSnapshot } from "../../src/workspace/snapshot.ts";
import { countDescriptors, makeScratch, toWords, writeTree } from "./scratch.ts";

const SECRET = "the secret";

describe("planted symlinks", () => {
  it("are told as links and never read through, where a plain read tells the secret", async () => {
    const { root, keepDir } = makeScratch();
    const snapshot = await takeSnapshot(root, keepDir);
    writeTree(root, { file: "link:../outside/secret.txt", directory: "link:../outside" });
    expect(fs.readFileSync(join(root, "file"), "utf8")).toContain(SECRET);
    expect(fs.readFileSync(join(root, "directory/secret.txt"), "utf8")).toContain(SECRET);

    const { files } = await readChanges(root, snapshot);
    expect(files.map(({ path, kind, sha256 }) => ({ path, kind, sha256 }))).toEqual([
      { path: "directory", kind: "symlink", sha256: undefined },
      { path: "file", kind: "symlink", sha256: undefined },
    ]);
    const diff = await readDiff(root, snapshot, keepDir);
    expect(diff.text).toContain("new file mode 120000");
    expect(diff.text).not.toContain(SECRET);
    expect(await text(exportTar(root, undefined))).not.toContain(SECRET);
    expect(openWorkspaceFile(root, "file")).toEqual({ ok: false, refusal: "not_a_file" });
    expect(openWorkspaceFile(root, "directory/secret.txt")).toEqual({ ok: false, refusal: "not_found" });
  });

  it("are not followed when the root itself becomes one", async () => {
    const { root, keepDir, outside } = makeScratch({ a: "1\n" });
    const snapshot = await takeSnapshot(root, keepDir);
    fs.rmSync(root, { recursive: true });
    fs.symlinkSync(outside, root);
    expect(toWords((await readChanges(root, snapshot)).files)).toEqual(["deleted a"]);
    expect((await readDiff(root, snapshot, keepDir)).text).not.toContain(SECRET);
    expect(openWorkspaceFile(root, "secret.txt")).toEqual({ ok: false, refusal: "not_found" });
    await expect(text(exportTar(root, undefined))).rejects.toMatchObject({ code: "not_found" });
    await expect(takeSnapshot(root, keepDir)).rejects.toMatchObject({ code: "not_found" });
  });

  it("do not win a race against any reading, where a check and a plain read lose it", {
    timeout: 60_000,
  }, async () => {
    const { root, keepDir, outside } = makeScratch({
      "real-dir/secret.txt": "harmless\n",
      "real-file": "harmless\n",
    });
    writeTree(root, { "evil-dir": `link:${outside}`, "evil-file": `link:${join(outside, "secret.txt")}` });
    const snapshot = await takeSnapshot(root, keepDir);
    await startSwapping(root);
    const before = countDescriptors();

    let lost = 0;
    const control = performance.now() + 20_000;
    while (lost === 0 && performance.now() < control) lost += readNaively(root, "dir", "secret.txt") ? 1 : 0;
    expect(lost, "the control never lost the race").toBe(1);

    for (const end = performance.now() + 3_000; performance.now() < end; ) {
      for (const path of ["file", "dir/secret.txt"]) {
        const opened = openWorkspaceFile(root, path);
        if (opened.ok) expect(await text(opened.stream)).toBe("harmless\n");
      }
      const changes = await readChanges(root, snapshot);
      expect(changes.files.map(({ size, kind }) => kind === "file" && size)).not.toContain(SECRET.length + 1);
      expect((await readDiff(root, snapshot, keepDir)).text).not.toContain(SECRET);
      expect(await text(exportTar(root, undefined))).not.toContain(SECRET);
    }
    expect(countDescriptors()).toBe(before);
  });
});

describe("things that are no files", () => {
  it("neither block nor are opened, where a plain read of a FIFO waits", async () => {
    const { root, keepDir } = makeScratch({ pipe: "fifo:", "d/pipe": "fifo:" });
    const server = net.createServer().listen(join(root, "socket"));
    onTestFinished(() => void server.close());
    await new Promise((resolve) => server.once("listening", resolve));
    const reader = spawn("timeout", ["0.3", "cat", join(root, "pipe")]);
    const [code] = await new Promise<[number]>((resolve) =>
      reader.once("exit", (...end) => resolve([end[0] ?? 0])),
    );
    expect(code, "the control was not blocked").toBe(124);

    const { files } = await listFiles(root);
    expect(files.map(({ path, kind }) => `${kind} ${path}`)).toEqual([
      "directory d",
      "other d/pipe",
      "other pipe",
      "other socket",
    ]);
    const snapshot = await takeSnapshot(root, keepDir);
    fs.rmSync(join(root, "pipe"));
    expect(toWords((await readChanges(root, snapshot)).files)).toEqual(["deleted pipe"]);
    expect((await readDiff(root, snapshot, keepDir)).text).toBe("");
    expect(openWorkspaceFile(root, "d/pipe")).toEqual({ ok: false, refusal: "not_a_file" });
    expect((await text(exportTar(root, undefined))).length).toBe(512 + 1024);
  });

  it("are refused when a FIFO takes a file's name after it was looked at", () => {
    const { root } = makeScratch({ f: "1\n" });
    using directory = HeldDirectory.open(root)!;
    const seen = directory.stat("f")!;
    fs.renameSync(join(root, "f"), join(root, "elsewhere"));
    writeTree(root, { f: "fifo:" });
    expect(directory.openFile("f", seen)).toBeUndefined();
    fs.rmSync(join(root, "f"));
    writeTree(root, { f: "another file" });
    expect(directory.openFile("f", seen)).toBeUndefined();
  });
});

describe("a tree in motion", () => {
  it("never makes a walk throw, hang or leak", { timeout: 60_000 }, async () => {
    const { root, keepDir } = makeScratch();
    const snapshot = await takeSnapshot(root, keepDir);
    await startProgram(
      `const d = root + "/d" + (i % 7);
       fs.mkdirSync(d + "/e", { recursive: true });
       for (let k = 0; k < 20; k++) fs.writeFileSync(d + "/e/f" + k, "x".repeat(k * 997));
       if (i % 3) fs.rmSync(root + "/d" + ((i + 3) % 7), { recursive: true, force: true });
       else try { fs.renameSync(d, root + "/d" + ((i + 1) % 7)); } catch {}`,
      root,
    );
    const before = countDescriptors();
    for (const end = performance.now() + 2_000; performance.now() < end; ) {
      await takeSnapshot(root, keepDir);
      await readChanges(root, snapshot);
      await readDiff(root, snapshot, keepDir);
      await text(exportTar(root, undefined)).catch((error) => expect(error.code).toBe("changed_while_read"));
    }
    expect(countDescriptors()).toBe(before);
  });

  it("may be deeper than any path can say", async () => {
    const { root } = makeScratch();
    let directory = HeldDirectory.open(root)!;
    for (let depth = 0; depth < 300; depth++) {
      fs.mkdirSync(directory.at("d".repeat(50)));
      const next = directory.openDirectory("d".repeat(50))!;
      directory[Symbol.dispose]();
      directory = next;
    }
    directory[Symbol.dispose]();
    const { files, truncated } = await listFiles(root);
    expect([files.length > 50, truncated]).toEqual([true, true]);
  });

  it("may hold names that are not UTF-8: left out, and said so", async () => {
    const { root } = makeScratch({ a: "" });
    fs.writeFileSync(Buffer.concat([Buffer.from(`${root}/`), Buffer.from([0xff, 0xfe])]), "hidden");
    const { files, truncated } = await listFiles(root);
    expect([toWords(files), truncated]).toEqual([["unchanged a"], true]);
  });

  it.runIf(process.getuid?.() === 0)(
    "may be closed to us: what cannot be looked at is not called deleted",
    async () => {
      const { root, keepDir } = makeScratch({ "d/inner": "1\n", f: "2\n" });
      const snapshot = await takeSnapshot(root, keepDir);
      fs.chmodSync(join(root, ".."), 0o755);
      fs.chmodSync(join(root, "d"), 0);
      const asNobody = () => {
        process.seteuid?.(65_534);
        return readChanges(root, snapshot).finally(() => process.seteuid?.(0));
      };
      expect(await asNobody()).toEqual({ files: [], truncated: true });
      fs.chmodSync(root, 0);
      expect(await asNobody()).toEqual({ files: [], truncated: true });
    },
  );
});

function readNaively(root: string, name: string, inner: string): boolean {
  try {
    if (!fs.lstatSync(join(root, name)).isDirectory()) return false;
    return fs.readFileSync(join(root, name, inner), "utf8").includes(SECRET);
  } catch {
    return false;
  }
}

/** A child that turns `file` and `dir` into symlinks to the outside and back, as quickly as it can. */
function startSwapping(root: string): Promise<void> {
  return startProgram(
    `for (const name of ["file", "dir"]) {
       try { fs.renameSync(root + "/real-" + name, root + "/" + name); } catch {}
       try { fs.renameSync(root + "/" + name, root + "/real-" + name); } catch {}
       try { fs.renameSync(root + "/evil-" + name, root + "/" + name); } catch {}
       try { fs.renameSync(root + "/" + name, root + "/evil-" + name); } catch {}
     }`,
    root,
  );
}

async function startProgram(body: string, root: string): Promise<void> {
  const program = `const fs = require("fs"); const root = process.argv[1]; console.log("ready");
    for (let i = 0; ; i++) { ${body} }`;
  const child = spawn(process.execPath, ["-e", program, root], { stdio: ["ignore", "pipe", "inherit"] });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  onTestFinished(async () => {
    child.kill("SIGKILL");
    await ended;
  });
  await new Promise((resolve) => child.stdout.once("data", resolve));
}
