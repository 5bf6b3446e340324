// Runs the tests that ask for addresses of others in a network of their own: where the broker failed, nothing would leave this machine.
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { describe, expect, test } from "vitest";
import { z } from "zod";

const ROOT = join(import.meta.dirname, "../../../..");
const VITEST = join(ROOT, "node_modules/vitest/vitest.mjs");
const FILES = readdirSync(import.meta.dirname).filter((name) => name.endsWith(".inside.ts"));
const isRoot = process.getuid?.() === 0;
const UNSHARE = ["--net", ...(isRoot ? [] : ["--map-root-user"])];
/** Root must be able to; for others the set-up says that tests are left out. */
const isExpected = isRoot || spawnSync("unshare", [...UNSHARE, "true"]).status === 0;

const Report = z.object({
  numFailedTests: z.int(),
  numPassedTests: z.int(),
  numTotalTests: z.int(),
  success: z.boolean(),
});

function runInside(script: string, words: readonly string[]) {
  const up = `ip link set lo up && ${script}`;
  return spawnSync("unshare", [...UNSHARE, "sh", "-c", up, "sh", ...words], {
    cwd: ROOT,
    encoding: "utf8",
    timeout: 300_000,
    killSignal: "SIGKILL",
  });
}

describe.runIf(isExpected)("S3.4 in a network where there is loopback and nothing else", () => {
  test("loopback is the only interface, and no route leads anywhere", () => {
    const look = "cat /proc/net/dev; ip route show; ip -6 route show | grep -v 'dev lo'; echo";
    const lines = runInside(look, []).stdout.trim().split("\n");
    expect(lines.slice(2).map((line) => line.trim().split(":")[0])).toEqual(["lo"]); // after two lines of titles
  });

  test.each(FILES)(
    "all of %s hold",
    async (file) => {
      const report = join(await mkdtemp(join(tmpdir(), "pillion-inside-")), "report.json");
      const { stdout, stderr } = runInside('exec "$@"', [
        ...[process.execPath, VITEST, "run", join("services/sidecar/test/egress", file)],
        ...["--config", join(import.meta.dirname, "inside.config.ts")],
        ...["--reporter=default", "--reporter=json", `--outputFile.json=${report}`],
      ]);
      const counts = Report.parse(JSON.parse(readFileSync(report, "utf8")));
      if (!counts.success) console.log(`${stdout}\n${stderr}`);
      for (const line of stdout.match(/^.*: \d+\/\d+$/gm) ?? []) console.log(line);
      console.log(`${basename(file)}: ${counts.numPassedTests}/${counts.numTotalTests} tests`);
      expect(counts).toMatchObject({ success: true, numFailedTests: 0 });
      expect(counts.numPassedTests).toBe(counts.numTotalTests);
      expect(counts.numPassedTests).toBeGreaterThan(0);
    },
    320_000,
  );
});
