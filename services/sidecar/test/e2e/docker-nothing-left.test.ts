/** A sidecar that is killed at any moment of its runs in containers leaves none of them running, and the next start leaves none at all. */
import { randomInt } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { AGENT_IMAGE, readEngineHost } from "../behaviours/open-places.ts";
import { readContainers, readVolumes } from "../fakes/engine-list.ts";
import { call, pickUidBase, type Starting, startStormService } from "../fakes/storm-service.ts";
import { type Acknowledged, createRandom, expectWhole, startAndListen } from "../fakes/told-runs.ts";

const KILLS = process.env.PILLION_TEST_FULL === "1" ? 100 : 12;
const INSTANCES = 2;
const GONE_MS = 5_000;
/** A run of the demo model is over after about two seconds; most of them are met before. */
const MOST_MS = 1_500;
const OUTCOMES = ["lost", "succeeded", "cancelled"];

const RUNS = [
  {},
  { role: "reader", workspace: { kind: "files", files: [{ path: "a.txt", content: "a\n" }] } },
] as const;

let root: string;
let started: Starting[];

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "pillion-storm-"));
  started = [];
});
afterEach(async () => {
  for (const service of started) await service.kill();
  rmSync(root, { recursive: true, force: true });
});

function begin(home: string): Starting {
  const service = startStormService(home, pickUidBase(), {
    PILLION_SANDBOX: "docker",
    PILLION_DOCKER_HOST: readEngineHost(),
    PILLION_IMAGE: AGENT_IMAGE,
    PILLION_MEMORY: "1g",
    PILLION_DRAIN_MS: "200ms",
  });
  started.push(service);
  return service;
}

const toLabel = (home: string): string =>
  `org.pillion.instance=${readFileSync(join(home, "instance"), "utf8")}`;
const readStates = async (home: string): Promise<string[]> =>
  (await readContainers(readEngineHost(), toLabel(home))).map(({ State }) => State);

async function readAll(home: string): Promise<string[]> {
  return [...(await readStates(home)), ...(await readVolumes(readEngineHost(), toLabel(home)))];
}

/** Milliseconds until no container of the instance runs any more. */
async function waitUntilNoneRuns(home: string): Promise<number> {
  const startedMs = performance.now();
  while ((await readStates(home)).includes("running")) {
    expect(performance.now() - startedMs).toBeLessThan(GONE_MS);
    await sleep(20);
  }
  return performance.now() - startedMs;
}

type Storm = { readonly seen: Record<string, number>; readonly goneMs: number[] };

async function rage(
  home: string,
  kills: number,
  random: () => number,
  { seen, goneMs }: Storm,
): Promise<void> {
  const count = (name: string): void => {
    seen[name] = (seen[name] ?? 0) + 1;
  };
  let service = await begin(home).ready;
  for (let round = 0; round < kills; round += 1) {
    const acknowledged: Acknowledged[] = [];
    const listening = RUNS.map((fields) => startAndListen(service, acknowledged, fields));
    await sleep(random() * MOST_MS);
    const signal = random() < 0.75 ? "SIGKILL" : "SIGTERM";
    count(signal);
    if (signal === "SIGKILL") await service.kill();
    else expect(await service.stop()).toBe(0);
    await Promise.all(listening);
    goneMs.push(await waitUntilNoneRuns(home));
    for (const state of await readStates(home)) count(`${state} after ${signal}`);
    if (signal === "SIGTERM") expect(await readAll(home)).toEqual([]);

    if (random() < 0.2) {
      const interrupted = begin(home);
      await sleep(random() * 500);
      await interrupted.kill();
    }
    service = await begin(home).ready;
    expect(await readAll(home)).toEqual([]);
    for (const run of acknowledged) count(await expectWhole(service, run, OUTCOMES));
    const { runs } = JSON.parse((await call(`${service.url}/v1/runs`)).body);
    expect(runs.filter(({ state }: { state: string }) => state !== "ended")).toEqual([]); // nor those it had not told of
  }
  expect((await call(`${service.url}/readyz`)).status).toBe(200);
  expect(await service.stop()).toBe(0);
}

describe("S3.12 after the sidecar was killed at a random moment", () => {
  test(`no container runs on, the next start leaves none, and each run has one end (${KILLS} times)`, async () => {
    const seed = Number(process.env.PILLION_TEST_SEED ?? randomInt(1, 2 ** 31));
    console.log(`docker kill storm: seed ${seed} (PILLION_TEST_SEED repeats it)`);
    const startedMs = performance.now();
    const storm: Storm = { seen: {}, goneMs: [] };
    // Side by side: each must leave the other alone.
    const homes = Array.from({ length: INSTANCES }, (_, index) => join(root, `home-${index}`));
    await Promise.all(
      homes.map((home, index) => rage(home, KILLS / INSTANCES, createRandom(seed + index), storm)),
    );
    const sorted = storm.goneMs.toSorted((one, other) => one - other);
    const median = sorted[Math.floor(sorted.length / 2)];
    console.log(
      `docker kill storm: ${KILLS} rounds in ${((performance.now() - startedMs) / 1000).toFixed(0)} s, ` +
        `${JSON.stringify(storm.seen)}, no container running after ` +
        `${median?.toFixed(0)} ms (median), ${sorted.at(-1)?.toFixed(0)} ms (most)`,
    );
    expect(storm.seen.lost ?? 0).toBeGreaterThan(0);
  }, 900_000);

  test("a run that is going on is seen running (control)", async () => {
    const home = join(root, "home");
    const service = await begin(home).ready;
    const listening = startAndListen(service, []);
    const startedMs = performance.now();
    while (!(await readStates(home)).includes("running")) {
      expect(performance.now() - startedMs).toBeLessThan(15_000);
      await sleep(20);
    }
    await listening;
    expect(await readStates(home)).toEqual([]);
  });
});
