// What every sandbox does, whatever it is made of: one suite over a maker.
import { buffer, json, text } from "node:stream/consumers";
import { extract } from "tar-stream";
import { describe, expect, test } from "vitest";
import type { Sandbox, SandboxProcess } from "../../src/sandboxes/sandbox.ts";
import type { SandboxMaker } from "./open-places.ts";

const README = { path: "docs/readme.md", content: Buffer.from("one\ntwo\n"), executable: false };

/** Starts Node inside on a script; the workspace is its directory. */
export function startNode(sandbox: Sandbox, script: string, ...args: string[]): Promise<SandboxProcess> {
  const env = { PATH: sandbox.paths.path, HOME: sandbox.paths.home };
  return sandbox.start({ program: sandbox.paths.node, args: ["-e", script, ...args], env });
}

export function behavesAsSandbox(maker: SandboxMaker): void {
  describe(maker.name, () => {
    test("tells what a program changed, since the seal and nothing before", async () => {
      await using opened = await maker.open();
      const { sandbox } = opened;
      await sandbox.fill("workspace", [README, { ...README, path: "old.txt" }]);
      await sandbox.seal();
      const started = await startNode(
        sandbox,
        `const fs = require("node:fs");
         fs.writeFileSync("docs/readme.md", "one\\n2\\n"); fs.writeFileSync("new.txt", "new\\n"); fs.rmSync("old.txt");`,
      );
      expect(await started.exited).toEqual({ code: 0, signal: null, oom: false });
      expect(await json(await sandbox.openChanges())).toMatchObject({
        files: [
          { path: "docs/readme.md", change: "modified", kind: "file", size: 6 },
          { path: "new.txt", change: "added", kind: "file", size: 4 },
          { path: "old.txt", change: "deleted" },
        ],
      });
      const diff = await text(await sandbox.openDiff());
      for (const line of ["-two", "+2", "+new", "-one"]) expect(diff.split("\n")).toContain(line);
      expect(await text(await sandbox.openFile("docs/readme.md"))).toBe("one\n2\n");
      expect(await readTar(sandbox)).toEqual({
        "docs/readme.md": "one\n2\n",
        "new.txt": "new\n",
      });
      await expect(sandbox.openFile("old.txt")).rejects.toMatchObject({ code: "not_found" });
    });

    test("takes no file whose path leads out of the workspace", async () => {
      await using opened = await maker.open();
      await expect(
        opened.sandbox.fill("workspace", [{ ...README, path: "../outside.txt" }]),
      ).rejects.toMatchObject({ code: "invalid_request" });
      await opened.sandbox.seal();
      for (const path of ["../outside.txt", "/etc/passwd", "docs/../../x"]) {
        await expect(opened.sandbox.openFile(path)).rejects.toMatchObject({ code: "invalid_request" });
      }
    });

    test("carries a program's input, output, end of input, complaints and exit code", async () => {
      await using opened = await maker.open();
      await opened.sandbox.seal();
      const started = await startNode(
        opened.sandbox,
        `process.stderr.write("a complaint"); process.stdin.on("data", (d) => process.stdout.write(String(d).toUpperCase()));
         process.stdin.on("end", () => { process.exitCode = 7; });`,
      );
      started.stdio.end("hello\n");
      expect(await text(started.stdio)).toBe("HELLO\n");
      expect(await started.exited).toEqual({ code: 7, signal: null, oom: false });
      await expect.poll(() => started.stderrTail()).toBe("a complaint");
    });

    test("tells the signal that ended a program", async () => {
      await using opened = await maker.open();
      await opened.sandbox.seal();
      const started = await startNode(
        opened.sandbox,
        `process.stdout.write("up"); setInterval(() => {}, 1000);`,
      );
      await readOnce(started);
      await started.signal("SIGTERM");
      expect(await started.exited).toEqual({ code: null, signal: "SIGTERM", oom: false });
    });

    test("starts one program and no second", async () => {
      await using opened = await maker.open();
      await opened.sandbox.seal();
      await startNode(opened.sandbox, "");
      await expect(startNode(opened.sandbox, "")).rejects.toMatchObject({ code: "sandbox_lost" });
    });

    test("clears away what a program left running, and says how many", async () => {
      await using opened = await maker.open();
      await opened.sandbox.seal();
      const started = await startNode(
        opened.sandbox,
        `process.stdout.write("up"); setInterval(() => {}, 1000);`,
      );
      await readOnce(started);
      expect(await opened.sandbox.clear()).toBe(1);
      expect(await started.exited).toEqual({ code: null, signal: "SIGKILL", oom: false });
      expect(await opened.sandbox.clear()).toBe(0);
    });

    test("leaves nothing when it is closed, and may be closed twice", async () => {
      await using opened = await maker.open();
      await opened.sandbox.seal();
      await readOnce(
        await startNode(
          opened.sandbox,
          `process.stdout.write("up"); setInterval(() => {}, 1000);`,
          opened.token,
        ),
      );
      expect(await opened.readLeftovers()).not.toEqual([]);
      await Promise.all([opened.sandbox.close(), opened.sandbox.close()]);
      await opened.sandbox.close();
      expect(await opened.readLeftovers()).toEqual([]);
      await expect(opened.sandbox.openFile("x")).rejects.toMatchObject({ code: "sandbox_lost" });
    });

    test("tells that it is lost when its guard is killed, and leaves nothing then either", async () => {
      await using opened = await maker.open();
      await opened.sandbox.seal();
      await readOnce(
        await startNode(
          opened.sandbox,
          `process.stdout.write("up"); setInterval(() => {}, 1000);`,
          opened.token,
        ),
      );
      await opened.killGuard();
      await expect(opened.sandbox.lost).rejects.toMatchObject({ code: "sandbox_lost" });
      await opened.sandbox.close();
      expect(await opened.readLeftovers()).toEqual([]);
    });

    test("never follows a symlink that a program planted, although the program can", async () => {
      await using opened = await maker.open();
      const { sandbox } = opened;
      await sandbox.fill("home", [{ path: "secret.txt", content: Buffer.from("secret"), executable: false }]);
      await sandbox.seal();
      const started = await startNode(
        sandbox,
        `const fs = require("node:fs"); const [home] = process.argv.slice(1);
         fs.symlinkSync(home + "/secret.txt", "link.txt"); fs.symlinkSync(home, "folder");
         process.stdout.write(fs.readFileSync("link.txt", "utf8") + fs.readFileSync("folder/secret.txt", "utf8"));`,
        sandbox.paths.home,
      );
      expect(await text(started.stdio)).toBe("secretsecret"); // the control
      for (const path of ["link.txt", "folder/secret.txt"]) {
        await expect(sandbox.openFile(path)).rejects.toMatchObject({
          code: expect.stringMatching(/not_found|invalid_request/),
        });
      }
      const all = [await sandbox.openChanges(), await sandbox.openDiff(), await sandbox.openTar(1024)];
      for (const said of await Promise.all(all.map((stream) => buffer(stream)))) {
        expect(said.toString("latin1").replaceAll("secret.txt", "")).not.toContain("secret");
      }
    });

    const name = maker.hasReaders
      ? "gives a reader a workspace that nothing inside can write to"
      : "refuses a reader";
    test(name, async () => {
      if (!maker.hasReaders) {
        const refused = { code: "isolation_unavailable" };
        return expect(maker.open({ readOnly: true })).rejects.toMatchObject(refused);
      }
      const script = `try { require("node:fs").writeFileSync("new.txt", "x"); process.stdout.write("written"); }
                      catch (error) { process.stdout.write(error.code); }`;
      await using control = await maker.open();
      await control.sandbox.seal();
      expect(await text((await startNode(control.sandbox, script)).stdio)).toBe("written");
      await using opened = await maker.open({ readOnly: true, files: [README] });
      await opened.sandbox.fill("workspace", [README]);
      await opened.sandbox.seal();
      expect(await text((await startNode(opened.sandbox, script)).stdio)).toBe("EROFS");
      expect(opened.sandbox.receipt.workspace).toBe("read-only");
      expect(await text(await opened.sandbox.openFile(README.path))).toBe("one\ntwo\n");
    });
  });
}

async function readOnce({ stdio }: SandboxProcess): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  stdio.once("data", (bytes) => resolve(String(bytes)));
  return promise;
}

async function readTar(sandbox: Sandbox): Promise<Record<string, string>> {
  const archive = extract();
  (await sandbox.openTar(1024 * 1024)).pipe(archive);
  const found: Record<string, string> = {};
  for await (const entry of archive) {
    const content = await text(entry);
    if (entry.header.type === "file") found[entry.header.name] = content;
  }
  return found;
}
