/** Which addresses may be dialled: public ones, and those that the operator listed; a cloud's metadata never. Pure. */
import ipaddr from "ipaddr.js";
import { type Destination, type Scheme, toCanonicalAddress } from "./destination.ts";

/** An origin that the operator lets runs reach although it is private; with a CIDR only inside it. */
export type PrivateTarget = {
  readonly scheme: Scheme;
  readonly host: string;
  readonly port: number;
  readonly cidr: string | null;
};

export type AddressFacts = {
  /** Addresses of this machine's interfaces. */
  readonly own: readonly string[];
  readonly privateTargets: readonly PrivateTarget[];
};

export type AddressVerdict =
  | { readonly allowed: readonly string[] }
  /** The first bad address, as it was given, a word for what it is, and whether it would pass if the origin was listed. */
  | { readonly refused: string; readonly why: string; readonly isListable: boolean };

type Address = ipaddr.IPv4 | ipaddr.IPv6;
type Range = [Address, number];

/**
 * Metadata of AWS, Google, Azure, Oracle and Alibaba, from their documentation and the sources of cloud-init and their
 * SDKs; then three smaller clouds whose addresses are known. Oracle's IPv6 one ends in 169.254.169.254 and is found so.
 */
const METADATA = [
  "169.254.169.254", // all five but Alibaba
  "169.254.170.2", // AWS: credentials of an ECS task
  "169.254.170.23", // AWS: credentials of an EKS pod
  "168.63.129.16", // Azure: the host's agent; a public address
  "100.100.100.200", // Alibaba
  "192.0.0.192", // Oracle, classic
  "169.254.0.23", // Tencent
  "169.254.42.42", // Scaleway
];

const METADATA_RANGES = [
  "fd00:ec2::/32", // AWS: metadata, pod credentials, names, time
  "fd20:ce::254/128", // Google
  "fd00:c1::a9fe:a9fe/128", // Oracle
  "fd00:100::100:200/128", // Alibaba
  "fd00:42::42/128", // Scaleway
  "fd00:a9fe:a9fe::1/128", // Akamai
].map(toRange);

/** The rest is not given out. */
const GLOBAL_UNICAST = toRange("2000::/3");

/** In 2000::/3 and not to be reached, beside what the library names. */
const MORE_RESERVED = ["3fff::/20", "3ffe::/16"].map(toRange);

/** IPv6 addresses that stand for an IPv4 one; mapped ones (::ffff:0:0/96) are read as IPv4 at once. */
const CARRIERS = [
  "::/96", // compatible
  "::ffff:0:0:0/96", // translated
  "64:ff9b::/96", // NAT64
  "64:ff9b:1::/48", // NAT64, local use
  "2002::/16", // 6to4
  "2001::/32", // Teredo
].map(toRange);

const SIX_TO_FOUR = toRange("2002::/16");
const TEREDO = toRange("2001::/32");

/** Where RFC 4291, 5214 and 6052 (for prefixes of 32 to 96 bits, also of a network's own) put the bytes of an IPv4 address. */
const PLACES = [
  [12, 13, 14, 15],
  [4, 5, 6, 7],
  [5, 6, 7, 9],
  [6, 7, 9, 10],
  [7, 9, 10, 11],
  [9, 10, 11, 12],
];

const WORDS: Readonly<Record<string, string>> = {
  private: "private",
  uniqueLocal: "private",
  loopback: "loopback",
  linkLocal: "link-local",
  multicast: "multicast",
  broadcast: "broadcast",
  unspecified: "unspecified",
  carrierGradeNat: "private to a provider",
};

/** All addresses must pass, or none is dialled. What passes is in its canonical form, a mapped one as IPv4. */
export function judgeAddresses(
  destination: Destination,
  addresses: readonly string[],
  facts: AddressFacts,
): AddressVerdict {
  const listings = facts.privateTargets.filter((target) => isSameOrigin(target, destination));
  const own = facts.own.flatMap((text) => toAddress(text) ?? []);
  const allowed = new Set<string>();
  for (const text of addresses) {
    const address = toAddress(text);
    if (address === undefined) return { refused: text, why: "not an address", isListable: false };
    const why = findObjection(address, own, listings);
    if (why !== undefined) {
      const isListable = findObjection(address, own, [{ ...destination, cidr: null }]) === undefined;
      return { refused: text, why, isListable };
    }
    allowed.add(address.toString());
  }
  return { allowed: [...allowed] };
}

/** False for all that is not given out for use on the internet, for forms that hold an IPv4 address, and for metadata. */
export function isPublicAddress(text: string): boolean {
  const address = toAddress(text);
  return address !== undefined && findObjection(address, [], []) === undefined;
}

export function isSameOrigin(target: PrivateTarget, { scheme, host, port }: Destination): boolean {
  return target.scheme === scheme && target.host === host && target.port === port;
}

/** A word for why it must not be dialled. An origin that is listed with a CIDR is dialled inside it only. */
function findObjection(
  address: Address,
  own: readonly Address[],
  listings: readonly PrivateTarget[],
): string | undefined {
  if (isMetadata(address)) return "metadata of a cloud";
  if (listings.length === 0) {
    const isOwn = own.some((one) => one.toString() === address.toString());
    return isOwn ? "an address of this machine" : toSpecialUse(address);
  }
  const ranges = listings.flatMap(({ cidr }) => (cidr === null ? [] : [toRange(cidr)]));
  if (ranges.some((range) => isIn(address, range))) return undefined;
  if (ranges.length === listings.length) return "outside the range that the operator listed";
  return isCarrier(address) ? "IPv4 inside IPv6" : undefined;
}

/** What an address is for, if not for use on the internet. */
function toSpecialUse(address: Address): string | undefined {
  if (isCarrier(address)) return "IPv4 inside IPv6";
  const range = address.range();
  if (range !== "unicast") return WORDS[range] ?? "reserved";
  if (address instanceof ipaddr.IPv4) return undefined;
  const isGiven = isIn(address, GLOBAL_UNICAST) && !MORE_RESERVED.some((reserved) => isIn(address, reserved));
  return isGiven ? undefined : "reserved";
}

/** Also where an IPv6 address holds it in any of the places known: it may be a translator's, which leads there. */
function isMetadata(address: Address): boolean {
  if (METADATA_RANGES.some((range) => isIn(address, range))) return true;
  const forms = address instanceof ipaddr.IPv6 ? toEmbedded(address) : [address.toString()];
  return METADATA.some((one) => forms.includes(one));
}

function toEmbedded(address: ipaddr.IPv6): string[] {
  const bytes = address.toByteArray();
  const toIPv4 = (places: readonly number[], flip = 0) =>
    places.map((at) => (bytes[at] ?? 0) ^ flip).join(".");
  return [
    ...PLACES.map((places) => toIPv4(places)),
    ...(isIn(address, SIX_TO_FOUR) ? [toIPv4([2, 3, 4, 5])] : []),
    ...(isIn(address, TEREDO) ? [toIPv4([12, 13, 14, 15], 0xff)] : []),
  ];
}

function isCarrier(address: Address): boolean {
  if (address instanceof ipaddr.IPv4 || isPlainSpecial(address)) return false;
  const [high, low] = [address.parts[4] ?? 0, address.parts[5] ?? 0];
  const isIsatap = (high & 0xfdff) === 0 && low === 0x5efe;
  return isIsatap || CARRIERS.some((range) => isIn(address, range));
}

/** `::` and `::1` lie in the range of the compatible forms. */
function isPlainSpecial(address: Address): boolean {
  return ["unspecified", "loopback"].includes(address.range());
}

/** The library alone would take `::1.2.3.4` for a mapped address, and read octal numbers. */
function toAddress(text: string): Address | undefined {
  const canonical = toCanonicalAddress(text);
  return canonical === undefined ? undefined : ipaddr.process(canonical);
}

function toRange(cidr: string): Range {
  return ipaddr.parseCIDR(cidr);
}

function isIn(address: Address, [start, bits]: Range): boolean {
  return address.kind() === start.kind() && address.match(start, bits);
}
