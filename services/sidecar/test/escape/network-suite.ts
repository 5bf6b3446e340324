/** Everything but the door is out of reach: services of the host, of other containers, and whatever lies behind a route. */
import { randomUUID } from "node:crypto";
import { createServer } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { docker } from "../behaviours/open-places.ts";
import { type OpenedControl, type OpenedRun, openControl, openRun } from "./containers.ts";
import type { Hand } from "./hand.ts";
import type { Tally } from "./tally.ts";

type Targets = {
  /** Ports of services on this machine: on loopback, and on the test's own network. */
  readonly loopback: number;
  readonly loopback6: number;
  readonly abstractName: string;
  readonly host: string;
  readonly hostPort: number;
  /** Another container of the test's own network. */
  readonly container: string;
  readonly containerName: string;
};

type NetworkProbe = {
  readonly class: string;
  readonly inside: string;
  /** Which container without protection reaches it: one on the host's own network, or one on the test's. */
  readonly from: "host" | "network";
  readonly work: (hand: Hand, targets: Targets) => Promise<string>;
};

const CONTAINER_PORT = 8080;

/** `host` is an address, or the path or abstract name of a socket when there is no port. */
const connectTo = (host: string, port: number): Promise<string> =>
  new Promise((resolve) => {
    const net = process.getBuiltinModule("node:net");
    const socket = port === 0 ? net.connect(host) : net.connect(port, host);
    socket.once("connect", () => resolve("ok"));
    socket.once("error", (error: NodeJS.ErrnoException) => resolve(String(error.code)));
    socket.once("connect", () => socket.destroy());
  });

/** Connecting a datagram socket only asks for a route: nothing is sent. */
const routeTo = (address: string): Promise<string> =>
  new Promise((resolve) => {
    const socket = process.getBuiltinModule("node:dgram").createSocket("udp4");
    const end = (answer: string): void => void socket.close(() => resolve(answer));
    socket.once("connect", () => end("ok"));
    socket.once("error", (error: NodeJS.ErrnoException) => end(String(error.code)));
    socket.connect(9, address);
  });

const resolveName = (name: string): Promise<string> =>
  process
    .getBuiltinModule("node:dns")
    .promises.lookup(name)
    .then(
      () => "ok",
      () => "unknown",
    );

const PROBES: readonly NetworkProbe[] = [
  {
    ...{ class: "a service on the host's loopback", inside: "ECONNREFUSED", from: "host" },
    work: (hand, { loopback }) => hand.do(connectTo, "127.0.0.1", loopback),
  },
  {
    ...{ class: "a service on the host's loopback by IPv6", inside: "ECONNREFUSED", from: "host" },
    work: (hand, { loopback6 }) => hand.do(connectTo, "::1", loopback6),
  },
  {
    ...{ class: "a socket of the host by its abstract name", inside: "ECONNREFUSED", from: "host" },
    work: (hand, { abstractName }) => hand.do(connectTo, abstractName, 0),
  },
  {
    ...{ class: "a service of the host by the engine's network", inside: "ENETUNREACH", from: "network" },
    work: (hand, { host, hostPort }) => hand.do(connectTo, host, hostPort),
  },
  {
    ...{ class: "another container", inside: "ENETUNREACH", from: "network" },
    work: (hand, { container }) => hand.do(connectTo, container, CONTAINER_PORT),
  },
  {
    ...{ class: "names of other containers", inside: "unknown", from: "network" },
    work: (hand, { containerName }) => hand.do(resolveName, containerName),
  },
  {
    ...{ class: "a route to the cloud's metadata", inside: "ENETUNREACH", from: "network" },
    work: (hand) => hand.do(routeTo, "169.254.169.254"),
  },
  {
    ...{ class: "a route to the internet", inside: "ENETUNREACH", from: "network" },
    work: (hand) => hand.do(routeTo, "192.0.2.1"),
  },
  {
    ...{ class: "a route to every neighbour at once", inside: "ENETUNREACH", from: "network" },
    work: (hand) => hand.do(routeTo, "224.0.0.251"),
  },
];

const serve = (port: number): Promise<void> =>
  new Promise((resolve) => {
    const server = process.getBuiltinModule("node:net").createServer((socket) => socket.destroy());
    server.listen(port, () => resolve());
  });

/** A service of this machine; resolves to its port. */
async function openService(
  held: AsyncDisposableStack,
  where: { host?: string; path?: string },
): Promise<number> {
  const server = createServer((socket) => socket.destroy());
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject);
  server.listen(where.path === undefined ? { port: 0, ...where } : where, resolve);
  await promise;
  held.defer(() => void server.close());
  const address = server.address();
  return typeof address === "object" && address !== null ? address.port : 0;
}

async function openTargets(held: AsyncDisposableStack, network: string): Promise<Targets> {
  const target = held.use(await openControl(["--network", network]));
  await target.hand().do(serve, CONTAINER_PORT);
  const ask = (format: string, ...what: string[]): string => docker([...what, "--format", format]);
  const host = ask("{{(index .IPAM.Config 0).Gateway}}", "network", "inspect", network);
  const container = ask(
    `{{(index .NetworkSettings.Networks "${network}").IPAddress}}`,
    ...["inspect", target.container],
  );
  const abstractName = `\0pillion-${randomUUID()}`;
  await openService(held, { path: abstractName });
  return {
    loopback: await openService(held, { host: "127.0.0.1" }),
    loopback6: await openService(held, { host: "::1" }),
    hostPort: await openService(held, { host }),
    containerName: target.container.slice(0, 12),
    ...{ abstractName, host, container },
  };
}

export function probeNetwork(tally: Tally): void {
  describe("S3.4 the network", () => {
    const held = new AsyncDisposableStack();
    let [run, targets]: [OpenedRun?, Targets?] = [];
    let controls: Readonly<Record<"host" | "network", OpenedControl>> | undefined;
    beforeAll(async () => {
      const network = `pillion-escape-${randomUUID().slice(0, 8)}`;
      docker(["network", "create", network]);
      held.defer(() => void docker(["network", "rm", network]));
      targets = await openTargets(held, network);
      run = held.use(await openRun());
      controls = {
        host: held.use(await openControl(["--network", "host"])),
        network: held.use(await openControl(["--network", network])),
      };
    });
    afterAll(() => held.disposeAsync());

    test.each(PROBES)("$class: out of a run's reach, and in a plain container's", async (probe) => {
      tally.begin("network");
      expect(await probe.work(run!.hand, targets!)).toBe(probe.inside);
      expect(await probe.work(controls![probe.from].hand(), targets!)).toBe("ok");
      tally.hold("network");
    });
  });
}
