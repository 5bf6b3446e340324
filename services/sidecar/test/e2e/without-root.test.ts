/** The built program as a user without any right: its own copy, for this clone may not be readable to that user. */
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { RunEvent } from "#contract/event";
import { PROGRAM, type ProgramEnd, runProgram, startProgram } from "../fakes/live-service.ts";
import { openScriptedModel, type ScriptedModel } from "../fakes/scripted-model.ts";
import { toScriptedRequest } from "../fakes/scripted-request.ts";
import { readAllProcesses } from "../fakes/storm-service.ts";

const isRoot = process.getuid?.() === 0;
const NOBODY = 65_534;
const AS_NOBODY = ["setpriv", `--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups", "--"] as const;
const CANARY = "canary-of-the-same-user";

/** What this kernel lets that user do, seen without the product. */
const hasNamespaces =
  isRoot &&
  spawnSync(AS_NOBODY[0], [
    ...AS_NOBODY.slice(1),
    ...["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount", "--net", "--", "true"],
  ]).status === 0;

describe.runIf(isRoot)("as a user without any right", () => {
  let directory: string;
  let home: string;
  let tmp: string;
  let secret: string;
  let command: readonly [string, ...string[]];
  let model: ScriptedModel;

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "pillion-nobody-"));
    chmodSync(directory, 0o755);
    const root = join(dirname(PROGRAM), "..");
    for (const part of ["dist", "config", "skills", "package.json"])
      cpSync(join(root, part), join(directory, part), { recursive: true });
    cpSync(process.execPath, join(directory, "node"));
    [home, tmp] = [toOwn("home"), toOwn("tmp")];
    secret = join(toOwn("home/private"), "secret");
    writeFileSync(secret, CANARY, { mode: 0o600 });
    chownSync(secret, NOBODY, NOBODY);
    command = [...AS_NOBODY, join(directory, "node"), join(directory, "dist/pillion.mjs")];
    model = await openScriptedModel({});
  });
  afterAll(async () => {
    await model[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true, force: true });
  });

  function toOwn(name: string): string {
    const path = join(directory, name);
    mkdirSync(path, { mode: 0o700 });
    chownSync(path, NOBODY, NOBODY);
    return path;
  }

  function toOptions() {
    const env = {
      HOME: home,
      PILLION_ALLOWED_PROGRAMS: "bash",
      PILLION_PRIVATE_TARGETS: model.url,
      PILLION_WORKSPACE_ROOTS: directory,
    };
    return { command, tmp, env };
  }

  const run = (args: readonly string[], stdin = ""): Promise<ProgramEnd> =>
    runProgram(["run", "--json", ...args], { ...toOptions(), stdin });

  function startRun(fields: object) {
    const running = startProgram(["run"], toOptions());
    running.child.stdin.end(JSON.stringify(toScriptedRequest(model, { fields })));
    return running;
  }

  if (!hasNamespaces) {
    test.each([
      ["the demo", ["--demo"]],
      ["a reader", ["--demo", "--role", "reader"]],
    ])("%s is refused, for this kernel gives that user no namespaces", async (_what, args) => {
      const end = await run(args);
      expect({ code: end.code, problem: JSON.parse(end.stdout) }).toMatchObject({
        code: 125,
        problem: {
          status: 503,
          code: "isolation_unavailable",
          detail: expect.stringContaining("user namespaces"),
        },
      });
      expect(readdirSync(tmp)).toEqual([]);
    });
    return;
  }

  test.each([
    ["worker", "read-write"],
    ["reader", "read-only"],
  ])(
    "a %s's demo runs in a user namespace, and its receipt says what that one does not protect from",
    async (role, access) => {
      const end = await run(["--demo", "--role", role]);
      expect(end.code, end.stderr).toBe(0);
      const { outcome, demo, receipt, stop } = JSON.parse(end.stdout);
      expect({ outcome, demo, receipt, stop }).toEqual({
        outcome: "succeeded",
        demo: true,
        receipt: toReceipt(access),
        stop: { method: "graceful", verified: true, ms: expect.any(Number) },
      });
      expect(readdirSync(tmp)).toEqual([]);
    },
  );

  test.each([
    ["reader", "ro", "path"],
    ["reader", "ro", "empty"],
    ["worker", "rw", "path"], // the controls
    ["worker", "rw", "empty"],
  ])("a %s's workspace is mounted %s, of kind %s", async (role, access, kind) => {
    model.reset({ script: [{ fail: "hang" }] });
    const workspace = kind === "path" ? { kind, path: toOwn(`directory-of-${role}`) } : { kind };
    const running = startRun({ role, workspace });
    await vi.waitFor(() => expect(model.requests).toHaveLength(1), 15_000);
    expect(readWorkspaceAccess(running.child.pid ?? 0)).toEqual([access]);
    running.child.kill("SIGTERM");
    expect(await running.ended).toEqual({ code: 130, signal: null });
  });

  test("what the same user has elsewhere cannot be seen inside; outside it can (control)", async () => {
    const look = `cat ${secret}; ls -A ${home} ${directory}; id -u; echo looked`;
    const [file, ...args] = [...AS_NOBODY, "bash", "-c", look];
    const outside = spawnSync(file, args, { encoding: "utf8" }).stdout;
    expect(outside).toContain(CANARY);
    expect(outside).toContain("private\n");

    model.reset({
      script: [{ toolCalls: [{ name: "bash", arguments: { command: look } }] }, { text: "Done." }],
    });
    const fields = { execution: { allowedPrograms: ["bash"] } };
    const end = await run(["--stream"], JSON.stringify(toScriptedRequest(model, { fields })));
    expect(end.code, end.stderr).toBe(0);
    expect(end.stdout).not.toContain(CANARY);
    const said = toEvents(end.stdout).flatMap((event) => (event.type === "tool.result" ? [event.text] : []));
    expect(said).toEqual([expect.stringMatching(/^cat: .*No such file or directory\n/)]);
    expect(said[0]?.split("\n").filter((line) => !/^(cat|ls): /.test(line))).toEqual(["0", "looked", ""]);
    expect(readdirSync(tmp)).toEqual([]);
  });

  test("a run that is cancelled leaves no process, not even one that fled, and no directory", async () => {
    const mark = `${61 + process.pid / 1e7}`;
    const tree = `setsid sleep ${mark} </dev/null >/dev/null 2>&1 & ( ( sleep ${mark} & ) & ) >/dev/null 2>&1`;
    const readTree = () => readAllProcesses().filter(({ commandLine }) => commandLine === `sleep ${mark} `);
    model.reset({
      script: [{ toolCalls: [{ name: "bash", arguments: { command: tree } }] }, { fail: "hang" }],
    });
    const running = startRun({ execution: { allowedPrograms: ["bash"] } });
    await vi.waitFor(() => expect(model.requests).toHaveLength(2), 15_000);
    expect(readTree()).toHaveLength(2); // the control: they are seen while they live
    expect(readdirSync(tmp)).toEqual([expect.stringMatching(/^pillion-run-/)]);

    running.child.kill("SIGTERM");
    expect(await running.ended).toEqual({ code: 130, signal: null });
    expect(readTree()).toEqual([]);
    expect(readdirSync(tmp)).toEqual([]);
  });
});

function toReceipt(workspace: string) {
  return {
    kind: "local",
    isolated: true,
    requested: { kind: "auto", network: "none" },
    namespaces: ["pid", "mnt", "ipc", "net", "uts", "user"],
    network: "none",
    egressEnforced: true,
    user: { uid: 0, gid: 0 }, // as seen inside: outside it is the service's own user
    capabilities: [],
    noNewPrivileges: true,
    readOnlySystem: true,
    workspace,
    limits: { workspaceBytes: expect.any(Number) },
    missing: [
      "memory and cpu limits (a local sandbox has none)",
      "a seccomp filter",
      "guard and harness closed to the run's own other processes",
      "a pids limit",
      "a user other than the service's own",
    ],
    harness: { extensionSha256: expect.stringMatching(/^[0-9a-f]{64}$/) },
  };
}

/** The events among the lines that a streamed run printed; the last line is the run. */
function toEvents(stdout: string): RunEvent[] {
  const lines = stdout.trimEnd().split("\n").slice(0, -1);
  return lines.map((line) => RunEvent.parse(JSON.parse(line)));
}

/** How the workspace is mounted for those of a program's descendants that have one, each way once. */
function readWorkspaceAccess(pid: number): string[] {
  const all = readAllProcesses();
  const family = new Set([pid]);
  for (let size = 0; size !== family.size; ) {
    size = family.size;
    for (const seen of all) if (family.has(seen.ppid)) family.add(seen.pid);
  }
  const ways = [...family].flatMap((member) => {
    const lines = readFileSync(`/proc/${member}/mountinfo`, "utf8").split("\n");
    const mount = lines.map((line) => line.split(" ")).find((fields) => fields[4] === "/workspace");
    return mount?.[5]?.split(",")[0] ?? [];
  });
  return [...new Set(ways)];
}
