// Nothing but the door leads out of a sandbox: every probe fails inside and no sink sees it; each control reaches its sink.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isLacking } from "../escape/call-probe.ts";
import { Tally } from "../escape/tally.ts";
import type { Hit, PacketCounts } from "../fakes/lab-words.ts";
import { canOpenLab, type NetworkLab, openNetworkLab } from "../fakes/network-lab.ts";
import { isAtSink, NETWORK_PROBES, type NetworkProbe, PROBE_ZONE } from "./network-probes.ts";
import {
  canOpenEngine,
  openDockerPlace,
  openLocalPlace,
  type PlaceName,
  type ProbePlace,
} from "./probe-places.ts";
import { SOCKET_PROBES } from "./socket-probes.ts";

const PROBES: readonly NetworkProbe[] = [...NETWORK_PROBES, ...SOCKET_PROBES];
const NO_PACKETS: PacketCounts = { tcpSegments: 0, udpDatagrams: 0, pings: 0 };

type Kind = {
  readonly name: PlaceName;
  readonly can: boolean;
  readonly open: (lab: NetworkLab) => Promise<ProbePlace>;
};

const KINDS: readonly Kind[] = [
  { name: "local", can: canOpenLab, open: openLocalPlace },
  { name: "docker", can: canOpenLab && canOpenEngine, open: openDockerPlace },
];

const tally = new Tally();
afterAll(() => console.log(`network probes: ${tally.toLines().join("\n")}`));

test("S3.4 at least 60 network probes, all of them different", () => {
  expect(new Set(PROBES.map((probe) => probe.class)).size).toBe(PROBES.length);
  expect(PROBES.length).toBeGreaterThanOrEqual(60);
});

describe.each(KINDS.filter(({ can }) => can))("S3.4 the network from a $name sandbox", ({ name, open }) => {
  const held = new AsyncDisposableStack();
  const inside = new Map<string, string>();
  let [lab, place]: [NetworkLab?, ProbePlace?] = [];
  let seen:
    | { readonly hits: readonly Hit[]; readonly packets: PacketCounts; readonly neighbourHits: number }
    | undefined;

  beforeAll(async () => {
    lab = held.use(await openNetworkLab({ zone: PROBE_ZONE }));
    place = held.use(await open(lab));
    await lab.reset();
    for (const probe of PROBES) inside.set(probe.class, await probe.work(place.inside, place.neighbour));
    seen = {
      ...{ hits: await lab.hits(), packets: await lab.packets() },
      neighbourHits: await place.neighbour.hits(),
    };
  }, 120_000);
  afterAll(() => held.disposeAsync());

  test("no probe reached any sink, and the kernel there counted no packet", () => {
    expect(inside.size).toBe(PROBES.length);
    expect(seen).toEqual({ hits: [], packets: NO_PACKETS, neighbourHits: 0 });
  });

  test.each(PROBES)("$class: out of a run's reach, and not of another's", async (probe) => {
    await lab!.reset();
    const before = await place!.neighbour.hits();
    const control = await probe.work(place!.controls[probe.from], place!.neighbour);
    if (isLacking(control)) tally.lack(name, `${probe.class} (${control})`);
    else tally.begin(name);
    expect(inside.get(probe.class)).toBeOneOf([...probe.inside]);
    if (isLacking(control)) return;
    expect(control).toBe("ok");
    const count = async (): Promise<number> =>
      probe.sink === "neighbour" ? (await place!.neighbour.hits()) - before : countHits(lab!, probe);
    await expect.poll(count).toBeGreaterThanOrEqual(1);
    tally.hold(name);
  });
});

/** How often the control reached what it was meant for. */
async function countHits(lab: NetworkLab, { sink }: NetworkProbe): Promise<number> {
  if (sink === "answer" || sink === "neighbour") return 1; // it sends nothing: that it was let do it is the whole answer
  if (sink === "ping") return (await lab.packets()).pings;
  return (await lab.hits()).filter((hit) => isAtSink(hit, sink)).length;
}
