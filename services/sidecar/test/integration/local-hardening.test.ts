// What a local sandbox closes beyond files and network: the kernel's keyrings, further namespaces, other instances' users.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { describe, expect, onTestFinished, test } from "vitest";
import { IdentityPool } from "../../src/sandboxes/local/identity.ts";
import { LOCAL } from "../behaviours/open-places.ts";
import { startNode } from "../behaviours/sandbox-behaviour.ts";

const isRoot = process.getuid?.() === 0;

/** Runs a program inside a fresh sandbox, seen through Node; says its exit code and output. */
async function runInside(command: string, args: string[]): Promise<{ status: number; out: string }> {
  await using opened = await LOCAL.open({ executable: true });
  await opened.sandbox.seal();
  const script = `const { status, stdout, stderr } = require("node:child_process").spawnSync(process.argv[1], process.argv.slice(2),
    { encoding: "utf8" }); process.stdout.write(JSON.stringify({ status, out: stdout + stderr }));`;
  const started = await startNode(opened.sandbox, script, command, ...args);
  const said = await text(started.stdio);
  return JSON.parse(said);
}

const NUMBERS = process.arch === "arm64" ? { add: 217, keyctl: 219 } : { add: 248, keyctl: 250 };
const [USER_KEYRING, SESSION_KEYRING] = [-4, -3];

const NAMES = `my ($type, $name, $value) = ("user", "pillion-canary", "hello");`;

/** perl's way to the key calls: stores a key, or looks for it, and prints what came of it. */
function toStoring(ring: number): string[] {
  return [
    "-e",
    `${NAMES} print syscall(${NUMBERS.add}, $type, $name, $value, 5, ${ring}) > 0 ? "stored" : "no: $!"`,
  ];
}
function toLooking(ring: number): string[] {
  return [
    "-e",
    `${NAMES} print syscall(${NUMBERS.keyctl}, 10, ${ring}, $type, $name, 0) > 0 ? "found" : "no: $!"`,
  ];
}

/** The same on this machine without a sandbox, as the user that sandboxes of the test have. */
function runOutside(args: string[], before: string[] = []): string {
  const user = ["--reuid=251000", "--regid=251000", "--clear-groups"];
  const { stdout, stderr } = spawnSync("setpriv", [...user, ...before, "perl", ...args], {
    encoding: "utf8",
  });
  return stdout + stderr;
}

describe.runIf(isRoot)("the kernel's keyrings", () => {
  test("of one run are not there for the next one, though it may have the same user", async () => {
    onTestFinished(() => void runOutside(["-e", `syscall(${NUMBERS.keyctl}, 7, ${USER_KEYRING})`]));
    expect(await runInside("perl", toStoring(USER_KEYRING))).toEqual({ status: 0, out: "stored" });
    expect((await runInside("perl", toLooking(USER_KEYRING))).out).toMatch(/^no: /);
    // The control: without a sandbox the next process of that user finds it.
    expect(runOutside(toStoring(USER_KEYRING))).toBe("stored");
    expect(runOutside(toLooking(USER_KEYRING))).toBe("found");
    expect((await runInside("perl", toLooking(USER_KEYRING))).out).toMatch(/^no: /);
  });

  test("of the service's own session are not there inside", async () => {
    const folder = mkdtempSync(join(tmpdir(), "pillion-keyring-"));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    const look = JSON.stringify(toLooking(SESSION_KEYRING));
    const behaviours = JSON.stringify(join(import.meta.dirname, "../behaviours"));
    // A service in a session of its own that holds a key: it looks for the key itself, then has a sandbox look for it.
    const service = `
      import { spawnSync } from "node:child_process";
      import { text } from "node:stream/consumers";
      const { LOCAL } = await import(${behaviours} + "/open-places.ts");
      const { startNode } = await import(${behaviours} + "/sandbox-behaviour.ts");
      const control = spawnSync("perl", ${look}, { encoding: "utf8" }).stdout;
      await using opened = await LOCAL.open({ executable: true });
      await opened.sandbox.seal();
      const script = 'process.stdout.write(require("node:child_process").spawnSync("perl", ' + ${JSON.stringify(look)} + ').stdout)';
      const inside = await text((await startNode(opened.sandbox, script)).stdio);
      process.stdout.write(JSON.stringify({ control, inside }));`;
    writeFileSync(join(folder, "service.mts"), service);
    const session = `${NAMES} syscall(${NUMBERS.keyctl}, 1, 0); syscall(${NUMBERS.add}, $type, $name, $value, 5, ${SESSION_KEYRING});
      exec @ARGV;`;
    const args = ["-e", session, process.execPath, join(folder, "service.mts")];
    const { stdout, stderr } = spawnSync("perl", args, { encoding: "utf8" });
    expect(stdout, stderr).not.toBe("");
    expect(JSON.parse(stdout)).toEqual({ control: "found", inside: expect.stringMatching(/^no: /) });
  });
});

describe.runIf(isRoot)("namespaces", () => {
  test.each([["--user"], ["--user", "--map-root-user", "--mount"], ["--user", "--net"]])(
    "cannot be made inside: unshare %s %s %s",
    async (...flags) => {
      const args = [...flags.filter(Boolean), "true"];
      expect(await runInside("unshare", args)).toEqual({
        status: 1,
        out: expect.stringContaining("unshare failed"),
      });
      expect(spawnSync("unshare", args).status).toBe(0); // the control
    },
  );

  test("include a user namespace of its own, in which only the run's user exists", async () => {
    const map = (await runInside("cat", ["/proc/self/uid_map"])).out.trim().split(/\s+/);
    expect(map).toEqual(["251000", "251000", "1"]);
  });
});

test("two instances on one machine never give the same user to two runs at once", async () => {
  const [one, other] = [new IdentityPool(253_000), new IdentityPool(253_000)];
  const taken = await Promise.all([one.take(), other.take(), one.take(), other.take()]);
  expect(taken.map(({ uid }) => uid).toSorted()).toEqual([253_000, 253_001, 253_002, 253_003]);
  for (const { release } of taken) release();
  await new Promise((resolve) => setImmediate(resolve));
  const again = await other.take();
  expect(again.uid).toBe(253_000);
  again.release();
});
