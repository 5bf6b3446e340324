/** A temporary directory with a workspace in it, gone with the test, and plain words for what a tree holds. */
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { onTestFinished } from "vitest";

/** Path to content; `dir:` makes a directory, `link:target` a symlink, `fifo:` a FIFO, `x:content` an executable. */
export type Tree = Record<string, string | Buffer>;

export interface Scratch {
  readonly root: string;
  readonly keepDir: string;
  /** Beside the workspace: what an escape would reach. */
  readonly outside: string;
}

export function makeScratch(tree: Tree = {}): Scratch {
  const base = fs.mkdtempSync(join(tmpdir(), "workspace-"));
  onTestFinished(() => fs.rmSync(base, { recursive: true, force: true }));
  const scratch = { root: join(base, "work"), keepDir: join(base, "keep"), outside: join(base, "outside") };
  fs.mkdirSync(scratch.root);
  fs.mkdirSync(scratch.outside);
  fs.writeFileSync(join(scratch.outside, "secret.txt"), "the secret\n");
  writeTree(scratch.root, tree);
  return scratch;
}

export function writeTree(root: string, tree: Tree): void {
  for (const [path, content] of Object.entries(tree)) {
    const full = join(root, path);
    fs.mkdirSync(dirname(full), { recursive: true });
    const text = content.toString();
    if (text === "dir:") fs.mkdirSync(full, { recursive: true });
    else if (text === "fifo:") execFileSync("mkfifo", [full]);
    else if (text.startsWith("link:")) fs.symlinkSync(text.slice(5), full);
    else fs.writeFileSync(full, text.startsWith("x:") ? text.slice(2) : content);
    if (text.startsWith("x:")) fs.chmodSync(full, 0o755);
  }
}

/** The inverse of `writeTree` for files and symlinks; directories are left out. */
export function readTree(root: string): Tree {
  const tree: Tree = {};
  const names = fs.readdirSync(root, { recursive: true, withFileTypes: true });
  for (const entry of names.filter((entry) => !entry.isDirectory())) {
    const full = join(entry.parentPath, entry.name);
    const path = full.slice(root.length + 1);
    if (path.startsWith(".git/")) continue;
    if (entry.isSymbolicLink()) tree[path] = `link:${fs.readlinkSync(full)}`;
    else tree[path] = (fs.statSync(full).mode & 0o100 ? "x:" : "") + fs.readFileSync(full, "utf8");
  }
  return Object.fromEntries(Object.entries(tree).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** `change path` for each. */
export function toWords(files: readonly { change: string; path: string }[]): string[] {
  return files.map(({ change, path }) => `${change} ${path}`);
}

/** How many descriptors this process holds. */
export function countDescriptors(): number {
  return fs.readdirSync("/proc/self/fd").length;
}
