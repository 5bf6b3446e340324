// The pipe's other end may have been taken over: what it says is bounded and parsed, and costs the run, never the sidecar.

import { once } from "node:events";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { ResultStore } from "../../src/runs/result-store.ts";
import { openSandbox } from "../../src/sandboxes/open-sandbox.ts";
import type { Sandbox } from "../../src/sandboxes/sandbox.ts";
import { toSpec } from "../behaviours/open-places.ts";
import { HELLO, HostileGuard, type HostileScript, sending } from "../fakes/hostile-guard.ts";

const MiB = 1024 * 1024;

function open(
  guard: HostileGuard,
  acceptDoor: (connection: Duplex) => void = () => undefined,
): Promise<Sandbox> {
  return openSandbox(guard, toSpec("run_1"), acceptDoor, AbortSignal.timeout(20_000));
}

describe("a guard that never becomes one", () => {
  test.each<[string, HostileScript]>([
    ["that is not HTTP/2", { raw: (pipe) => void pipe.write("SSH-2.0-OpenSSH_9.2\r\n".repeat(10)) }],
    ["that closes at once, before it read anything", { raw: (pipe) => void pipe.destroy() }],
    ["whose hello is no JSON", { hello: (control) => void control.write("hello\n") }],
    [
      "whose hello lacks what it saw",
      { hello: (control) => void control.write('{"kind":"hello","doorPort":9}\n') },
    ],
    [
      "whose door is no port",
      { hello: (control) => void control.write(HELLO.replace('"doorPort":9', '"doorPort":0')) },
    ],
    ["whose hello never ends", { hello: (control) => void control.write("x".repeat(2 * MiB)) }],
    ["who leaves without a hello", { hello: (_control, session) => session.destroy() }],
  ])("%s is refused, long before its time is up", async (_name, script) => {
    const startedAt = performance.now();
    const refused = expect.stringMatching(/^(isolation_unavailable|sandbox_lost)$/);
    await expect(open(new HostileGuard(script))).rejects.toMatchObject({ code: refused });
    expect(performance.now() - startedAt).toBeLessThan(5_000);
  });
});

describe("a guard that was taken over", () => {
  test.each<[string, string]>([
    ["no JSON", "nonsense\n"],
    ["no notice", '{"kind":"run.ended"}\n'],
    ["an exit of a wrong shape", '{"kind":"exited","code":"0","signal":null}\n'],
    ["an endless line", "x".repeat(2 * MiB)],
  ])("and says %s loses its sandbox", async (_what, said) => {
    const guard = new HostileGuard({
      answers: {
        snapshot: (_command, { session }) => void session,
        clear: (_command, own) => own.openStream("/door"),
      },
      hello: (control) => {
        control.write(HELLO);
        setTimeout(() => control.write(said), 50);
      },
    });
    await using sandbox = await open(guard);
    await expect(sandbox.lost).rejects.toMatchObject({ code: "sandbox_lost" });
  });

  test("cannot answer what nobody asked, open a second control, or streams that nobody waits for", async () => {
    const closed: string[] = [];
    const guard = new HostileGuard({
      answers: {
        fill: ({ id }, own) => {
          for (const path of ["/control", "/data?id=77", "/fill?id=77", "/data", "/nowhere", "/data?id=-1"])
            own.openStream(path).once("close", () => closed.push(path));
          own.tell({ kind: "done", id: 4711, value: "unasked" });
          own.tell({ kind: "failed", id: 4712, code: "x", message: "unasked" });
          setTimeout(() => own.tell({ kind: "done", id }), 100);
        },
      },
    });
    await using sandbox = await open(guard);
    await sandbox.fill("workspace", [{ path: "a", content: Buffer.from("a"), executable: false }]);
    expect(closed.toSorted()).toEqual([
      "/control",
      "/data",
      "/data?id=-1",
      "/data?id=77",
      "/fill?id=77",
      "/nowhere",
    ]);
    expect(await sandbox.clear()).toBe(0);
  });

  test("cannot hold up the harness by what it sends elsewhere", async () => {
    const guard = new HostileGuard({});
    await using sandbox = await open(guard, (connection) => void connection.pause());
    for (let count = 0; count < 60; count += 1) guard.openStream("/door").write(Buffer.alloc(2 * MiB));
    await sleep(500);
    const started = sandbox.start({ program: "x", args: [], env: {} });
    guard.openStream("/stderr");
    guard.openStream("/stdio").write("still heard\n");
    const { stdio } = await started;
    expect(String((await once(stdio, "data"))[0])).toBe("still heard\n");
  });

  test("can make the sidecar hold only so much that nobody reads", async () => {
    const guard = new HostileGuard({});
    const held: Duplex[] = [];
    await using _sandbox = await open(guard, (connection) => {
      connection.pause();
      held.push(connection);
    });
    for (let count = 0; count < 300; count += 1) {
      const stream = guard.openStream("/door");
      for (let piece = 0; piece < 32; piece += 1) stream.write(Buffer.alloc(256 * 1024));
    }
    await sleep(1_500);
    expect(held.length).toBeLessThanOrEqual(64);
    const received = held.reduce((sum, connection) => sum + connection.readableLength, 0);
    expect(received / MiB).toBeGreaterThan(8); // the probe does fill what it may
    expect(received / MiB).toBeLessThanOrEqual(17);
  });
});

describe("results of a guard that was taken over", () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "pillion-hostile-"));
  });
  afterEach(() => rmSync(directory, { recursive: true, force: true }));

  const toList = (files: object[]) => JSON.stringify({ files, truncated: false });
  const file = {
    path: "a.txt",
    change: "added",
    kind: "file",
    size: 1,
    executable: false,
    sha256: "0".repeat(64),
  };
  const honest = {
    changes: sending(toList([file])),
    diff: sending("+a\n"),
    tar: sending(Buffer.alloc(1024)),
  };

  async function keep(answers: NonNullable<HostileScript["answers"]>): Promise<unknown> {
    await using sandbox = await open(new HostileGuard({ answers }));
    return await new ResultStore(directory, MiB).keep("run_1", sandbox);
  }

  test("are kept where they are as they should be (control)", async () => {
    await keep(honest);
    expect(readdirSync(join(directory, "run_1")).toSorted()).toEqual([
      "diff.patch",
      "files.json",
      "files.tar",
    ]);
  });

  test.each<[string, NonNullable<HostileScript["answers"]>]>([
    ["a list that is no JSON", { ...honest, changes: sending("nonsense") }],
    ["a list of another shape", { ...honest, changes: sending('{"files":{}}') }],
    ["a path that leads out", { ...honest, changes: sending(toList([{ ...file, path: "../../a" }])) }],
    ["an absolute path", { ...honest, changes: sending(toList([{ ...file, path: "/etc/passwd" }])) }],
    ["a path with a zero byte", { ...honest, changes: sending(toList([{ ...file, path: "a\0b" }])) }],
    ["a list without end", { ...honest, changes: sending("[", ...Array(40).fill(Buffer.alloc(MiB, 32))) }],
  ])("are not kept at all with %s", async (_what, answers) => {
    await expect(keep(answers)).rejects.toThrow();
    expect(readdirSync(directory)).toEqual([]);
  });

  test.each<[string, NonNullable<HostileScript["answers"]>, string[]]>([
    [
      "a diff without end",
      { ...honest, diff: sending(...Array(20).fill(Buffer.alloc(MiB, 43))) },
      ["files.json", "files.tar"],
    ],
    [
      "a diff that is refused",
      { ...honest, diff: ({ id }, own) => own.tell({ kind: "failed", id, code: "boom", message: "no" }) },
      ["files.json", "files.tar"],
    ],
    [
      "contents without end",
      { ...honest, tar: sending(...Array(5).fill(Buffer.alloc(MiB))) },
      ["diff.patch", "files.json"],
    ],
    [
      "contents that break off",
      { ...honest, tar: ({ id }, own) => void own.openStream(`/data?id=${id}`).close(2) },
      ["diff.patch", "files.json"],
    ],
  ])("are kept but for what cannot be had: %s", async (_what, answers, left) => {
    expect(await keep(answers)).toEqual([
      { text: expect.stringMatching(/could not be kept\.$/), cause: expect.any(Error) },
    ]);
    expect(readdirSync(join(directory, "run_1")).toSorted()).toEqual(left);
  });

  test("are kept but for files that are too large together, and these are marked and told", async () => {
    const files = [file, { ...file, path: "big", size: 2 * MiB }, { ...file, path: "c.txt" }];
    const unkept = await keep({ ...honest, changes: sending(toList(files)) });
    expect(unkept).toEqual([
      { text: `1 changed files were too large to be kept (more than ${MiB} bytes together).` },
    ]);
    const results = new ResultStore(directory, MiB);
    const { files: listed } = await results.readChanges("run_1");
    expect(listed.map(({ path, kept }) => [path, kept])).toEqual([
      ["a.txt", undefined],
      ["big", false],
      ["c.txt", undefined],
    ]);
    await expect(results.openFile("run_1", "big")).rejects.toMatchObject({
      code: "not_found",
      message: "This file was too large to be kept.",
    });
  });
});
