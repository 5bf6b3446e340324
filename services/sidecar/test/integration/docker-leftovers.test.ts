/** Two instances on one engine, both with live runs: a sweep takes what belongs to no live run of its own instance, and nothing else. */
import { randomUUID } from "node:crypto";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { DockerPlaces } from "../../src/sandboxes/docker/docker-places.ts";
import { openSandbox } from "../../src/sandboxes/open-sandbox.ts";
import type { Sandbox } from "../../src/sandboxes/sandbox.ts";
import { AGENT_IMAGE, docker, readEngineHost, toDockerPlaces, toSpec } from "../behaviours/open-places.ts";
import { readContainers, readVolumes } from "../fakes/engine-list.ts";
import { EngineProxy } from "../fakes/engine-proxy.ts";

type Instance = { readonly name: string; readonly places: DockerPlaces; readonly label: string };

let held: AsyncDisposableStack;

beforeEach(() => {
  held = new AsyncDisposableStack();
});
afterEach(() => held.disposeAsync());

async function open(host = readEngineHost()): Promise<Instance> {
  const name = `test${randomUUID().slice(0, 8)}`;
  const places = toDockerPlaces(name, { host });
  await places.probe();
  held.defer(async () => void (await places.sweep()));
  return { name, places, label: `org.pillion.instance=${name}` };
}

async function openRun({ places }: Instance, readOnly = false): Promise<Sandbox> {
  const files = readOnly ? [{ path: "a.txt", executable: false, content: Buffer.from("a\n") }] : [];
  const spec = toSpec(`run_${randomUUID()}`, { readOnly, files });
  const sandbox = await openSandbox(
    places,
    spec,
    (connection) => connection.destroy(),
    AbortSignal.timeout(30_000),
  );
  held.use(sandbox);
  return sandbox;
}

/** As a run would have it that was given up. */
function leave(
  { name }: Instance,
  labels: Record<string, string>,
  isRunning = false,
): { container: string; volume: string } {
  const all = Object.entries({ "org.pillion.instance": name, ...labels });
  const options = all.flatMap(([key, value]) => ["--label", `${key}=${value}`]);
  const volume = docker(["volume", "create", ...options]);
  const what = [
    "--network",
    "none",
    ...options,
    "-v",
    `${volume}:/x`,
    "--entrypoint",
    "sleep",
    AGENT_IMAGE,
    "600",
  ];
  const container = docker([...(isRunning ? ["run", "-d"] : ["create"]), ...what]);
  held.defer(() => {
    if (docker(["ps", "-aq", "--no-trunc"]).includes(container)) docker(["rm", "-f", container]);
    docker(["volume", "rm", "-f", volume]);
  });
  return { container, volume };
}

const readAll = async ({ label }: Instance): Promise<string[]> =>
  [
    ...(await readContainers(readEngineHost(), label)).map(({ Id }) => Id),
    ...(await readVolumes(readEngineHost(), label)),
  ].sort();

const LONG_AGO = "1000000000";

test("S2.13 what is left of runs goes, running or not, expired or not; live runs and another instance's stay", async () => {
  const [own, other] = await Promise.all([open(), open()]);
  const live = [await openRun(own), await openRun(own, true), await openRun(other)];
  const [ownLive, otherLive] = [await readAll(own), await readAll(other)];
  expect([ownLive.length, otherLive.length]).toEqual([3, 1]); // a reader has a volume too

  const expired = { "org.pillion.expires": LONG_AGO };
  leave(own, { "org.pillion.run": "run_gone" });
  leave(own, { "org.pillion.run": "run_gone_too", ...expired }, true);
  const shared = leave(own, {}); // of no run: not a run's leftover
  const others = leave(other, { "org.pillion.run": "run_elsewhere", ...expired });

  expect(await own.places.reap()).toBe(2);
  expect(await readAll(own)).toEqual([...ownLive, shared.container, shared.volume].sort());
  expect(await readAll(other)).toEqual([...otherLive, others.container, others.volume].sort());
  expect(await own.places.reap()).toBe(0);
  for (const sandbox of live) expect(await sandbox.clear()).toBe(0); // they still answer
});

test("a run that is being set up is never taken for one that is left over", async () => {
  const own = await open();
  let isOver = false;
  let sweeps = 0;
  const sweeping = (async () => {
    while (!isOver) {
      expect(await own.places.reap()).toBe(0);
      sweeps += 1;
    }
  })();
  const sandboxes = await Promise.all([openRun(own), openRun(own, true), openRun(own)]);
  for (const sandbox of sandboxes) expect(await sandbox.clear()).toBe(0);
  await Promise.all(sandboxes.map((sandbox) => sandbox.close()));
  isOver = true;
  await sweeping;
  expect(sweeps).toBeGreaterThan(2);
  expect(await readAll(own)).toEqual([]);
});

test.each(["create", "create volume", "attach", "start"] as const)(
  "what was made is gone before the failure is told where the answer to %s was lost, without any sweep",
  async (call) => {
    const proxy = held.use(await EngineProxy.open(readEngineHost()));
    const own = await open(proxy.host);
    proxy.trouble({ kind: "lose" }, call);
    await expect(openRun(own, call === "create volume")).rejects.toMatchObject({
      code: "sandbox_unavailable",
      retryable: true,
    });
    expect(proxy.count(call)).toBe(1);
    expect(await readAll(own)).toEqual([]);
    proxy.calm();
  },
);

test("a container's label of expiry lies after all that its run may take", async () => {
  const own = await open();
  const before = Date.now() / 1000;
  await openRun(own);
  const [container] = await readContainers(readEngineHost(), own.label);
  const expiresS = Number(container?.Labels["org.pillion.expires"]);
  expect(expiresS - before).toBeGreaterThanOrEqual(600); // what the places were made with
  expect(expiresS - Date.now() / 1000).toBeLessThanOrEqual(601);
});
