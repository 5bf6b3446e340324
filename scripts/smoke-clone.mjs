// What a newcomer does: a fresh clone, `npm start`, the very curl that it prints; then a second start, which must be quick.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const FIRST_START_MS = 300_000;
const SECOND_START_MS = 2_000;
const RUN_MS = 60_000;
const WELCOME_MS = 5_000;

async function main() {
  must(
    spawnSync("curl", ["--version"]).status === 0,
    "curl is not installed, and what `npm start` prints needs it: install it (Debian: apt-get install curl) and try again",
  );
  const place = mkdtempSync(join(tmpdir(), "pillion-clone-"));
  try {
    const clone = join(place, "a clone"); // the blank is meant
    must(
      spawnSync("git", ["clone", "--quiet", root, clone], { stdio: "inherit" }).status === 0,
      "git clone failed",
    );
    const first = await startAndRun(clone, join(place, "home"), FIRST_START_MS);
    console.log(`first npm start: healthy after ${first.healthyMs} ms, demo run ${first.runMs} ms`);
    const second = await startAndRun(clone, join(place, "home"), 20_000);
    console.log(`second npm start: healthy after ${second.healthyMs} ms, demo run ${second.runMs} ms`);
    must(second.healthyMs < SECOND_START_MS, `the second start took ${second.healthyMs} ms`);
    const line = spawnSync(join(clone, "bin/pillion"), ["run", "--demo"], { cwd: place, encoding: "utf8" });
    must(line.status === 0 && line.stdout.includes("The tour is over"), `bin/pillion: ${line.stderr}`);
    console.log("bin/pillion run --demo: succeeded");
  } finally {
    rmSync(place, { recursive: true, force: true });
  }
}

async function startAndRun(clone, home, maxMs) {
  const port = await findFreePort();
  const url = `http://127.0.0.1:${port}`;
  const startedAt = performance.now();
  const env = { ...process.env, PILLION_PORT: String(port), PILLION_HOME: home };
  const child = spawn("npm", ["start"], { cwd: clone, env, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream.on("data", (chunk) => (output = (output + chunk).slice(-20_000)));
  const ended = new Promise((resolve) => child.once("exit", (code, signal) => resolve(signal ?? code)));
  try {
    while (!(await isHealthy(url))) {
      must(
        child.exitCode === null && performance.now() - startedAt < maxMs,
        `no health at ${url}:\n${output}`,
      );
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    const healthyMs = Math.round(performance.now() - startedAt);
    const command = await waitForCurl(() => output);
    const runAt = performance.now();
    const run = runCurl(command);
    const runMs = Math.round(performance.now() - runAt);
    must(run.outcome === "succeeded" && run.demo === true, `the demo run ended ${JSON.stringify(run)}`);
    must(output.includes("Sandbox: "), "the start does not print the sandbox");
    return { healthyMs, runMs };
  } finally {
    child.kill("SIGTERM");
    await ended;
    await waitUntilGone(url); // npm ends at its signal; the service behind it finishes what it does
  }
}

async function waitUntilGone(url) {
  const startedAt = performance.now();
  while (await isHealthy(url)) {
    must(performance.now() - startedAt < 20_000, "the service did not stop");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  await new Promise((resolve) => setTimeout(resolve, 500)); // its journal closes after its door
}

/** The command that is printed, exactly; it comes a moment after the door is open. */
async function waitForCurl(readOutput) {
  const startedAt = performance.now();
  for (;;) {
    const command = /^ *(curl .*)\n/m.exec(readOutput())?.[1];
    if (command !== undefined) return command;
    must(performance.now() - startedAt < WELCOME_MS, `the start does not print a curl:\n${readOutput()}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** As a newcomer would: by a shell, out of the terminal's text. */
function runCurl(command) {
  const { status, stdout, stderr } = spawnSync("bash", ["-c", command], {
    encoding: "utf8",
    timeout: RUN_MS,
  });
  must(status === 0, `the printed command failed (${status}): ${command}\n${stderr}`);
  try {
    return JSON.parse(stdout);
  } catch {
    throw new Error(`the printed command answered no JSON: ${command}\n${stdout}`);
  }
}

async function isHealthy(url) {
  try {
    const response = await fetch(`${url}/health`, { signal: AbortSignal.timeout(1_000) });
    return response.ok && (await response.json()).status === "ok";
  } catch {
    return false;
  }
}

function findFreePort() {
  return new Promise((resolve, reject) => {
    const server = createServer().once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

function must(condition, message) {
  if (!condition) throw new Error(message);
}

await main();
