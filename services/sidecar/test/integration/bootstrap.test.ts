// The set-up script in a copied tree: real processes, with a scripted npm and pnpm that install nothing but say so.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

const REPOSITORY = fileURLToPath(new URL("../../../../", import.meta.url));
const COPIED = ["scripts/bootstrap.mjs", "pnpm-lock.yaml", "package.json", "pnpm-workspace.yaml"];

// pnpm as the set-up needs it: it leaves a half-done file while it installs, and waits where the test asks it to.
const SCRIPTED_PNPM = `
import * as fs from "node:fs";
fs.appendFileSync("calls.log", "pnpm\\n");
fs.mkdirSync("node_modules", { recursive: true });
const hadRemains = fs.existsSync("node_modules/half-done");
fs.writeFileSync("node_modules/half-done", "");
console.log("installing as " + process.pid + (hadRemains ? " over remains" : ""));
while (fs.existsSync("hold")) await new Promise((resolve) => setTimeout(resolve, 20));
fs.rmSync("node_modules/half-done");
fs.writeFileSync("node_modules/.modules.yaml", "");
`;

const SCRIPTED_NPM = `#!/usr/bin/env node
const fs = require("node:fs");
fs.appendFileSync("../../../calls.log", "npm\\n");
const { packages } = JSON.parse(fs.readFileSync("package-lock.json", "utf8"));
delete packages[""];
fs.mkdirSync("node_modules/pnpm/bin", { recursive: true });
fs.writeFileSync("node_modules/pnpm/bin/pnpm.mjs", ${JSON.stringify(SCRIPTED_PNPM)});
fs.writeFileSync("node_modules/.package-lock.json", JSON.stringify({ packages }));
`;

const SCRIPTED_BUILD = `
import * as fs from "node:fs";
fs.appendFileSync("calls.log", "build\\n");
fs.mkdirSync("dist", { recursive: true });
fs.copyFileSync("services/sidecar/src/main.mjs", "dist/pillion.mjs");
fs.writeFileSync("dist/node-flags", "--max-semi-space-size=1 --no-warnings\\n");
`;

let scratch: string;
let root: string;
let started: ChildProcess[];

beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), "pillion bootstrap "));
  root = join(scratch, "a clone");
  started = [];
  for (const path of COPIED) cpSync(join(REPOSITORY, path), join(root, path));
  for (const name of ["node", "pnpm"]) {
    for (const file of ["package.json", "package-lock.json"]) {
      const path = join("scripts/toolchain", name, file);
      cpSync(join(REPOSITORY, path), join(root, path));
    }
  }
  mkdirSync(join(scratch, "bin"));
  symlinkSync(process.execPath, join(scratch, "bin/node"));
  write(join(scratch, "bin/npm"), SCRIPTED_NPM);
  chmodSync(join(scratch, "bin/npm"), 0o755);
});

afterEach(() => {
  for (const child of started) child.kill("SIGKILL");
  rmSync(scratch, { recursive: true, force: true });
});

describe("the command line", () => {
  it("explains itself without setting anything up", async () => {
    const end = await bootstrap(["--help"]).ended;
    expect(end).toMatchObject({ code: 0, stderr: "" });
    expect(end.stdout).toContain("Usage: node scripts/bootstrap.mjs");
    expect(readCalls()).toEqual([]);
  });

  it.each([
    [["dance"], "unknown task dance"],
    [["toString"], "unknown task toString"],
    [["--loud", "setup"], "unknown option --loud"],
    [["exec"], "exec needs a command"],
    [[], "no task given"],
  ])("refuses %j with exit code 2", async (args, message) => {
    const end = await bootstrap(args).ended;
    expect(end.code).toBe(2);
    expect(end.stderr).toContain(`pillion: ${message}`);
    expect(readCalls()).toEqual([]);
  });
});

describe("the set-up", () => {
  it("is done once, and again only when what is locked changes", async () => {
    const first = await bootstrap(["setup"]).ended;
    expect(first.code).toBe(0);
    expect(first.stderr).toMatch(
      /^pillion: fetching pnpm … [\d.]+ s\npillion: installing dependencies … [\d.]+ s\n$/,
    );
    expect(await bootstrap(["setup"]).ended).toEqual({ code: 0, signal: null, stdout: "", stderr: "" });
    expect(readCalls()).toEqual(["npm", "pnpm"]);
    write(join(root, "pnpm-lock.yaml"), "changed");
    await bootstrap(["setup"]).ended;
    expect(readCalls()).toEqual(["npm", "pnpm", "pnpm"]);
  });

  it("is silent when asked to be", async () => {
    expect(await bootstrap(["--quiet", "setup"]).ended).toMatchObject({ code: 0, stderr: "" });
  });

  it("lets a second one wait for the first instead of installing twice", async () => {
    write(join(root, "hold"), "");
    const first = bootstrap(["--verbose", "setup"]);
    await first.says(/installing as \d+/);
    const second = bootstrap(["setup"]);
    await second.says(/waiting for another set-up of this folder \(process \d+\)/);
    rmSync(join(root, "hold"));
    expect((await first.ended).code).toBe(0);
    expect((await second.ended).code).toBe(0);
    expect(readCalls()).toEqual(["npm", "pnpm"]);
  });

  it.runIf(process.platform === "linux")(
    "recovers from a kill: ends what it left, starts clean",
    async () => {
      write(join(root, "hold"), "");
      const killed = bootstrap(["--verbose", "setup"]);
      const orphan = Number((await killed.says(/installing as (\d+)/))[1]);
      killed.child.kill("SIGKILL");
      await killed.ended;
      expect(isRunning(orphan)).toBe(true);
      const next = bootstrap(["--verbose", "setup"]);
      const said = await next.says(/installing as \d+(.*)\n/);
      expect(said[1]).toBe("");
      expect(isRunning(orphan)).toBe(false);
      rmSync(join(root, "hold"));
      expect((await next.ended).code).toBe(0);
    },
  );

  it("does not wait for an owner whose process number now is somebody else's", async () => {
    const killed = { pid: process.pid, startTicks: "1", token: "x" };
    const lock = join(root, ".pillion/setup-lock/7");
    const namespace = process.platform === "linux" ? readlinkSync("/proc/self/ns/pid") : "none";
    write(lock, JSON.stringify({ ...killed, namespace }));
    const end = await bootstrap(["setup"]).ended;
    expect(end.code).toBe(0);
    expect(end.stderr).not.toContain("waiting");
    expect(existsSync(lock)).toBe(false);
  });

  it("stops its command when it is told to stop, and can be started again", async () => {
    write(join(root, "hold"), "");
    const told = bootstrap(["--verbose", "setup"]);
    const command = Number((await told.says(/installing as (\d+)/))[1]);
    told.child.kill("SIGTERM");
    expect((await told.ended).code).toBe(143);
    expect(isRunning(command)).toBe(false);
    rmSync(join(root, "hold"));
    expect((await bootstrap(["setup"]).ended).code).toBe(0);
  });

  it("says what to do when npm is missing", async () => {
    rmSync(join(scratch, "bin/npm"));
    const end = await bootstrap(["setup"], { PATH: join(scratch, "bin") }).ended;
    expect(end.code).toBe(1);
    expect(end.stderr).toContain("pillion: npm was not found\nInstall it");
  });

  it("says which command failed and what to check when the registry is dead", async () => {
    rmSync(join(scratch, "bin/npm"));
    const end = await bootstrap(["setup"], {
      npm_config_registry: "http://127.0.0.1:9",
      npm_config_fetch_retries: "0",
      npm_config_cache: join(scratch, "cache"),
    }).ended;
    expect(end.code).toBe(1);
    expect(end.stderr).toContain("ECONNREFUSED");
    expect(end.stderr).toContain(
      `npm install --no-save (in ${join(root, "scripts/toolchain/pnpm")}) ended with 1`,
    );
    expect(end.stderr).toContain("check the network, `npm config get registry` and the proxy settings");
  });

  it("refuses packages that the lock file does not pin", async () => {
    const npm = SCRIPTED_NPM.replace(
      'delete packages[""];',
      '$&packages["node_modules/pnpm"].integrity = "sha512-x";',
    );
    write(join(scratch, "bin/npm"), npm);
    const end = await bootstrap(["setup"]).ended;
    expect(end.code).toBe(1);
    expect(end.stderr).toContain("installed what its lock file does not pin: node_modules/pnpm");
    expect(readCalls()).toEqual(["npm"]);
  });
});

describe("exec", () => {
  it("puts the right Node first and passes words, output and exit code through", async () => {
    const script = "console.log(process.argv[1], process.env.PATH.split(':')[0]); process.exit(7)";
    const end = await bootstrap(["--quiet", "exec", "node", "-e", script, "two words"]).ended;
    expect(end).toEqual({
      code: 7,
      signal: null,
      stdout: `two words ${dirname(process.execPath)}\n`,
      stderr: "",
    });
  });

  it("ends with 128 + n when signal n ended the command", async () => {
    const end = await bootstrap(["exec", "node", "-e", "process.kill(process.pid, 'SIGKILL')"]).ended;
    expect(end.code).toBe(137);
  });

  it.each(["SIGINT", "SIGTERM", "SIGHUP"] as const)("passes %s on", async (signal) => {
    const script = `process.on("${signal}", () => process.exit(5)); setInterval(() => {}, 1e6); console.error("ready")`;
    const task = bootstrap(["exec", "node", "-e", script]);
    await task.says(/ready/);
    task.child.kill(signal);
    expect((await task.ended).code).toBe(5);
  });

  it("ends with 127 for a command that does not exist", async () => {
    const end = await bootstrap(["exec", "no-such-command"]).ended;
    expect(end.code).toBe(127);
    expect(end.stderr).toContain("no-such-command could not be started");
  });
});

describe("start", () => {
  beforeEach(() => {
    write(join(root, "scripts/build.mjs"), SCRIPTED_BUILD);
    write(join(root, "services/sidecar/src/main.mjs"), "console.log(...process.argv.slice(2));");
  });

  it("builds only when a source or an output changed, and hands the words over", async () => {
    const program = "console.log(...process.execArgv, ...process.argv.slice(2));";
    write(join(root, "services/sidecar/src/main.mjs"), program);
    const end = await bootstrap(["--quiet", "start", "--port", "0"]).ended;
    const stdout = "--max-semi-space-size=1 --no-warnings serve --port 0\n"; // with Node's flags
    expect(end).toEqual({ code: 0, signal: null, stdout, stderr: "" });
    await bootstrap(["start"]).ended;
    expect(readCalls()).toEqual(["npm", "pnpm", "build"]);
    write(join(root, "services/sidecar/src/main.mjs"), "process.exit(4);");
    expect((await bootstrap(["start"]).ended).code).toBe(4);
    rmSync(join(root, "dist/pillion.mjs"));
    expect((await bootstrap(["start"]).ended).code).toBe(4);
    write(join(root, "services/sidecar/test/some.test.mjs"), "");
    await bootstrap(["start"]).ended;
    expect(readCalls().filter((call) => call === "build")).toHaveLength(3);
  });

  it("lets a signal reach Pillion", async () => {
    const program = `process.on("SIGTERM", () => process.exit(9)); setInterval(() => {}, 1e6); console.error("ready")`;
    write(join(root, "services/sidecar/src/main.mjs"), program);
    const task = bootstrap(["start"]);
    await task.says(/ready/);
    task.child.kill("SIGTERM");
    expect((await task.ended).code).toBe(9);
  });

  it("shows the last lines of a build that failed", async () => {
    write(
      join(root, "scripts/build.mjs"),
      `for (let n = 1; n <= 40; n++) console.log("line", n); process.exit(3);`,
    );
    const end = await bootstrap(["start"]).ended;
    expect(end.code).toBe(1);
    expect(end.stderr).toContain("  | line 11\n");
    expect(end.stderr).not.toContain("  | line 10\n");
    expect(end.stderr).toContain("pillion: node scripts/build.mjs ended with 3");
  });
});

interface End {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

interface Started {
  child: ChildProcess;
  ended: Promise<End>;
  /** Resolves when stderr matches; rejects when the process ends without having said it. */
  says(pattern: RegExp): Promise<RegExpMatchArray>;
}

function bootstrap(args: string[], env: NodeJS.ProcessEnv = {}): Started {
  const PATH = [join(scratch, "bin"), process.env.PATH].join(delimiter);
  const child = spawn(process.execPath, [join(root, "scripts/bootstrap.mjs"), ...args], {
    cwd: root,
    env: { ...process.env, PATH, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  started.push(child);
  const text = { stdout: "", stderr: "" };
  child.stdout.setEncoding("utf8").on("data", (part: string) => {
    text.stdout += part;
  });
  child.stderr.setEncoding("utf8").on("data", (part: string) => {
    text.stderr += part;
  });
  // "exit", not "close": an orphan may keep the pipes of a killed set-up open.
  const ended = once(child, args.includes("--verbose") ? "exit" : "close").then(([code, signal]) => ({
    code,
    signal,
    ...text,
  }));
  const says = async (pattern: RegExp) => {
    for (;;) {
      const match = text.stderr.match(pattern);
      if (match) return match;
      const isOver = await Promise.race([once(child.stderr, "data"), ended.then(() => true)]);
      if (isOver === true && !pattern.test(text.stderr))
        throw new Error(`never said ${pattern}: ${text.stderr}`);
    }
  };
  return { child, ended, says };
}

function readCalls(): string[] {
  const log = join(root, "calls.log");
  return existsSync(log) ? readFileSync(log, "utf8").trimEnd().split("\n") : [];
}

function write(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}

/** A zombie that nobody has waited for no longer counts. */
function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return process.platform !== "linux" || !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}
