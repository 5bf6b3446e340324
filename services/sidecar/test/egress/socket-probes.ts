/** Ways to reach something from inside a sandbox that need the kernel's own calls: raw packets, routes, addresses. */
import { isIPv4 } from "node:net";
import ipaddr from "ipaddr.js";
import { type Argument, ints, type Step, step, text, words } from "../escape/call-program.ts";
import { issueCalls } from "../escape/probe-calls.ts";
import { LAB_ADDRESSES as AT } from "../fakes/lab-words.ts";
import type { NetworkProbe } from "./network-probes.ts";

const [INET, INET6, NETLINK, PACKET] = [2, 10, 16, 17];
const [STREAM, DATAGRAM, RAW] = [1, 2, 3];
const [ICMP, ICMP6, WHOLE_PACKETS, MULTIPATH] = [1, 58, 255, 262];
const [LEVEL_IP, IP_FREEBIND, IP_TRANSPARENT] = [0, 15, 19];
const [LEVEL_SOCKET, SO_MARK] = [1, 36];
const MSG_FASTOPEN = 0x20000000;
const [SIOCADDRT, SIOCSIFADDR] = [0x890b, 0x8916];
const [RTM_NEWADDR, RTM_NEWROUTE] = [20, 24];
/** NLM_F_REQUEST, NLM_F_EXCL, NLM_F_CREATE. */
const MAKE = 0x601;
/** Every network's first interface. */
const LOOPBACK = 1;
const PORT = 2375;

/** sockaddr_in or sockaddr_in6, as its bytes. */
function toSocketAddress(address: string, port = 0): Buffer {
  const bytes = Buffer.from(ipaddr.parse(address).toByteArray());
  const head = Buffer.alloc(4);
  head.writeUInt16LE(isIPv4(address) ? INET : INET6);
  head.writeUInt16BE(port, 2);
  return isIPv4(address)
    ? Buffer.concat([head, bytes, Buffer.alloc(8)])
    : Buffer.concat([head, Buffer.alloc(4), bytes, Buffer.alloc(4)]);
}

/** An address and its length, as two arguments. */
function toTarget(address: string, port = 0): [Argument, number] {
  const bytes = toSocketAddress(address, port);
  return [{ bytes }, bytes.length];
}

/** RFC 1071. */
function toChecksum(bytes: Buffer): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += bytes.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return ~sum & 0xffff;
}

function toEcho(type: number): Buffer {
  const packet = Buffer.from([type, 0, 0, 0, 0, 7, 0, 1]);
  packet.writeUInt16BE(toChecksum(packet), 2); // the kernel writes it anew for IPv6
  return packet;
}

/** A datagram with headers of our own making; its sender is somebody else. */
function toForgedPacket(from: string, to: string, port: number): Buffer {
  const [header, udp] = [Buffer.alloc(20), Buffer.alloc(8)];
  header.set([0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17]);
  header.set([...ipaddr.parse(from).toByteArray(), ...ipaddr.parse(to).toByteArray()], 12);
  for (const [value, at] of [
    [4000, 0],
    [port, 2],
    [udp.length, 4],
  ] as const)
    udp.writeUInt16BE(value, at);
  return Buffer.concat([header, udp]);
}

/** rtentry(7): a route to one host by loopback, which every network has. */
function toRoute(address: string): Argument {
  const toWords = (bytes: Buffer): bigint[] => [bytes.readBigUInt64LE(0), bytes.readBigUInt64LE(8)];
  const [host, none] = [toWords(toSocketAddress(address)), toWords(toSocketAddress("0.0.0.0"))];
  return words(0, ...host, ...none, ...none, 5 /* up, a host */, 0, 0, 0, text("lo"), 0, 0, 0);
}

/** ifreq: one more address on loopback. */
function toInterfaceAddress(name: string, address: string): Argument {
  return {
    bytes: Buffer.concat([Buffer.from(name.padEnd(16, "\0")), toSocketAddress(address), Buffer.alloc(8)]),
  };
}

/** rtnetlink(7): a message of its kind with attributes of four bytes each. */
function toNetlink(kind: number, body: Buffer, attributes: readonly (readonly [number, Buffer])[]): Buffer {
  const packed = attributes.map(([type, value]) => Buffer.concat([Buffer.from([8, 0, type, 0]), value]));
  const message = Buffer.concat([Buffer.alloc(16), body, ...packed]);
  message.writeUInt32LE(message.length);
  message.writeUInt16LE(kind, 4);
  message.writeUInt16LE(MAKE, 6);
  return message;
}

const toBytes = (address: string): Buffer => Buffer.from(ipaddr.parse(address).toByteArray());

/** ifaddrmsg: one more address on loopback. */
const NEW_ADDRESS = toNetlink(RTM_NEWADDR, Buffer.from([INET, 32, 0, 0, LOOPBACK, 0, 0, 0]), [
  [1, toBytes("10.9.9.8")],
  [2, toBytes("10.9.9.8")],
]);

/** rtmsg: in the main table, made at boot, of the link, unicast. */
const NEW_ROUTE = toNetlink(RTM_NEWROUTE, Buffer.from([INET, 32, 0, 0, 254, 3, 253, 1, 0, 0, 0, 0]), [
  [1, toBytes("203.0.113.78")],
  [4, Buffer.from([LOOPBACK, 0, 0, 0])],
]);

type Row = Partial<Pick<NetworkProbe, "inside" | "from" | "sink">>;

function probe(name: string, steps: readonly Step[], row: Row): NetworkProbe {
  return {
    ...{ class: name, inside: ["EPERM"], from: "network", sink: "answer", ...row },
    work: async ({ hand, folder }) => (await issueCalls(hand, [steps], folder))[0] ?? "nothing",
  };
}

const send = (bytes: Buffer, flags: number, address: string, port = 0): Step => [
  ...(["sendto", step(0), { bytes }, bytes.length, flags] as const),
  ...toTarget(address, port),
];

export const SOCKET_PROBES: readonly NetworkProbe[] = [
  probe("an echo by a raw socket", [["socket", INET, RAW, ICMP], send(toEcho(8), 0, AT.hosts[0])], {
    sink: "ping",
  }),
  probe(
    "an echo by a raw socket, IPv6",
    [["socket", INET6, RAW, ICMP6], send(toEcho(128), 0, AT.hosts6[0])],
    {
      sink: "ping",
    },
  ),
  probe("an echo by a datagram socket", [["socket", INET, DATAGRAM, ICMP], send(toEcho(8), 0, AT.hosts[0])], {
    ...{ sink: "ping", inside: ["EPERM", "EACCES", "ENETUNREACH"] },
  }),
  probe(
    "a packet with a forged sender",
    [
      ["socket", INET, RAW, WHOLE_PACKETS],
      send(toForgedPacket("172.17.0.9", AT.hosts[0], 4242), 0, AT.hosts[0]),
    ],
    { sink: { kind: "udp", port: 4242 } },
  ),
  probe("packets of every kind on the wire", [["socket", PACKET, RAW, 0x0300]], {}),
  probe(
    "a connection over several paths",
    [
      ["socket", INET, STREAM, MULTIPATH],
      ["connect", step(0), ...toTarget(AT.hosts[0], PORT)],
    ],
    { sink: { kind: "tcp", port: PORT }, inside: ["EPERM", "ENETUNREACH"] },
  ),
  probe(
    "words sent with the first packet of a connection",
    [["socket", INET, STREAM, 0], send(Buffer.from("x"), MSG_FASTOPEN, AT.hosts[0], PORT)],
    { sink: { kind: "tcp", port: PORT }, inside: ["ENETUNREACH"] },
  ),
  probe(
    "a connection from an address that is not one's own",
    [
      ["socket", INET, STREAM, 0],
      ["setsockopt", step(0), LEVEL_IP, IP_FREEBIND, ints(1), 4],
      ["bind", step(0), ...toTarget(AT.metadata[0])],
      ["connect", step(0), ...toTarget(AT.hosts[0], PORT)],
    ],
    { from: "host", sink: { kind: "tcp", port: PORT }, inside: ["ENETUNREACH", "EINVAL"] },
  ),
  probe(
    "a host's address as one's own",
    [
      ["socket", INET, STREAM, 0],
      ["bind", step(0), ...toTarget(AT.hosts[0])],
    ],
    {
      ...{ from: "host", inside: ["EADDRNOTAVAIL"] },
    },
  ),
  probe(
    "connections meant for others",
    [
      ["socket", INET, STREAM, 0],
      ["setsockopt", step(0), LEVEL_IP, IP_TRANSPARENT, ints(1), 4],
    ],
    {},
  ),
  probe(
    "a mark that chooses other routes",
    [
      ["socket", INET, STREAM, 0],
      ["setsockopt", step(0), LEVEL_SOCKET, SO_MARK, ints(7), 4],
    ],
    {},
  ),
  probe(
    "a route",
    [
      ["socket", INET, DATAGRAM, 0],
      ["ioctl", step(0), SIOCADDRT, toRoute("203.0.113.77")],
    ],
    {},
  ),
  probe(
    "one more address",
    [
      ["socket", INET, DATAGRAM, 0],
      ["ioctl", step(0), SIOCSIFADDR, toInterfaceAddress("lo:9", "10.9.9.9")],
    ],
    {},
  ),
  probe(
    "one more address by netlink",
    [
      ["socket", NETLINK, RAW, 0],
      ["sendto", step(0), { bytes: NEW_ADDRESS }, NEW_ADDRESS.length, 0, 0, 0],
      ["socket", INET, DATAGRAM, 0],
      ["bind", step(2), ...toTarget("10.9.9.8")],
    ],
    { inside: ["EPERM", "EADDRNOTAVAIL"] },
  ),
  probe(
    "a route by netlink",
    [
      ["socket", NETLINK, RAW, 0],
      ["sendto", step(0), { bytes: NEW_ROUTE }, NEW_ROUTE.length, 0, 0, 0],
      ["socket", INET, DATAGRAM, 0],
      ["connect", step(2), ...toTarget("203.0.113.78", PORT)], // a datagram socket's only looks for a route
    ],
    { inside: ["EPERM", "ENETUNREACH"] },
  ),
];
