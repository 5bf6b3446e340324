/** The image for development: starts anew when a mounted source changes; the one for production does not look. */
import { spawnSync } from "node:child_process";
import { chmodSync, cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { docker, readEngine } from "../behaviours/open-places.ts";
import { NODE_FLAGS } from "../fakes/live-service.ts";
import { LOCKED, openSidecarContainer, SIDECAR_IMAGE } from "../fakes/sidecar-container.ts";

// Several containers start in one test.
vi.setConfig({ testTimeout: 120_000 });

const ROOT = join(import.meta.dirname, "../../../..");
const DEV_IMAGE = SIDECAR_IMAGE.replace(":latest", ":dev");
let directory: string;

beforeAll(() => {
  const built = spawnSync(join(ROOT, "scripts/images.sh"), ["dev"], {
    encoding: "utf8",
    env: { ...process.env, ...readEngine() },
  });
  if (built.status !== 0) throw new Error(built.stderr);
  directory = mkdtempSync(join(tmpdir(), "pillion-dev-"));
  chmodSync(directory, 0o755);
  cpSync(join(ROOT, "services"), join(directory, "services"), { recursive: true });
}, 300_000);
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const toTitle = async (url: string): Promise<string> => {
  const answer = await fetch(`${url}/v1/runs`, { signal: AbortSignal.timeout(2_000) });
  return ((await answer.json()) as { title: string }).title;
};

test("S1.11 the dev image watches what is mounted, and the other one has no watcher and no sources", async () => {
  const mount = ["--volume", `${directory}/services:/src/services:ro`, "--user", "12345"];
  await using dev = await openSidecarContainer({ image: DEV_IMAGE, flags: [...LOCKED, ...mount] });
  await using production = await openSidecarContainer({ flags: LOCKED });
  const before = await toTitle(dev.url);
  expect(await toTitle(production.url)).toBe(before);
  const file = join(directory, "services/contract/failure.ts");
  const changed = readFileSync(file, "utf8").replaceAll(before, "Changed while it ran");
  writeFileSync(file, changed);
  await vi.waitFor(async () => expect(await toTitle(dev.url)).toBe("Changed while it ran"), {
    timeout: 60_000,
    interval: 200,
  });
  const readCommands = (name: string): string[] =>
    docker(["top", name, "-eo", "pid,args"])
      .split("\n")
      .slice(1)
      .map((line) => line.trim().replace(/^\d+ +/, ""));
  expect(readCommands(dev.name).join("\n")).toContain("tsx/dist/cli.mjs watch");
  const commands = ["tini -- pillion serve", `node ${NODE_FLAGS.join(" ")} /app/dist/pillion.mjs serve`];
  expect(readCommands(production.name)).toEqual(commands);
});
