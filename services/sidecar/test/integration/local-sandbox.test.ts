import { spawn, spawnSync } from "node:child_process";
import {
  accessSync,
  chmodSync,
  constants,
  cpSync,
  existsSync,
  mkdtempSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { hostname, networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { describe, expect, onTestFinished, test } from "vitest";
import { LOCAL, PRODUCT_DIR, type SandboxWishes } from "../behaviours/open-places.ts";
import { startNode } from "../behaviours/sandbox-behaviour.ts";

const isRoot = process.getuid?.() === 0;

/** Runs a script inside a fresh sandbox; its `say(value)` is what comes back. */
async function probe(script: string, args: string[] = [], wishes: SandboxWishes = {}): Promise<unknown> {
  await using opened = await LOCAL.open(wishes);
  await opened.sandbox.seal();
  const started = await startNode(opened.sandbox, `${PRELUDE}\n${script}`, ...args);
  const said = await text(started.stdio);
  if (said === "") throw new Error(`the probe said nothing: ${started.stderrTail()}`);
  return JSON.parse(said);
}

/** The same script on this machine, without a sandbox. */
function control(script: string, args: string[] = []): unknown {
  const { stdout, stderr } = spawnSync(process.execPath, ["-e", `${PRELUDE}\n${script}`, ...args], {
    encoding: "utf8",
  });
  if (stdout === "") throw new Error(`the control said nothing: ${stderr}`);
  return JSON.parse(stdout);
}

const PRELUDE = `
  const fs = require("node:fs"), os = require("node:os"), { spawnSync, spawn } = require("node:child_process");
  const say = (value) => process.stdout.write(JSON.stringify(value));
  const attempt = (work) => { try { work(); return "done"; } catch (error) { return error.code ?? error.message; } };
  const status = (pid) => Object.fromEntries(fs.readFileSync("/proc/" + pid + "/status", "utf8").split("\\n")
    .map((line) => line.split(/:\\s+/)).filter(([key]) => key));
`;

describe.runIf(isRoot)("inside a local sandbox", () => {
  test("a run is another user, in no group of ours, without any capability and without new privileges", async () => {
    const script = `const { Uid, Groups, CapEff, CapPrm, CapBnd, CapInh, CapAmb, NoNewPrivs } = status("self");
      say({ uid: Uid.split("\\t"), groups: (Groups ?? "").trim(), caps: [CapEff, CapPrm, CapBnd, CapInh, CapAmb], NoNewPrivs });`;
    const none = "0000000000000000";
    expect(await probe(script)).toEqual({
      uid: Array(4).fill("251000"),
      groups: "",
      caps: Array(5).fill(none),
      NoNewPrivs: "1",
    });
    expect(control(script)).toMatchObject({
      uid: Array(4).fill("0"),
      caps: expect.not.arrayContaining([[none]]),
    });
    expect((control(script) as { caps: string[] }).caps[0]).not.toBe(none);
  });

  test("there is no network but loopback, and the machine's own listeners are out of reach", async () => {
    const server = createServer((socket) => socket.end("hello")).listen(0, "127.0.0.1");
    onTestFinished(() => void server.close());
    await new Promise((resolve) => server.once("listening", resolve));
    const { port } = server.address() as { port: number };
    const script = `const socket = require("node:net").connect({ host: "127.0.0.1", port: Number(process.argv[1]) });
      const end = (how) => { say({ how, names: Object.keys(os.networkInterfaces()) }); process.exit(); };
      socket.once("data", () => end("reached")); socket.once("error", (error) => end(error.code));`;
    expect(await probe(script, [String(port)])).toEqual({ how: "ECONNREFUSED", names: ["lo"] });
    const outside = spawn(process.execPath, ["-e", `${PRELUDE}\n${script}`, String(port)]);
    expect(JSON.parse(await text(outside.stdout))).toEqual({
      how: "reached",
      names: Object.keys(networkInterfaces()),
    });
  });

  test("only the run's own processes are to be seen", async () => {
    const script = `const pids = fs.readdirSync("/proc").filter((name) => /^\\d+$/.test(name));
      say({ self: process.pid, names: pids.map((pid) => { try { return fs.readFileSync("/proc/" + pid + "/comm", "utf8").trim(); }
      catch { return "gone"; } }) });`;
    const inside = (await probe(script)) as { self: number; names: string[] };

    expect(inside.names.toSorted()).toEqual(["MainThread", "MainThread", "bash"]);
    expect((control(script) as { self: number }).self).toBeGreaterThan(inside.self);
  });

  test("what is the machine's is absent", async () => {
    const canary = mkdtempSync(join(tmpdir(), "pillion-canary-"));
    onTestFinished(() => rmSync(canary, { recursive: true }));
    writeFileSync(join(canary, "key"), "canary");
    const paths = [
      "/root",
      canary,
      join(canary, "key"),
      "/etc/shadow",
      "/etc/ssh",
      "/var",
      "/run",
      "/boot",
      "/srv",
      "/sys",
    ];
    const script = `say({ found: process.argv.slice(1).filter((path) => fs.existsSync(path)), home: fs.readdirSync("/home"),
      top: fs.readdirSync("/"), temp: fs.readdirSync("/tmp").filter((name) => !name.startsWith(".pillion")) });`;
    const sockets = ["/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock"];
    const inside = (await probe(script, [...paths, ...sockets])) as {
      found: string[];
      home: string[];
      temp: string[];
    };
    expect(inside).toMatchObject({ found: [], home: ["agent"], temp: [] });
    expect((control(script, paths) as { found: string[] }).found).toEqual(paths.filter(existsSync));
    expect(existsSync("/etc/shadow")).toBe(true);
  });

  test("system directories, the product and the root cannot be written to; home, temp and workspace can", async () => {
    const script = `say(process.argv.slice(1).map((folder) => attempt(() => { fs.writeFileSync(folder + "/pillion-probe", "x");
      fs.rmSync(folder + "/pillion-probe"); })));`;
    const closed = ["/usr", "/usr/bin", "/opt/pillion", "/", "/etc", "/dev"];
    const refused = (await probe(script, closed)) as string[];
    expect(refused.map((code) => ["EROFS", "EACCES", "EPERM"].includes(code))).toEqual(
      closed.map(() => true),
    );
    expect(await probe(script, ["/workspace", "/home/agent", "/tmp"])).toEqual(["done", "done", "done"]);
    expect(control(script, ["/usr"])).toEqual(["done"]);
  });

  test("nothing in the workspace, home or temp can be executed unless the run may execute", async () => {
    const script = `say(["/workspace", "/home/agent", "/tmp", "/dev/shm"].map((folder) => { const file = folder + "/program";
      fs.writeFileSync(file, "#!/bin/sh\\necho ran\\n", { mode: 0o755 });
      const { error, stdout } = spawnSync(file, [], { encoding: "utf8" }); return error?.code ?? stdout.trim(); }));`;
    expect(await probe(script)).toEqual(["EACCES", "EACCES", "EACCES", "EACCES"]);
    expect(await probe(script, [], { executable: true })).toEqual(["ran", "ran", "ran", "EACCES"]);
  });

  test("the workspace takes exactly as many bytes as it may hold", async () => {
    const mebibyte = 1024 * 1024;
    const script = `const file = fs.openSync("/workspace/large", "w"), block = Buffer.alloc(65536, "x");
      const code = attempt(() => { for (let at = 0; at < 6 * ${mebibyte}; at += fs.writeSync(file, block)); });
      say({ code, bytes: fs.fstatSync(file).size, small: attempt(() => fs.writeFileSync("/workspace/small", "x")) });`;
    const within = (mebibytes: number) => probe(script, [], { workspaceBytes: mebibytes * mebibyte });
    expect(await within(4)).toEqual({ code: "ENOSPC", bytes: 4 * mebibyte, small: "ENOSPC" });
    expect(await within(8)).toEqual({ code: "done", bytes: 6 * mebibyte, small: "done" });
  });

  test("home, temp and shared memory have limits of their own, whatever the workspace may hold", async () => {
    // Space is only set aside, and only where there is enough of it: nothing has to be written.
    const script = `say(Object.fromEntries(Object.entries(JSON.parse(process.argv[1])).map(([folder, mebibytes]) => { const { blocks, bsize } = fs.statfsSync(folder);
        const claim = (size) => spawnSync("fallocate", ["-l", size + "m", folder + "/large"], { encoding: "utf8" }).stderr.trim();
        return [folder, { mebibytes: blocks * bsize / 1048576, more: claim(mebibytes + 1), less: claim(4) }]; })));`;
    const limits = { "/home/agent": 128, "/tmp": 256, "/dev/shm": 64, "/workspace": 16 };
    const full = "fallocate: fallocate failed: No space left on device";
    expect(await probe(script, [JSON.stringify(limits)])).toEqual(
      Object.fromEntries(
        Object.entries(limits).map(([folder, mebibytes]) => [folder, { mebibytes, more: full, less: "" }]),
      ),
    );
  });

  test("a run that starts too many processes is stopped at its limit; a larger limit lets it", async () => {
    const script = `const codes = new Set(), children = Array.from({ length: 200 }, () => spawn("sleep", ["60"], { stdio: "ignore" }));
      for (const child of children) child.once("error", ({ code }) => codes.add(code));
      setImmediate(() => { say({ started: children.filter(({ pid }) => pid !== undefined).length, codes: [...codes] });
        process.exit(); });`; // the children end with the sandbox
    const within = (pids: number) =>
      probe(script, [], { pids, uidBase: 253_000 }) as Promise<{ started: number }>;
    const few = await within(64);
    expect(few).toEqual({ started: expect.any(Number), codes: ["EAGAIN"] });
    expect(few.started).toBeGreaterThan(0);
    expect(few.started).toBeLessThan(64); // the guard and Node itself count too, with their threads
    expect(await within(300)).toEqual({ started: 200, codes: [] });
  });

  test("PID 1 cannot be killed, stopped or looked into", async () => {
    const script = `const tried = [attempt(() => process.kill(1, "SIGKILL")), attempt(() => process.kill(1, "SIGSTOP"))];
      const traced = ["mem", "environ", "root/etc"].map((name) => attempt(() => fs.readdirSync("/proc/1/" + name, {}) ));
      const memory = attempt(() => fs.closeSync(fs.openSync("/proc/1/mem", "r+")));
      const environment = attempt(() => fs.readFileSync("/proc/1/environ"));
      setTimeout(() => say({ tried, memory, environment, state: status(1).State[0] }), 200);`;
    expect(await probe(script)).toEqual({
      tried: ["EPERM", "EPERM"],
      memory: "EACCES",
      environment: "EACCES",
      state: "S",
    });
    // The control: what is refused for PID 1 is possible for a child of one's own.
    const own = `const child = spawn("sleep", ["60"]); child.once("spawn", () => {
      const memory = attempt(() => fs.closeSync(fs.openSync("/proc/" + child.pid + "/mem", "r+")));
      say({ memory, killed: attempt(() => process.kill(child.pid, "SIGKILL")) }); });`;
    expect(await probe(own)).toEqual({ memory: "done", killed: "done" });
  });

  test("orphans are taken in by PID 1 and reaped", async () => {
    const script = `const { stdout } = spawnSync("sh", ["-c", "(sleep 0.2 & echo $!)"], { encoding: "utf8" });
      const pid = stdout.trim(); const parent = status(pid).PPid;
      const isZombie = (name) => { try { return status(name).State[0] === "Z"; } catch { return false; } }; // it may end meanwhile
      const look = (round) => fs.existsSync("/proc/" + pid) && round > 0 ? setTimeout(look, 100, round - 1) : say({ parent,
        left: fs.existsSync("/proc/" + pid), zombies: fs.readdirSync("/proc").filter((name) => /^\\d+$/.test(name)).filter(isZombie) });
      look(200);`;
    expect(await probe(script)).toEqual({ parent: "1", left: false, zombies: [] });
  });

  test("the host name is `sandbox`, and the environment is what was given", async () => {
    const script = "say({ name: os.hostname(), env: Object.keys(process.env).sort() });";
    expect(await probe(script)).toEqual({ name: "sandbox", env: ["HOME", "PATH"] });
    expect(hostname()).not.toBe("sandbox");
  });

  test("two sandboxes at once have two users, and neither sees the other", async () => {
    await using one = await LOCAL.open();
    await using other = await LOCAL.open();
    const script = `${PRELUDE} fs.writeFileSync("/workspace/mine-" + process.argv[1], "x"); fs.writeFileSync("/tmp/mine", "x");
      say({ files: fs.readdirSync("/workspace"), processes: fs.readdirSync("/proc").filter((name) => /^\\d+$/.test(name)).length });
      process.stdin.resume();`;
    const said = [];
    for (const [index, { sandbox }] of [one, other].entries()) {
      await sandbox.seal();
      const { stdio } = await startNode(sandbox, script, String(index));
      said.push(
        JSON.parse(await new Promise((resolve) => stdio.once("data", (bytes) => resolve(String(bytes))))),
      );
    }
    expect(said).toEqual([
      { files: ["mine-0"], processes: 3 },
      { files: ["mine-1"], processes: 3 },
    ]);
  });
});

/** A service that is not root: its own copy of what it needs, since this clone may not be readable to it. */
test.runIf(isRoot)(
  "without root, a user namespace isolates a run, or a run is refused with the reason",
  async () => {
    const folder = mkdtempSync(join(tmpdir(), "pillion-nobody-"));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    chmodSync(folder, 0o755);
    for (const part of ["guard", "extension"])
      cpSync(join(PRODUCT_DIR, part), join(folder, "product", part), { recursive: true });
    cpSync(process.execPath, join(folder, "node"));
    const src = join(import.meta.dirname, "../../src/sandboxes");
    accessSync(join(src, "open-sandbox.ts"), constants.R_OK);
    const script = `
    const { LocalPlaces } = await import(${JSON.stringify(join(src, "local/local-places.ts"))});
    const { mkdirSync } = await import("node:fs");
    const home = process.env.HOME + "/data"; mkdirSync(home, { recursive: true });
    const places = new LocalPlaces({ home, productDir: ${JSON.stringify(join(folder, "product"))}, uidBase: 252000, hidden: [home],
      nodePath: ${JSON.stringify(join(folder, "node"))}, instance: "nobody" });
    process.stdout.write(JSON.stringify({ uid: process.getuid(), probe: await places.probe() }));`;
    const home = mkdtempSync(join(folder, "home-"));
    spawnSync("chown", ["65534:65534", home]);
    const { stdout, stderr } = spawnSync(
      "setpriv",
      [
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        join(folder, "node"),
        "--input-type=module",
        "-e",
        script,
      ],
      { encoding: "utf8", cwd: "/", env: { PATH: process.env.PATH, HOME: home } },
    );
    expect(stdout, stderr).not.toBe("");
    const { uid, probe: found } = JSON.parse(stdout);
    expect(uid).toBe(65534);
    if (found.available)
      expect(found).toEqual({
        kind: "local",
        available: true,
        isolated: true,
        detail: "namespaces of this machine",
        missing: [
          "memory and cpu limits (a local sandbox has none)",
          "a seccomp filter",
          "guard and harness closed to the run's own other processes",
          "a pids limit",
          "a user other than the service's own",
        ],
      });
    else expect(found.detail).toMatch(/^namespaces cannot be had here: ./);
    process.stdout.write(`as uid 65534: ${found.detail}\n`);
  },
);
