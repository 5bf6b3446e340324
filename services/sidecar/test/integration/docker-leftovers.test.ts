/** Two instances on one engine, both with live runs: a sweep takes what belongs to no live run of its own instance, and nothing else. */
import { randomUUID } from "node:crypto";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
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

async function openRun(
  { places }: Instance,
  readOnly = false,
  more: { readonly image?: string } = {},
): Promise<Sandbox> {
  const files = readOnly ? [{ path: "a.txt", executable: false, content: Buffer.from("a\n") }] : [];
  const spec = toSpec(`run_${randomUUID()}`, { readOnly, files, ...more });
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

/** What carries the product into images of another's: fillers and volumes. */
async function readProduct({ name }: Instance): Promise<[containers: number, volumes: number]> {
  const label = `org.pillion.product=${name}`;
  const found = [await readContainers(readEngineHost(), label), await readVolumes(readEngineHost(), label)];
  return [found[0]?.length ?? 0, found[1]?.length ?? 0];
}

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

test("the labels of expiry lie after all that the run may take", async () => {
  const own = await open();
  const before = Date.now() / 1000;
  await openRun(own, true);
  const [container] = await readContainers(readEngineHost(), own.label);
  const [volume = ""] = await readVolumes(readEngineHost(), own.label);
  const told = docker(["volume", "inspect", "-f", '{{index .Labels "org.pillion.expires"}}', volume]);
  for (const expiresS of [Number(container?.Labels["org.pillion.expires"]), Number(told)]) {
    expect(expiresS - before).toBeGreaterThanOrEqual(600); // what the places were made with
    expect(expiresS - Date.now() / 1000).toBeLessThanOrEqual(601);
  }
});

test("S2.13 an engine that was away at the start is looked into once it is there, though nobody asks for it", async () => {
  const proxy = held.use(await EngineProxy.open(readEngineHost()));
  const name = `test${randomUUID().slice(0, 8)}`;
  const own = {
    ...{ name, label: `org.pillion.instance=${name}` },
    places: toDockerPlaces(name, { host: proxy.host }),
  };
  leave(own, { "org.pillion.run": "run_gone" });
  const label = ["--label", `org.pillion.product=${name}`];
  const product = docker(["volume", "create", ...label]);
  held.defer(() => void docker(["volume", "rm", "-f", product]));
  await proxy.goAway();
  expect(await own.places.probe()).toMatchObject({ available: false });
  await own.places.sweep();
  expect(await own.places.reap()).toBe(0);
  expect([(await readAll(own)).length, await readProduct(own)]).toEqual([2, [0, 1]]);

  await proxy.comeBack();
  expect(await own.places.reap()).toBe(1);
  expect([await readAll(own), await readProduct(own)]).toEqual([[], [0, 0]]);
});

test("what fails while a volume is filled is told, also where cleaning up fails too", async () => {
  const proxy = held.use(await EngineProxy.open(readEngineHost()));
  const own = await open(proxy.host);
  const full = "write /var/lib/docker/x: no space left on device";
  proxy.trouble({ kind: "fail", status: 500, message: full }, "fill");
  proxy.trouble({ kind: "fail", status: 500, message: "it broke" }, "remove");
  await expect(openRun(own, true)).rejects.toMatchObject({ code: "storage_full" });
  expect(proxy.count("remove")).toBeGreaterThan(0);
  proxy.calm();
  expect(await own.places.reap()).toBe(1);
  expect(await readAll(own)).toEqual([]);
});

test("the product's volume is made once though what filled it cannot be removed; a sweep takes that, and not the volume", async () => {
  const proxy = held.use(await EngineProxy.open(readEngineHost()));
  const own = await open(proxy.host);
  held.defer(() => own.places.close());
  const image = docker(["image", "inspect", "-f", "{{.Id}}", AGENT_IMAGE]);
  proxy.trouble({ kind: "fail", status: 500, message: "it broke" }, "remove");
  const sandboxes = [await openRun(own, false, { image }), await openRun(own, false, { image })];
  expect(await readProduct(own)).toEqual([1, 1]);
  proxy.calm();
  expect(await own.places.reap()).toBe(0);
  expect(await readProduct(own)).toEqual([0, 1]);
  for (const sandbox of sandboxes) expect(await sandbox.clear()).toBe(0); // they still answer
  await Promise.all(sandboxes.map((sandbox) => sandbox.close()));
  await own.places.close();
  expect(await readProduct(own)).toEqual([0, 0]);
});

test("the product's volumes of a process that was killed go though runs of it had them mounted", async () => {
  const killed = await open();
  const label = `org.pillion.product=${killed.name}`;
  const volume = docker(["volume", "create", "--label", label]);
  held.defer(() => void docker(["volume", "rm", "-f", volume]));
  const run = ["--label", killed.label, "--label", "org.pillion.run=run_gone"];
  const container = docker(["create", "--network", "none", ...run, "-v", `${volume}:/x`, AGENT_IMAGE]);
  expect(container).not.toBe("");
  expect(await killed.places.sweep()).toBe(1);
  expect(await readProduct(killed)).toEqual([0, 0]);
});

test("what the engine made late is gone when the service has ended", async () => {
  const own = await open();
  const other = await open();
  const late = leave(own, { "org.pillion.run": "run_given_up" }, true);
  const others = leave(other, { "org.pillion.run": "run_elsewhere" });
  expect(await readAll(own)).toEqual([late.container, late.volume].sort()); // the control: it is there
  await own.places.close();
  expect(await readAll(own)).toEqual([]);
  expect(await readAll(other)).toEqual([others.container, others.volume].sort());
});

test("what is known of an engine is not forgotten for a look that began while it was silent", async () => {
  const proxy = held.use(await EngineProxy.open(readEngineHost()));
  const places = toDockerPlaces(`test${randomUUID().slice(0, 8)}`, { host: proxy.host });
  held.defer(() => places.close());
  proxy.trouble({ kind: "hang" }, "info");
  const reaping = places.reap();
  await vi.waitFor(() => expect(proxy.count("info")).toBe(1), 10_000);
  proxy.calm();
  expect(await places.probe()).toMatchObject({ available: true });
  await reaping;
  // It is not asked again: without an answer runs would ask for more processors than there are.
  expect(await places.probe()).toMatchObject({ available: true });
  expect(proxy.count("info")).toBe(1); // since it was calm
});

test.each(["create", "create volume"] as const)(
  "what the engine was still making (%s) when its run was given up is gone when the service has ended",
  async (call) => {
    const proxy = held.use(await EngineProxy.open(readEngineHost()));
    const own = await open(proxy.host);
    const answered = Promise.withResolvers<void>();
    proxy.trouble({ kind: "hold", until: answered.promise }, call);
    const cancel = new AbortController();
    const spec = toSpec(`run_${randomUUID()}`, { readOnly: true, files: [] });
    const opened = openSandbox(own.places, spec, (connection) => connection.destroy(), cancel.signal);
    await vi.waitFor(() => expect(proxy.count(call)).toBe(1), 10_000);
    cancel.abort(new Error("given up"));
    await expect(opened).rejects.toThrow();
    proxy.calm();
    setTimeout(answered.resolve, 1_500); // longer than a look at what is there takes
    await own.places.close();
    await answered.promise;
    const other = await open(); // by the time that the engine has made another's, it has made this one's as well
    await openRun(other, true);
    expect(await readAll(own)).toEqual([]);
  },
);
