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
const GONE_MS = 5_000;
/** A run of the demo model is over after about two seconds; most of them are met before. */
const MOST_MS = 1_600;
const OUTCOMES = ["lost", "succeeded", "cancelled"];

const RUNS = [
  {},
  { role: "reader", workspace: { kind: "files", files: [{ path: "a.txt", content: "a\n" }] } },
] as const;

let home: string;
let root: string;
let started: Starting[];

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "pillion-storm-"));
  home = join(root, "home");
  started = [];
});
afterEach(async () => {
  for (const service of started) await service.kill();
  rmSync(root, { recursive: true, force: true });
});

function begin(): Starting {
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

const toLabel = (): string => `org.pillion.instance=${readFileSync(join(home, "instance"), "utf8")}`;
const readRunning = async () =>
  (await readContainers(readEngineHost(), toLabel())).filter(({ State }) => State === "running");

/** Milliseconds until no container of the instance runs any more. */
async function waitUntilNoneRuns(): Promise<number> {
  const startedMs = performance.now();
  while ((await readRunning()).length > 0) {
    expect(performance.now() - startedMs).toBeLessThan(GONE_MS);
    await sleep(20);
  }
  return performance.now() - startedMs;
}

describe("S3.12 after the sidecar was killed at a random moment", () => {
  test(`no container runs on, the next start leaves none, and each run has one end (${KILLS} times)`, async () => {
    const seed = Number(process.env.PILLION_TEST_SEED ?? randomInt(1, 2 ** 31));
    const random = createRandom(seed);
    console.log(`docker kill storm: seed ${seed} (PILLION_TEST_SEED repeats it)`);
    const startedMs = performance.now();
    const [outcomes, found]: Record<string, number>[] = [{}, {}];
    const count = (where: Record<string, number> = {}, name: string) =>
      (where[name] = (where[name] ?? 0) + 1);
    const goneMs: number[] = [];
    let service = await begin().ready;
    for (let round = 0; round < KILLS; round += 1) {
      const acknowledged: Acknowledged[] = [];
      const listening = RUNS.map((fields) => startAndListen(service, acknowledged, fields));
      await sleep(random() * MOST_MS);
      const isHard = random() < 0.75;
      count(found, isHard ? "SIGKILL" : "SIGTERM");
      if (isHard) await service.kill();
      else expect(await service.stop()).toBe(0);
      await Promise.all(listening);
      goneMs.push(await waitUntilNoneRuns());
      const stopped = await readContainers(readEngineHost(), toLabel());
      for (const { State } of stopped) count(found, `${isHard ? "killed" : "stopped"}, ${State}`);
      if (!isHard) expect([...stopped, ...(await readVolumes(readEngineHost(), toLabel()))]).toEqual([]);

      if (random() < 0.2) {
        const interrupted = begin();
        await sleep(random() * 500);
        await interrupted.kill();
      }
      service = await begin().ready;
      expect(await readContainers(readEngineHost(), toLabel())).toEqual([]);
      expect(await readVolumes(readEngineHost(), toLabel())).toEqual([]);
      for (const run of acknowledged) count(outcomes, await expectWhole(service, run, OUTCOMES));
    }
    const sorted = goneMs.toSorted((one, other) => one - other);
    console.log(
      `docker kill storm: ${KILLS} rounds in ${((performance.now() - startedMs) / 1000).toFixed(0)} s, ` +
        `${JSON.stringify(found)}, ${JSON.stringify(outcomes)}, no container running after ` +
        `${sorted[Math.floor(sorted.length / 2)]?.toFixed(0)} ms (median), ${sorted.at(-1)?.toFixed(0)} ms (most)`,
    );
    expect(outcomes?.lost ?? 0).toBeGreaterThan(0);
    expect((await call(`${service.url}/readyz`)).status).toBe(200);
    expect(await service.stop()).toBe(0);
  }, 600_000);

  test("a run that is going on is seen running (control)", async () => {
    const service = await begin().ready;
    const acknowledged: Acknowledged[] = [];
    const listening = startAndListen(service, acknowledged);
    const startedMs = performance.now();
    while ((await readRunning()).length === 0) {
      expect(performance.now() - startedMs).toBeLessThan(15_000);
      await sleep(20);
    }
    await listening;
    expect(await readRunning()).toEqual([]);
  });
});
