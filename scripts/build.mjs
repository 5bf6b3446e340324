// Makes dist/: the service's bundles, and dist/product/, the read-only directory that every sandbox sees.

import { createHash } from "node:crypto";
import {
  chmodSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { basename, dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { readLicenceText, ThirdPartyList } from "./third-party.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const dist = join(root, "dist");
const staging = `${dist}.new`;
const EXTENSION_MAX_BYTES = 20 * 1024;
/** How Node is started for the service, and why: docs/decisions/0013-memory-of-the-service.md. */
const NODE_FLAGS = [
  "--max-semi-space-size=1",
  "--heap-growing-percent=30",
  "--no-concurrent-array-buffer-sweeping",
];

const common = {
  absWorkingDir: root,
  bundle: true,
  platform: "node",
  format: "esm",
  target: "node24",
  logLevel: "warning",
  legalComments: "none",
  metafile: true,
};

// CommonJS packages inside an ESM bundle ask for these.
const requireBanner = {
  js: 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);',
};

async function main() {
  rmSync(staging, { recursive: true, force: true });
  mkdirSync(staging, { recursive: true });
  const [sidecar, guard, extension, engineProxy] = await Promise.all([
    buildSidecar(),
    buildGuard(),
    buildExtension(),
    buildEngineProxy(),
  ]);
  stagePi();
  const ripgrep = stageRipgrep();
  const daemon = stageDaemon();
  const seeds = seedJiti();
  writeThirdPartyLists({
    ...{ service: [sidecar, engineProxy], daemon },
    ...{ product: [guard, extension], ripgrep, seeds },
  });
  makeReadable(join(staging, "product"));
  writeDigests();
  writeFileSync(join(staging, "node-flags"), `${NODE_FLAGS.join(" ")}\n`);
  rmSync(dist, { recursive: true, force: true });
  renameSync(staging, dist);
}

function buildSidecar() {
  return build({
    ...common,
    banner: requireBanner,
    entryPoints: {
      pillion: "services/sidecar/src/main.ts",
      "journal-worker": "services/sidecar/src/runs/journal-worker.ts",
    },
    splitting: true, // what is imported on demand stays in files of its own
    chunkNames: "parts/[name]-[hash]",
    alias: { ssh2: "./scripts/no-ssh.cjs" },
    external: ["xmlbuilder2"], // the bill of materials is written as JSON only
    outdir: staging,
    outExtension: { ".js": ".mjs" },
    sourcemap: "linked",
    sourcesContent: false, // lines and names are enough for a stack
  });
}

async function buildGuard() {
  const { metafile } = await build({
    ...common,
    banner: requireBanner,
    entryPoints: { main: "services/guard/src/main.ts" },
    outdir: join(staging, "product/guard"),
    outExtension: { ".js": ".mjs" },
    splitting: true,
    minify: true,
  });
  cpSync(join(root, "services/sidecar/src/sandboxes/local/init.sh"), join(staging, "product/guard/init.sh"));
  for (const name of ["seccomp.json", "seccomp-browser.json"])
    cpSync(join(root, "docker", name), join(staging, "product/docker", name));
  return { metafile };
}

function buildEngineProxy() {
  return build({
    ...common,
    entryPoints: { "engine-proxy": "services/engine-proxy/src/main.ts" },
    outdir: staging,
    outExtension: { ".js": ".mjs" },
    sourcemap: "linked",
    sourcesContent: false, // lines and names are enough for a stack
  });
}

async function buildExtension() {
  const outfile = join(staging, "product/extension/pillion.js");
  const { metafile } = await build({
    ...common,
    target: "node22",
    entryPoints: ["services/pi-extension/src/pillion.ts"],
    external: ["@earendil-works/*", "typebox"],
    outfile,
  });
  const { size } = statSync(outfile);
  if (size > EXTENSION_MAX_BYTES)
    throw new Error(`the extension is ${size} bytes; it may be ${EXTENSION_MAX_BYTES}`);
  return { metafile };
}

/** What the bundles contain, for the image's audit and for the licences that ask for their text to come along. */
function writeThirdPartyLists({ service, daemon, product, ripgrep, seeds }) {
  for (const [directory, results] of [
    [staging, service],
    [join(staging, "product"), product],
  ]) {
    const list = new ThirdPartyList(root, directory);
    for (const { metafile } of results) list.addBundles(metafile);
    if (results === product) {
      list.addFile(ripgrep.file, [ripgrep.directory]);
      for (const seed of seeds) list.addFile(seed, []);
    }
    if (results === service) list.addFile(daemon.file, [daemon.directory]);
    list.write();
  }
}

/** Pi with the packages beside it, as installed from the lock file, so that it needs nothing of this clone's layout. */
function stagePi() {
  const piDir = realpathSync(join(root, "node_modules/@earendil-works/pi-coding-agent"));
  const modules = join(piDir, "../..");
  const target = join(staging, "product/pi/node_modules");
  for (const name of listPackages(modules)) {
    const options = { recursive: true, dereference: true, filter: isNeededAtRunTime };
    cpSync(realpathSync(join(modules, name)), join(target, name), options);
  }
  // Its package forgot the licence's text, which the licence wants to go with every copy.
  const text = readLicenceText(root, piDir, "@earendil-works/pi-coding-agent");
  writeFileSync(join(target, "@earendil-works/pi-coding-agent/LICENSE"), text);
}

/** Guard and service each read it in their own product, so that two that do not belong together are found out. */
function writeDigests() {
  const pi = digestTree(join(staging, "product/pi"));
  writeFileSync(join(staging, "product/harnesses.json"), `${JSON.stringify({ pi })}\n`);
}

/** SHA-256 over all files by path: `path\\0`, the file's own digest in hex, `\\n`; sorted by path, bytewise. */
function digestTree(directory) {
  const paths = readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(directory, join(entry.parentPath, entry.name)))
    .sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  const tree = createHash("sha256");
  for (const path of paths) {
    const file = createHash("sha256")
      .update(readFileSync(join(directory, path)))
      .digest("hex");
    tree.update(`${path}\0${file}\n`);
  }
  return tree.digest("hex");
}

function listPackages(modules) {
  return readdirSync(modules)
    .filter((name) => !name.startsWith("."))
    .flatMap((name) =>
      name.startsWith("@") ? readdirSync(join(modules, name)).map((sub) => `${name}/${sub}`) : [name],
    );
}

function isNeededAtRunTime(source) {
  return !/\.(map|d\.ts|sh)$/.test(source) && basename(source) !== "node_modules";
}

/**
 * Pi loads extensions through jiti, whose cache is keyed by path; made here for the path inside every sandbox, it saves
 * each start the loading of a compiler. jiti itself compares the source's hash before it takes a cached file.
 */
function seedJiti() {
  const require = createRequire(
    join(staging, "product/pi/node_modules/@earendil-works/pi-coding-agent/package.json"),
  );
  const { createJiti } = require("jiti");
  const directory = join(staging, "product/extension/jiti");
  mkdirSync(directory, { recursive: true });
  const source = readFileSync(join(staging, "product/extension/pillion.js"), "utf8");
  const filename = "/opt/pillion/extension/pillion.js";
  createJiti(join(staging, "seed.js"), { fsCache: directory, moduleCache: false }).transform({
    source,
    filename,
    async: true,
    ts: false,
  });
  writeFileSync(join(staging, "product/extension/jiti-seed.json"), JSON.stringify(readdirSync(directory)));
  return readdirSync(directory).map((name) => join(directory, name));
}

function stageRipgrep() {
  const require = createRequire(realpathSync(join(root, "node_modules/@vscode/ripgrep/package.json")));
  const packageJson = require.resolve(`@vscode/ripgrep-linux-${process.arch}/package.json`);
  cpSync(join(dirname(packageJson), "bin/rg"), join(staging, "product/bin/rg"));
  cpSync(packageJson, join(staging, "product/bin/ripgrep-package.json"));
  return { file: join(staging, "product/bin/rg"), directory: dirname(packageJson) };
}

/** The program that will fetch vendors' command lines: for the image of the service, where nothing starts it yet. */
function stageDaemon() {
  const require = createRequire(realpathSync(join(root, "node_modules/@sandbox-agent/cli/package.json")));
  const packageJson = require.resolve(`@sandbox-agent/cli-linux-${process.arch}/package.json`);
  const target = join(staging, "daemon");
  for (const [from, to] of [
    ["bin/sandbox-agent", "sandbox-agent"],
    ["LICENSE", "LICENSE"],
    ["package.json", "package.json"],
  ])
    cpSync(join(dirname(packageJson), from), join(target, to));
  chmodSync(join(target, "sandbox-agent"), 0o755);
  return { file: join(target, "sandbox-agent"), directory: dirname(packageJson) };
}

/** Runs have other uids than the builder; a strict umask must not shut them out. */
function makeReadable(path) {
  const stat = statSync(path);
  chmodSync(path, stat.isDirectory() || stat.mode & 0o100 ? 0o755 : 0o644);
  if (stat.isDirectory()) for (const name of readdirSync(path)) makeReadable(join(path, name));
}

await main();
