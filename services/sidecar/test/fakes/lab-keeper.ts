/** Keeps a laboratory's namespaces: sets the network up, opens sinks and names, obeys lines of JSON, ends with its stdin. */
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { isLinkLocal, layCables } from "./lab-cables.ts";
import { LabNames } from "./lab-names.ts";
import { joinSockets, openRelayed, serveRelay } from "./lab-relay.ts";
import { LabSinks } from "./lab-sinks.ts";
import {
  CABLE,
  ENGINE_RESOLVER,
  type Hit,
  type KeeperOrder,
  type KeeperSetting,
  LAB_RESOLVER,
  type PacketCounts,
} from "./lab-words.ts";

const setting: KeeperSetting = JSON.parse(process.argv[2] ?? "");
const { directory, addresses, ports } = setting;
if (readlinkSync("/proc/self/ns/net") === setting.outside)
  throw new Error("the laboratory has no network of its own");

layCables(setting);
if (setting.part.name !== "house") bindFiles(); // it shares the street's files

const outside = join(directory, "out.sock");
const hits: Hit[] = [];
const tell = (hit: Hit): void => void hits.push(hit);
const [names, sinks] = [
  new LabNames(tell),
  new LabSinks(tell, (port) => openRelayed(outside, "127.0.0.1", port)),
];
const scoped = addresses.map((address) => (isLinkLocal(address) ? `${address}%${CABLE}` : address));
await names.listen([...scoped, LAB_RESOLVER, ENGINE_RESOLVER], 53);
await sinks.listenUnix();
const read = (name: string): Buffer => readFileSync(join(directory, name));
const bad = Object.entries(setting.badCertificates).map(
  ([name, what]) => [name, read(`${what}.pem`)] as const,
);
await sinks.listen(ports, scoped, { cert: read("leaf.pem"), key: read("leaf.key"), bad: new Map(bad) });
if (setting.part.name !== "street") await serveRelay(join(directory, "in.sock"));
const base = { counts: readCounts() };

const lines = createInterface({ input: process.stdin });
lines.on("line", async (line) => {
  const { id, order }: { id: number; order: KeeperOrder } = JSON.parse(line);
  const answer = await obey(order).then(
    (value) => ({ id, value }),
    (error: unknown) => ({ id, error: String(error) }),
  );
  process.stdout.write(`${JSON.stringify(answer)}\n`);
});
lines.on("close", () => process.exit(0));
process.stdout.write(`${JSON.stringify({ id: 0, value: "ready" })}\n`);

async function obey(order: KeeperOrder): Promise<unknown> {
  if (order.do === "zone") return names.setZone(order.zone);
  if (order.do === "answers") return sinks.setAnswers(order.answers);
  if (order.do === "lend") return lend(order.port);
  if (order.do === "hits") return hits;
  if (order.do === "packets") return subtract(readCounts(), base.counts);
  base.counts = readCounts();
  hits.length = 0;
  return undefined;
}

function bindFiles(): void {
  const files = {
    "resolv.conf": `nameserver ${LAB_RESOLVER}\noptions timeout:1 attempts:1\n`,
    hosts: "127.0.0.1 localhost\n::1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
  };
  for (const [name, text] of Object.entries(files)) {
    writeFileSync(join(directory, name), text, { mode: 0o644 });
    execFileSync("mount", ["--bind", join(directory, name), `/etc/${name}`]);
  }
}

/** What listens on the test's loopback answers on the laboratory's too, by the same port. */
async function lend(port: number): Promise<void> {
  const server = createServer({ allowHalfOpen: true }, (socket) =>
    joinSockets(socket, openRelayed(outside, "127.0.0.1", port)),
  );
  server.listen({ host: "127.0.0.1", port });
  await once(server, "listening");
}

function subtract(now: PacketCounts, then: PacketCounts): PacketCounts {
  return {
    tcpSegments: now.tcpSegments - then.tcpSegments,
    udpDatagrams: now.udpDatagrams - then.udpDatagrams,
    pings: now.pings - then.pings,
  };
}

/** proc(5): one line of names and one of numbers for each protocol; IPv6 has a line for each number. */
function readCounts(): PacketCounts {
  const rows = readFileSync("/proc/net/snmp", "utf8")
    .split("\n")
    .map((line) => line.split(/:? /));
  const read = (protocol: string, name: string): number => {
    const [titles, numbers] = rows.filter(([first]) => first === protocol);
    return Number(numbers?.[titles?.indexOf(name) ?? -1]);
  };
  const rows6 = new Map(
    readFileSync("/proc/net/snmp6", "utf8")
      .split("\n")
      .map((line) => [line.split(/\s+/)[0], Number(line.split(/\s+/)[1])]),
  );
  const read6 = (name: string): number => rows6.get(name) ?? 0;
  return {
    tcpSegments: read("Tcp", "InSegs"),
    udpDatagrams:
      read("Udp", "InDatagrams") + read("Udp", "NoPorts") + read6("Udp6InDatagrams") + read6("Udp6NoPorts"),
    pings: read("Icmp", "InEchos") + read6("Icmp6InEchos"),
  };
}
