/** Where network probes run: a real run's sandbox of either kind, and beside it, in the same laboratory, what nothing protects. */
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Duplex } from "node:stream";
import { AGENT_IMAGE, findDockerClient, readEngineHost } from "../behaviours/open-places.ts";
import { openControl, openRun } from "../escape/containers.ts";
import { HAND_SCRIPT, Hand } from "../escape/hand.ts";
import { type Hit, LAB_ADDRESSES } from "../fakes/lab-words.ts";
import type { NetworkLab } from "../fakes/network-lab.ts";
import { OwnEngine } from "../fakes/own-engine.ts";

export type PlaceName = "local" | "docker";

/** A hand, and where it may write what it executes. */
export type Worker = { readonly hand: Hand; readonly folder: string };

/** What stands beside a sandbox and takes TCP and UDP at one port: with an engine a container of it, else a sink. */
export type Neighbour = {
  readonly address: string;
  readonly address6: string;
  readonly port: number;
  /** How often it was reached until now. */
  hits(): Promise<number>;
};

export type ProbePlace = AsyncDisposable & {
  readonly inside: Worker;
  readonly neighbour: Neighbour;
  /** In the laboratory's own network, and in one beside it that leads there: a plain container's. */
  readonly controls: Readonly<Record<"host" | "network", Worker>>;
};

/** The engine's own program lies beside its client, and may be started by root only. */
export const canOpenEngine =
  process.getuid?.() === 0 && existsSync(OwnEngine.findProgram(findDockerClient()));

/** What an engine does for its containers where it may; the laboratory has no route to lead them out by. */
const NETWORK = {
  ...{ bip: "172.17.0.1/16", dns: ["172.17.0.1"], ipv6: true, "fixed-cidr-v6": "fd00:d0c:e::/64" },
  ...{ iptables: false, ip6tables: false, "ip-forward": false, "ip-masq": false, "userland-proxy": false },
};

const readNamespace = (): string => process.getBuiltinModule("node:fs").readlinkSync("/proc/self/ns/net");

/** Before anything is sent: the controls would reach the addresses themselves if they were anywhere else. */
async function checkPlaces(lab: NetworkLab, inside: Hand, control: Hand): Promise<void> {
  const [run, host] = [await inside.do(readNamespace), await control.do(readNamespace)];
  if (host !== lab.namespace) throw new Error("a control is not in the laboratory");
  if (run === readNamespace()) throw new Error("a run is in the test's own network");
}

/** A program in the laboratory needs no container to reach all of it. */
export async function openLocalPlace(lab: NetworkLab): Promise<ProbePlace> {
  await using held = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), "pillion-probes-"));
  held.defer(() => rm(folder, { recursive: true, force: true }));
  const start = (...args: string[]): Hand => {
    const child = lab.start([process.execPath, ...args]);
    child.stderr.resume();
    const ended = new Promise((resolve) => child.once("close", resolve));
    held.defer(async () => {
      child.stdin.end();
      await ended;
    });
    return new Hand(Duplex.from({ readable: child.stdout, writable: child.stdin }));
  };
  const inside = start(join(import.meta.dirname, "local-run.ts"));
  const control = { hand: start("-e", HAND_SCRIPT), folder };
  await checkPlaces(lab, inside, control.hand);
  const [address, address6] = [LAB_ADDRESSES.containers[0], LAB_ADDRESSES.hosts6[0]];
  const isNeighbour = (hit: Hit): boolean => hit.address === address || hit.address === address6;
  const end = held.move();
  return {
    neighbour: {
      ...{ address, address6, port: 443 }, // a port of TCP and UDP sinks
      hits: async () => (await lab.hits()).filter(isNeighbour).length,
    },
    inside: { hand: inside, folder: "/workspace" },
    controls: { host: control, network: control },
    [Symbol.asyncDispose]: () => end.disposeAsync(),
  };
}

/** The engine itself is in the laboratory: a container on its bridge reaches every address there by its gateway. */
export async function openDockerPlace(lab: NetworkLab): Promise<ProbePlace> {
  await using held = new AsyncDisposableStack();
  const image = { from: readEngineHost(), name: AGENT_IMAGE };
  const engine = held.use(
    await OwnEngine.open(findDockerClient(), image, { prefix: lab.prefix, network: NETWORK }),
  );
  const run = held.use(await openRun({ engine: engine.host }));
  const open = async (network: string): Promise<Worker> => {
    const flags = ["--network", network, "--cap-add", "NET_ADMIN"];
    const control = held.use(await openControl(flags, engine.host));
    return { hand: control.hand(), folder: "/workspace" };
  };
  const controls = { host: await open("host"), network: await open("bridge") };
  await checkPlaces(lab, run.hand, controls.host.hand);
  const neighbour = await openNeighbour((await open("bridge")).hand);
  const end = held.move();
  return {
    neighbour,
    inside: { hand: run.hand, folder: "/workspace" },
    controls,
    [Symbol.asyncDispose]: () => end.disposeAsync(),
  };
}

/** Makes a container count what reaches it. */
async function openNeighbour(hand: Hand): Promise<Neighbour> {
  const port = 8080;
  const { address, address6 } = await hand.do(async (at: number) => {
    const heard = { hits: 0 };
    const hear = (): void => {
      heard.hits += 1;
    };
    Object.assign(globalThis, { heard });
    const server = process.getBuiltinModule("node:net").createServer((socket) => {
      hear();
      socket.on("error", () => undefined).resume();
    });
    await new Promise<void>((resolve) => void server.listen(at, "::", resolve));
    const udp = process.getBuiltinModule("node:dgram").createSocket("udp4").on("message", hear);
    await new Promise<void>((resolve) => void udp.bind(at, resolve));
    const own = process.getBuiltinModule("node:os").networkInterfaces().eth0 ?? [];
    const find = (family: string): string =>
      own.find((one) => one.family === family && !one.address.startsWith("fe80:"))?.address ?? "";
    return { address: find("IPv4"), address6: find("IPv6") };
  }, port);
  const hits = (): Promise<number> =>
    hand.do(() => (globalThis as unknown as { heard: { hits: number } }).heard.hits); // set above
  return { address, address6, port, hits };
}
