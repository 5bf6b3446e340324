// The images' budgets, held by scripts/image-sizes.ts: it prints what there is, and what is too large or missing fails.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { expect, test } from "vitest";
import { TARGETS, toAgentImage } from "./agent-container.ts";

const SCRIPT = join(import.meta.dirname, "../../../../scripts/image-sizes.ts");

function weigh(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [SCRIPT, ...args], { encoding: "utf8" });
  return { status, stdout, stderr };
}

test.each(TARGETS)("S2.1 S3.9 %s keeps its budget, told layer by layer", (target) => {
  const { status, stdout, stderr } = weigh(`agent:${target}`);
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  const [name, ...rows] = stdout.trim().split("\n");
  const sizes = rows.map((row) => Number.parseFloat(row));
  expect(name).toBe(toAgentImage(target));
  expect(rows.map((row) => row.replace(/^ *[\d.]+ MB {2}/, ""))).toEqual([
    ...["COPY / /", "COPY /out/node /", "COPY /out/pinned /", "COPY /out/ours /"],
    expect.stringMatching(/^of at most \d+$/),
  ]);
  const total = sizes.pop() ?? 0;
  expect(sizes.reduce((sum, size) => sum + size, 0)).toBeCloseTo(total, 0);
});

test("S2.1 an image beyond its budget fails, and so does one that is missing", () => {
  const over = weigh("--budget", "agent:slim=10", "agent:base", "agent:slim");
  expect(over.status).toBe(1);
  expect(over.stderr).toMatch(/^image-sizes: agent:slim is \d+\.\d MB, and may be 10\n$/);
  const missing = weigh("--prefix", "no-such-prefix", "agent:base");
  expect(missing).toEqual({
    ...{ status: 1, stdout: "no-such-prefix-agent:base: missing\n\n" },
    stderr: "image-sizes: agent:base is missing: scripts/images.sh builds it\n",
  });
});

test("an image or a budget that nobody knows is a mistake of the caller", () => {
  for (const args of [
    ["agent:huge"],
    ["--budget", "agent:huge=1"],
    ["--budget", "agent:slim"],
    ["--budget", "agent:slim=x"],
  ])
    expect(weigh(...args)).toMatchObject({ status: 2, stderr: expect.stringContaining("image-sizes: ") });
});
