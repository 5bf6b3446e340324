/** What a network laboratory and its test tell each other: addresses, ports, names, scripted answers, hits. */
import type { IncomingHttpHeaders } from "node:http";

/** Names of the two ends of the laboratory's cable; all addresses are on the first. */
export const [CABLE, CABLE_END] = ["lab0", "lab1"];

/** Scope for link-local addresses, and where multicast goes. */
export const LAB_SCOPE = CABLE;

/** One example of each kind of address that something inside might want to reach. All are the laboratory's own. */
export const LAB_ADDRESSES = {
  gateways: ["172.17.0.1", "172.18.0.1", "172.20.0.1"],
  /** One of another network of an engine. */
  containers: ["172.18.0.2"],
  hosts: ["10.0.0.5", "10.96.0.1", "172.31.1.1", "192.168.0.1", "192.168.65.2", "100.64.0.1"],
  /** AWS, Azure and Google; AWS for containers; Alibaba; Azure's other; Oracle. */
  metadata: ["169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192"],
  public: ["8.8.8.8", "1.1.1.1", "9.9.9.9", "93.184.215.14"],
  documentation: ["192.0.2.1", "198.51.100.1", "203.0.113.1"],
  metadata6: ["fd00:ec2::254", "fd20:ce::254"],
  hosts6: ["fd12:3456:789a::1", "fec0::1"],
  public6: ["2001:4860:4860::8888", "2606:4700:4700::1111"],
  /** Addresses that carry 169.254.169.254 or 10.0.0.5 in them: NAT64, 6to4. */
  wrapped6: ["64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "64:ff9b:1::a00:5"],
  linkLocal6: ["fe80::1"],
} as const;

export const ALL_LAB_ADDRESSES: readonly string[] = Object.values(LAB_ADDRESSES).flat();

/** What programs have themselves in a laboratory whose sinks stand apart: a private address, a public one, one of IPv6. */
export const LAB_OWN_ADDRESSES: readonly string[] = ["10.77.0.2", "93.184.215.15", "fd77::2"];

/** The resolver that the laboratory's resolv.conf names; it answers on every other address too. */
export const LAB_RESOLVER = "127.0.0.53";

/** Where a container engine has its own resolver. */
export const ENGINE_RESOLVER = "127.0.0.11";

/** A socket of the laboratory's network namespace that has a name and no file. */
export const LAB_SOCKET = "pillion-lab-sink";

/** Groups to which a question for all neighbours goes. */
export const LAB_GROUPS: readonly string[] = ["224.0.0.251", "224.0.0.252", "239.255.255.250", "ff02::fb"];

export type LabPorts = {
  readonly http: readonly number[];
  readonly https: readonly number[];
  /** Take what comes and say nothing. */
  readonly tcp: readonly number[];
  readonly udp: readonly number[];
};

export const LAB_PORTS: LabPorts = {
  http: [80, 8080, 8765],
  https: [443, 853, 8443],
  tcp: [22, 2375, 2376, 5432],
  udp: [123, 443, 1900, 4242, 5353, 5355],
};

/** Addresses (A and AAAA as they are), another name, or a failure; a silent server never answers. */
export type NameAnswer =
  | readonly string[]
  | { readonly cname: string }
  | { readonly failure: "NXDOMAIN" | "SERVFAIL" | "REFUSED" | "silence" };

/**
 * By name, or `*.suffix`. `turns` answer one question each (counted by name and type), and the last all others.
 * A name that is not there does not exist.
 */
export type Zone = Readonly<Record<string, NameAnswer | { readonly turns: readonly NameAnswer[] }>>;

/** How HTTP sinks answer; the last that fits wins. `{{name}}` in texts is replaced by the request's header of that name. */
export type HttpAnswer = {
  readonly for?: {
    readonly host?: string;
    readonly address?: string;
    readonly port?: number;
    readonly path?: string;
  };
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  /** The body this many times. */
  readonly times?: number;
  /** The body is the request itself, as JSON: method, target, headers, body. */
  readonly echo?: boolean;
  readonly gzip?: boolean;
  /** These bytes (latin1) instead of a response; then the connection is closed. */
  readonly raw?: string;
  /** What the test's own server at this port of its loopback answers, as it comes. */
  readonly forward?: number;
  /** Never answers. */
  readonly silent?: boolean;
};

/** What is wrong with the certificate that a server shows. */
export type BadCertificate = "expired" | "untrusted" | "wrong-name";

type Where = {
  /** The laboratory's address that was asked; `*` for what came to a group or to all. */
  readonly address: string;
  readonly port: number;
  readonly peer: string;
};

/** What reached a sink. A request over HTTP is two hits: its connection and itself. */
export type Hit = Where &
  (
    | {
        readonly kind: "tcp";
        /** The first characters that came (latin1). */
        readonly text: string;
      }
    | { readonly kind: "udp"; readonly text: string }
    /** The socket with a name and no file; the address is its name. */
    | { readonly kind: "unix" }
    | { readonly kind: "dns"; readonly over: "udp" | "tcp"; readonly name: string; readonly type: string }
    | {
        readonly kind: "http";
        readonly secure: boolean;
        readonly serverName: string | undefined;
        readonly method: string;
        readonly target: string;
        readonly headers: IncomingHttpHeaders;
        readonly body: string;
      }
  );

/** What the kernel counted in the laboratory since the last reset, of all addresses and ports. */
export type PacketCounts = {
  readonly tcpSegments: number;
  readonly udpDatagrams: number;
  readonly pings: number;
};

export type KeeperSetting = {
  readonly directory: string;
  /** Network namespace of the process that asks; the laboratory must be another. */
  readonly outside: string;
  readonly addresses: readonly string[];
  readonly ports: LabPorts;
  /** By the server name that is asked for. */
  readonly badCertificates: Readonly<Record<string, BadCertificate>>;
  /** All in one namespace; or the street with all addresses, and the house with programs, from which a cable leads there. */
  readonly part:
    | { readonly name: "all" | "street" }
    | { readonly name: "house"; readonly street: number; readonly far: readonly string[] };
};

export type KeeperOrder =
  | { readonly do: "zone"; readonly zone: Zone }
  | { readonly do: "answers"; readonly answers: readonly HttpAnswer[] }
  | { readonly do: "lend"; readonly port: number }
  | { readonly do: "hits" | "reset" | "packets" };

/** A socket for both families tells IPv4 addresses in their IPv6 form. */
export function toUnmapped(address: string | undefined): string {
  return (address ?? "").replace(/^::ffff:(?=\d+\.)/, "");
}
