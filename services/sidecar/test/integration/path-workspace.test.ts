// A caller's own directory as workspace: mounted as it was checked, with its owner's identity, and nothing of root's.
import {
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { json } from "node:stream/consumers";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { openBoundWorkspace } from "../../src/sandboxes/bound-directory.ts";
import { LOCAL, type SandboxWishes } from "../behaviours/open-places.ts";
import { startNode } from "../behaviours/sandbox-behaviour.ts";

const isRoot = process.getuid?.() === 0;
const OWNER = { uid: 31_337, gid: 31_338 };

let root: string;
let workspace: string;

beforeEach(() => {
  root = realpathSync(mkdtempSync(join(tmpdir(), "pillion-path-")));
  workspace = toDirectory("project", OWNER.uid, OWNER.gid);
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function toDirectory(name: string, uid: number, gid: number): string {
  const path = join(root, name);
  mkdirSync(path);
  writeFileSync(join(path, "name.txt"), name);
  chownSync(join(path, "name.txt"), uid, gid);
  chownSync(path, uid, gid);
  return path;
}

const SCRIPT = `
  const fs = require("node:fs");
  const attempt = (work) => { try { return work() ?? "done"; } catch (error) { return error.code; } };
  const row = fs.readFileSync("/proc/self/mountinfo", "utf8").split("\\n").find((line) => line.split(" ")[4] === "/workspace");
  process.stdout.write(JSON.stringify({
    name: attempt(() => fs.readFileSync("name.txt", "utf8")),
    write: attempt(() => fs.writeFileSync("new.txt", "new")),
    flags: row.split(" ")[5].split(",").filter((flag) => !flag.endsWith("atime")).sort(),
    user: [process.getuid(), process.getgid()],
  }));`;

async function look(wishes: SandboxWishes = {}) {
  await using opened = await LOCAL.open({ path: workspace, ...wishes });
  await opened.sandbox.seal();
  return {
    inside: await json((await startNode(opened.sandbox, SCRIPT)).stdio),
    receipt: opened.sandbox.receipt,
  };
}

describe.runIf(isRoot)("a caller's own directory", () => {
  test("is written to as its owner, and what is written stays with that owner", async () => {
    const { inside, receipt } = await look();
    const user = [OWNER.uid, OWNER.gid];
    expect(inside).toEqual({
      name: "project",
      write: "done",
      flags: ["nodev", "noexec", "nosuid", "rw"],
      user,
    });
    expect(receipt).toMatchObject({ workspace: "read-write", user: OWNER });
    const { uid, gid } = statSync(join(workspace, "new.txt"));
    expect([uid, gid]).toEqual(user);
  });

  test("can be run from where a shell is allowed, and still holds no device or setuid program", async () => {
    expect(await look({ executable: true })).toMatchObject({ inside: { flags: ["nodev", "nosuid", "rw"] } });
  });

  test("is read-only for a reader", async () => {
    const { inside, receipt } = await look({ readOnly: true });
    expect(inside).toMatchObject({
      name: "project",
      write: "EROFS",
      flags: ["nodev", "noexec", "nosuid", "ro"],
    });
    expect(receipt).toMatchObject({ workspace: "read-only", user: OWNER });
    expect(readdirSync(workspace)).toEqual(["name.txt"]);
  });

  test.each([
    ["root", 0, OWNER.gid],
    ["root's group", OWNER.uid, 0],
  ])("of %s is refused", async (whose, uid, gid) => {
    const path = toDirectory("roots", uid, gid);
    const detail = `belongs to ${whose}`;
    await expect(look({ path })).rejects.toMatchObject({
      code: "forbidden",
      message: expect.stringContaining(detail),
    });
    expect(existsSync(join(path, "new.txt"))).toBe(false);
  });

  test("that became a link since it was checked is refused", async () => {
    const other = toDirectory("other", OWNER.uid, OWNER.gid);
    renameSync(workspace, `${workspace}-moved`);
    symlinkSync(other, workspace);
    await expect(look()).rejects.toMatchObject({ code: "forbidden" });
    // The control: under its own name it is taken.
    expect(await look({ path: other })).toMatchObject({ inside: { name: "other" } });
  });

  test("whose parent became a link since it was checked is refused", async () => {
    mkdirSync(join(root, "parent/inner"), { recursive: true });
    mkdirSync(join(root, "elsewhere/inner"), { recursive: true });
    renameSync(join(root, "parent"), join(root, "parent-moved"));
    symlinkSync(join(root, "elsewhere"), join(root, "parent"));
    await expect(look({ path: join(root, "parent/inner") })).rejects.toMatchObject({ code: "forbidden" });
  });

  test("is held from its check to its mount, whatever gets its name in between", async () => {
    await using bound = await openBoundWorkspace(workspace, true);
    renameSync(workspace, `${workspace}-moved`);
    toDirectory("project", OWNER.uid, OWNER.gid);
    writeFileSync(join(workspace, "name.txt"), "impostor");
    expect(readFileSync(join(workspace, "name.txt"), "utf8")).toBe("impostor");
    expect(readFileSync(join(bound.cwd, "name.txt"), "utf8")).toBe("project");
  });
});

describe.runIf(isRoot)("a secret file in a system directory", () => {
  test("is not to be read inside, though its neighbours are", async () => {
    const file = "/usr/local/share/pillion-test-key";
    writeFileSync(file, "canary", { mode: 0o644 });
    const script = `process.stdout.write(JSON.stringify(require("node:fs").readFileSync(${JSON.stringify(file)}, "utf8")));`;
    const read = async (hidden: string[]): Promise<unknown> => {
      await using opened = await LOCAL.open({ hidden });
      await opened.sandbox.seal();
      return await json((await startNode(opened.sandbox, script)).stdio);
    };
    try {
      expect(await read([file])).toBe("");
      expect(await read([])).toBe("canary"); // the control
    } finally {
      rmSync(file);
    }
  });
});
