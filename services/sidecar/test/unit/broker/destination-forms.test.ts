import { afterAll, describe, expect, test } from "vitest";
import { judgeAddresses, type PrivateTarget } from "../../../src/broker/address-rule.ts";
import { type Scheme, toDestination, toText } from "../../../src/broker/destination.ts";
import { isAllowed } from "../../../src/broker/egress-policy.ts";
import { toPrivateTarget } from "../../../src/broker/private-target.ts";

const OWN = ["127.0.0.1", "::1", "8.8.4.4", "172.17.0.1", "2a00:1450::4", "fe80::42"];

/** What becomes of an authority as it was sent, when any name has the address given and any host is allowed. */
function judge(
  authority: string,
  {
    addresses,
    targets = [],
    scheme = "https",
  }: { addresses?: string[]; targets?: string[]; scheme?: Scheme } = {},
): string {
  const destination = toDestination(scheme, authority);
  if ("refused" in destination) return destination.refused;
  if (!isAllowed([destination], destination)) return "host_not_allowed";
  const isLiteral = /^[\d.]+$|:/.test(destination.host);
  const found = isLiteral ? [destination.host] : (addresses ?? ["1.1.1.1"]);
  const privateTargets: PrivateTarget[] = targets.map(toPrivateTarget);
  const verdict = judgeAddresses(destination, found, { own: OWN, privateTargets });
  return "allowed" in verdict ? `${toText(destination)} at ${verdict.allowed}` : verdict.why;
}

const counts = { forms: 0, held: 0 };
afterAll(() => console.log(`name and address forms: ${counts.held}/${counts.forms}`));

function hold(whole: () => void): void {
  counts.forms += 1;
  whole();
  counts.held += 1;
}

describe("S3.4 a host that cannot be read in one way only is refused, and the nearest plain one passes", () => {
  const long = (length: number) =>
    `${"a".repeat(60)}.${"b".repeat(60)}.${"c".repeat(60)}.`.padEnd(length, "d");
  test.each([
    ["nothing", "", "a"],
    ["a port alone", ":443", "a:443"],
    ["a user", "user@a.example", "user.a.example"],
    ["a user and a password", "user:pass@a.example", "a.example"],
    ["an allowed host as the user of another", "a.example@evil.example", "a.example"],
    ["the same, its sign escaped", "a.example%40evil.example", "a.example"],
    ["a path", "a.example/x", "a.example"],
    ["a query", "a.example?x", "a.example"],
    ["a fragment", "a.example#x", "a.example"],
    ["a backslash", "a.example\\evil.example", "a.example"],
    ["a scheme", "https://a.example", "a.example"],
    ["a space before", " a.example", "a.example"],
    ["a space behind", "a.example ", "a.example"],
    ["a tab", "a\t.example", "a.example"],
    ["a line's end", "a.example\n", "a.example"],
    ["a line's end behind the port", "a.example:443\n", "a.example:443"],
    ["a nul", "a.example\0.evil.example", "a.example"],
    ["an escaped nul", "a.example%00.evil.example", "a.example"],
    ["an escaped dot", "a%2eexample", "a.example"],
    ["an underscore", "_dmarc.a.example", "dmarc.a.example"],
    ["a star", "*.a.example", "x.a.example"],
    ["a comma", "a.example,b.example", "a.example"],
    ["a semicolon", "a.example;b.example", "a.example"],
    ["a quote", 'a".example', "a.example"],
    ["a letter of another script", "аpple.example", "apple.example"],
    ["a letter with an accent", "é.example", "xn--9ca.example"],
    ["a sign that is a k in lower case", "\u212aey.example", "key.example"],
    ["full-width digits", "１２７.0.0.1", "1.1.1.1"],
    ["a circled digit", "①.1.1.1", "1.1.1.1"],
    ["an ideographic full stop", "a。example", "a.example"],
    ["a soft hyphen", "a\u00ad.example", "a.example"],
    ["a zero-width space", "a\u200b.example", "a.example"],
    ["a last dot", "a.example.", "a.example"],
    ["two last dots", "a.example..", "a.example"],
    ["a first dot", ".a.example", "a.example"],
    ["an empty label", "a..example", "a.example"],
    ["a dot alone", ".", "a"],
    ["a hyphen at a label's beginning", "-a.example", "a-a.example"],
    ["a hyphen at a label's end", "a-.example", "a-a.example"],
    ["a label of 64", `${"a".repeat(64)}.example`, `${"a".repeat(63)}.example`],
    ["a name of 254", long(254).slice(0, 254), long(253).slice(0, 238)],
    ["a name that ends in a number", "a.example.1", "1.a.example"],
    ["a name that ends in a hexadecimal number", "a.0x7f", "0x7f.a"],
    ["a name that ends in 0x", "a.0x", "a.x0"],
    ["an IPv4 address in octal", "0177.0.0.1", "1.0.0.1"],
    ["one with a zero before", "01.1.1.1", "1.1.1.1"],
    ["one in hexadecimal", "0x7f.0x0.0x0.0x1", "1.1.1.1"],
    ["one whole in hexadecimal", "0x7f000001", "1.1.1.1"],
    ["one whole in hexadecimal, capital", "0X7F000001", "1.1.1.1"],
    ["one as one number", "2130706433", "1.1.1.1"],
    ["one as one octal number", "017700000001", "1.1.1.1"],
    ["one in two parts", "127.1", "1.1.1.1"],
    ["one in three parts", "127.0.1", "1.1.1.1"],
    ["one in five parts", "1.1.1.1.1", "1.1.1.1"],
    ["one with a number too large", "256.1.1.1", "255a.example"],
    ["one that overflows to loopback", "425.510.425.510", "1.1.1.1"],
    ["one with a last dot", "1.1.1.1.", "1.1.1.1"],
    ["one with a number missing", "1.1..1", "1.1.1.1"],
    ["a zero", "0", "a0"],
    ["one in brackets", "[1.1.1.1]", "1.1.1.1"],
    ["an IPv6 address without brackets", "2606:4700::1", "[2606:4700::1]"],
    ["a short one without brackets", "::1", "[2606:4700::1]"],
    ["one with a zone", "[fe80::1%eth0]", "[2606:4700::1]"],
    ["one with an escaped zone", "[2606:4700::1%25eth0]", "[2606:4700::1]"],
    ["a mapped one with dots", "[::ffff:1.1.1.1]", "[2606:4700::1]"],
    ["a mapped one with octal dots", "[::ffff:0177.0.0.1]", "[2606:4700::1]"],
    ["a compatible one with dots", "[::127.0.0.1]", "[2606:4700::1]"],
    ["NAT64 with dots", "[64:ff9b::127.0.0.1]", "[2606:4700::1]"],
    ["one with two gaps", "[2606::4700::1]", "[2606:4700::1]"],
    ["one with nine groups", "[1:2:3:4:5:6:7:8:9]", "[2606:4700::1]"],
    ["one with a group of five", "[2606:04700::1]", "[2606:4700::1]"],
    ["one of a later version", "[v1.fe80::a]", "[2606:4700::1]"],
    ["empty brackets", "[]", "[2606:4700::1]"],
    ["one bracket", "[2606:4700::1", "[2606:4700::1]"],
    ["a name in brackets", "[a.example]", "a.example"],
    ["something behind the brackets", "[2606:4700::1]a", "[2606:4700::1]"],
    ["something before the brackets", "a[2606:4700::1]", "[2606:4700::1]"],
    ["brackets in brackets", "[[2606:4700::1]]", "[2606:4700::1]"],
    ["an empty port", "a.example:", "a.example"],
    ["port 0", "a.example:0", "a.example:1"],
    ["port 65536", "a.example:65536", "a.example:65535"],
    ["a port with a zero before", "a.example:0443", "a.example:443"],
    ["a port with a plus", "a.example:+443", "a.example:443"],
    ["a port with a minus", "a.example:-1", "a.example:443"],
    ["a port with a space", "a.example: 443", "a.example:443"],
    ["a port in hexadecimal", "a.example:0x1bb", "a.example:443"],
    ["a port with a point", "a.example:443.0", "a.example:443"],
    ["a port in powers of ten", "a.example:1e2", "a.example:100"],
    ["a port that wraps around", "a.example:4294967739", "a.example:443"],
    ["a port in full-width digits", "a.example:４４３", "a.example:443"],
    ["two ports", "a.example:443:80", "a.example:443"],
    ["a port's name", "a.example:https", "a.example:443"],
  ])("%s: %j; the control is %j", (_what, bad, good) => {
    hold(() => {
      expect(judge(bad)).toBe("bad_host");
      expect(judge(good)).toMatch(/ at (1\.1\.1\.1|1\.0\.0\.1|2606:4700::1)$/);
    });
  });
});

describe("a host is read as one spelling", () => {
  test.each([
    ["API.Example.COM", "api.example.com at 1.1.1.1"],
    ["api.example.com:443", "api.example.com at 1.1.1.1"],
    ["api.example.com:8443", "api.example.com:8443 at 1.1.1.1"],
    ["xn--9ca.example", "xn--9ca.example at 1.1.1.1"],
    ["1a.2b", "1a.2b at 1.1.1.1"],
    ["a--b.example", "a--b.example at 1.1.1.1"],
    ["localname", "localname at 1.1.1.1"],
    ["1.1.1.1:53", "1.1.1.1:53 at 1.1.1.1"],
    ["[2606:4700:0:0::0001]", "[2606:4700::1] at 2606:4700::1"],
    ["[2606:4700::ABCD]:8443", "[2606:4700::abcd]:8443 at 2606:4700::abcd"],
    ["[::ffff:101:101]", "[::ffff:101:101] at 1.1.1.1"],
  ])("%j is %j", (authority, told) => {
    hold(() => expect(judge(authority)).toBe(told));
  });

  test("port 80 goes with plain HTTP", () => {
    hold(() => expect(judge("a.example:80", { scheme: "http" })).toBe("http://a.example at 1.1.1.1"));
    hold(() => expect(judge("a.example:443", { scheme: "http" })).toBe("http://a.example:443 at 1.1.1.1"));
  });
});

/** Each address is tried as an answer to a name; the control is the nearest one that is given out. */
const ADDRESSES: readonly (readonly [string, string, string])[] = [
  ["0.0.0.0", "unspecified", "1.0.0.0"],
  ["0.1.2.3", "unspecified", "1.0.0.0"],
  ["10.0.0.1", "private", "9.255.255.255"],
  ["10.255.255.255", "private", "11.0.0.0"],
  ["100.64.0.1", "private to a provider", "100.63.255.255"],
  ["100.127.255.255", "private to a provider", "100.128.0.0"],
  ["127.0.0.1", "an address of this machine", "126.255.255.255"],
  ["127.255.255.254", "loopback", "128.0.0.0"],
  ["169.254.0.1", "link-local", "169.253.255.255"],
  ["172.16.0.1", "private", "172.15.255.255"],
  ["172.31.255.255", "private", "172.32.0.0"],
  ["192.0.0.8", "reserved", "192.0.1.0"],
  ["192.0.2.1", "reserved", "192.0.3.0"],
  ["192.31.196.1", "reserved", "192.31.197.1"],
  ["192.52.193.1", "reserved", "192.52.194.1"],
  ["192.88.99.1", "reserved", "192.88.100.1"],
  ["192.168.255.1", "private", "192.169.0.0"],
  ["192.175.48.1", "reserved", "192.175.49.1"],
  ["198.18.0.1", "reserved", "198.17.255.255"],
  ["198.19.255.255", "reserved", "198.20.0.0"],
  ["198.51.100.1", "reserved", "198.51.101.1"],
  ["203.0.113.1", "reserved", "203.0.114.1"],
  ["224.0.0.1", "multicast", "223.255.255.255"],
  ["239.255.255.255", "multicast", "223.255.255.255"],
  ["240.0.0.1", "reserved", "223.255.255.255"],
  ["255.255.255.255", "broadcast", "223.255.255.255"],
  ["8.8.4.4", "an address of this machine", "8.8.4.5"],
  ["::ffff:8.8.4.4", "an address of this machine", "::ffff:8.8.4.5"],
  ["::ffff:808:404", "an address of this machine", "::ffff:808:405"],
  ["2a00:1450::4", "an address of this machine", "2a00:1450::5"],
  ["64:ff9b::808:404", "an address of this machine", "2606:4700::808:405"],
  ["2606:4700::808:404", "an address of this machine", "2606:4700::808:405"],
  ["169.254.169.254", "metadata of a cloud", "169.253.169.254"],
  ["169.254.170.2", "metadata of a cloud", "169.253.170.2"],
  ["169.254.170.23", "metadata of a cloud", "169.253.170.23"],
  ["168.63.129.16", "metadata of a cloud", "168.63.129.17"],
  ["100.100.100.200", "metadata of a cloud", "100.128.100.200"],
  ["192.0.0.192", "metadata of a cloud", "192.0.1.192"],
  ["169.254.0.23", "metadata of a cloud", "169.253.0.23"],
  ["169.254.42.42", "metadata of a cloud", "169.253.42.42"],
  ["::ffff:169.254.169.254", "metadata of a cloud", "::ffff:169.253.169.254"],
  ["::ffff:a9fe:a9fe", "metadata of a cloud", "::ffff:a9fd:a9fe"],
  ["::169.254.169.254", "metadata of a cloud", "::ffff:169.253.169.254"],
  ["::ffff:0:a9fe:a9fe", "metadata of a cloud", "2606:4700::a9fd:a9fe"],
  ["64:ff9b::a9fe:a9fe", "metadata of a cloud", "2606:4700::a9fd:a9fe"],
  ["64:ff9b:1::a9fe:a9fe", "metadata of a cloud", "2606:4700::a9fd:a9fe"],
  ["64:ff9b:1:a9fe:a9:fe00::", "metadata of a cloud", "2606:4700:1:a9fd:a9:fe00::"],
  ["2002:a9fe:a9fe::1", "metadata of a cloud", "2606:a9fe:a9fd::1"],
  ["2001:0:a9fe:a9fe::1", "metadata of a cloud", "2606:0:a9fe:a9fd::1"],
  ["2001::5601:5601", "metadata of a cloud", "2606::5601:5601"],
  ["2606:4700::200:5efe:a9fe:a9fe", "metadata of a cloud", "2606:4700::a9fd:a9fe"],
  ["2606:4700:a9fe:a9fe::", "metadata of a cloud", "2606:4700:a9fe:a9fd::"],
  ["2606:4700:a9:fea9:fe::", "metadata of a cloud", "2606:4700:a9:fea9:fd::"],
  ["2606:4700:0:a9:fe:a9fe::", "metadata of a cloud", "2606:4700:0:a9:fe:a9fd::"],
  ["2606:4700:0:0:a9:fea9:fe00:0", "metadata of a cloud", "2606:4700:0:0:a9:fea9:fd00:0"],
  ["fe80::a9fe:a9fe", "metadata of a cloud", "2606:4700::a9fd:a9fe"],
  ["fd00:ec2::254", "metadata of a cloud", "2606:ec2::254"],
  ["fd00:ec2::23", "metadata of a cloud", "2606:ec2::23"],
  ["fd20:ce::254", "metadata of a cloud", "2606:ce::254"],
  ["fd00:c1::a9fe:a9fe", "metadata of a cloud", "2606:c1::a9fd:a9fe"],
  ["fd00:100::100:200", "metadata of a cloud", "2606:100::100:200"],
  ["fd00:42::42", "metadata of a cloud", "2606:42::42"],
  ["fd00:a9fe:a9fe::1", "metadata of a cloud", "2606:a9fd:a9fe::1"],
  ["::", "unspecified", "2606:4700::"],
  ["::1", "an address of this machine", "2606:4700::1"],
  ["::2", "IPv4 inside IPv6", "2606:4700::2"],
  ["::1.1.1.1", "IPv4 inside IPv6", "::ffff:1.1.1.1"],
  ["::101:101", "IPv4 inside IPv6", "::ffff:101:101"],
  ["::ffff:10.0.0.1", "private", "::ffff:9.0.0.1"],
  ["::ffff:a00:1", "private", "::ffff:900:1"],
  ["::ffff:0:101:101", "IPv4 inside IPv6", "::ffff:101:101"],
  ["64:ff9b::101:101", "IPv4 inside IPv6", "::ffff:101:101"],
  ["64:ff9b::1.1.1.1", "IPv4 inside IPv6", "::ffff:1.1.1.1"],
  ["64:ff9b:1::101:101", "IPv4 inside IPv6", "::ffff:101:101"],
  ["64:ff9b:2::1", "reserved", "2606:4700::1"],
  ["100::1", "reserved", "2606:4700::1"],
  ["100:0:0:1::1", "reserved", "2606:4700::1"],
  ["200::1", "reserved", "2606:4700::1"],
  ["1fff:ffff::1", "reserved", "2606:4700::1"],
  ["4000::1", "reserved", "2606:4700::1"],
  ["2001::1", "IPv4 inside IPv6", "2001:200::1"],
  ["2001:1::1", "reserved", "2001:200::1"],
  ["2001:2::1", "reserved", "2001:200::1"],
  ["2001:3::1", "reserved", "2001:200::1"],
  ["2001:4:112::1", "reserved", "2001:200::1"],
  ["2001:10::1", "reserved", "2001:200::1"],
  ["2001:20::1", "reserved", "2001:200::1"],
  ["2001:30::1", "reserved", "2001:200::1"],
  ["2001:db8::1", "reserved", "2001:db7::1"],
  ["2002:101:101::1", "IPv4 inside IPv6", "2003::1"],
  ["2620:4f:8000::1", "reserved", "2620:4f:8001::1"],
  ["3ffe::1", "reserved", "3ffd::1"],
  ["3fff::1", "reserved", "3fff:1000::1"],
  ["5f00::1", "reserved", "2606:4700::1"],
  ["2606:4700::5efe:101:101", "IPv4 inside IPv6", "2606:4700::5eff:101:101"],
  ["2606:4700::200:5efe:101:101", "IPv4 inside IPv6", "2606:4700::400:5efe:101:101"],
  ["fc00::1", "private", "2606:4700::1"],
  ["fdff::1", "private", "2606:4700::1"],
  ["fe80::1", "link-local", "2606:4700::1"],
  ["fe80::42", "an address of this machine", "2606:4700::42"],
  ["febf::1", "link-local", "2606:4700::1"],
  ["fec0::1", "reserved", "2606:4700::1"],
  ["ff02::1", "multicast", "2606:4700::1"],
  ["ff0e::1", "multicast", "2606:4700::1"],
  ["fe80::1%eth0", "not an address", "2606:4700::1"],
  ["2606:4700::1%eth0", "not an address", "2606:4700::1"],
  ["127.1", "not an address", "1.1.1.1"],
  ["01.1.1.1", "not an address", "1.1.1.1"],
  ["2130706433", "not an address", "1.1.1.1"],
  ["::ffff:0177.0.0.1", "not an address", "::ffff:1.1.1.1"],
  ["", "not an address", "1.1.1.1"],
];

describe("S3.4 an address that is not given out is not dialled, and the nearest that is given out is", () => {
  const isIPv6 = (address: string) => address.includes(":");
  test.each(ADDRESSES)("%j is %s; the control is %j", (bad, why, good) => {
    hold(() => {
      expect(judge("a.example", { addresses: [bad] })).toBe(why);
      expect(judge("a.example", { addresses: [good] })).toMatch(/^a\.example at [^ ]+$/);
    });
  });

  test("also as a host without a name, in every form that can be sent", () => {
    const sent = ADDRESSES.filter(([bad]) => (isIPv6(bad) ? /^[0-9a-f:]+$/ : /^\d+(\.\d+){3}$/).test(bad));
    for (const [bad, why] of sent) {
      const host = isIPv6(bad) ? `[${bad}]` : bad;
      hold(() => expect([bad, judge(host)]).toEqual([bad, why === "not an address" ? "bad_host" : why]));
    }
    expect(sent.length).toBeGreaterThan(80);
  });

  test("one bad address among good ones refuses them all, wherever it stands", () => {
    const good = ["1.1.1.1", "2606:4700::1", "1.0.0.1"];
    expect(judge("a.example", { addresses: good })).toBe("a.example at 1.1.1.1,2606:4700::1,1.0.0.1");
    for (const at of [0, 1, 2, 3]) {
      hold(() =>
        expect(judge("a.example", { addresses: good.toSpliced(at, 0, "10.0.0.1") })).toBe("private"),
      );
    }
  });

  test("a mapped answer is dialled as the IPv4 address that it is, once", () => {
    hold(() =>
      expect(judge("a.example", { addresses: ["::ffff:1.1.1.1", "1.1.1.1"] })).toBe("a.example at 1.1.1.1"),
    );
  });
});

describe("a private target", () => {
  const at = (address: string, targets: string[], authority = "models.internal:8080") =>
    judge(authority, { addresses: [address], targets, scheme: "http" });

  test.each<[string, string, string[], string]>([
    ["opens its origin", "10.1.2.3", ["http://models.internal:8080"], "10.1.2.3"],
    ["opens loopback", "127.0.0.1", ["http://models.internal:8080"], "127.0.0.1"],
    ["opens link-local", "169.254.7.7", ["http://models.internal:8080"], "169.254.7.7"],
    ["opens this machine's address", "8.8.4.4", ["http://models.internal:8080"], "8.8.4.4"],
    ["opens unique local addresses", "fd12::1", ["http://models.internal:8080"], "fd12::1"],
    ["opens a mapped answer as IPv4", "::ffff:a01:203", ["http://models.internal:8080"], "10.1.2.3"],
    ["opens its range", "10.1.2.3", ["http://models.internal:8080=10.1.0.0/16"], "10.1.2.3"],
    [
      "opens its range to a mapped answer",
      "::ffff:10.1.2.3",
      ["http://models.internal:8080=10.1.0.0/16"],
      "10.1.2.3",
    ],
    ["opens a range of IPv6", "fd12::1", ["http://models.internal:8080=fd12::/64"], "fd12::1"],
    [
      "opens a form that holds IPv4 where its range names it",
      "64:ff9b:1::a01:203",
      ["http://models.internal:8080=64:ff9b:1::/96"],
      "64:ff9b:1::a01:203",
    ],
    [
      "opens the second of two ranges",
      "10.2.0.1",
      ["http://models.internal:8080=10.1.0.0/16", "http://models.internal:8080=10.2.0.0/16"],
      "10.2.0.1",
    ],
    [
      "opens all where it is listed without a range too",
      "10.2.0.1",
      ["http://models.internal:8080=10.1.0.0/16", "http://models.internal:8080"],
      "10.2.0.1",
    ],
  ])("%s", (_what, address, targets, dialled) => {
    hold(() => expect(at(address, targets)).toBe(`http://models.internal:8080 at ${dialled}`));
  });

  test.each<[string, string, string[], string]>([
    ["another port", "10.1.2.3", ["http://models.internal:8081"], "private"],
    ["another scheme", "10.1.2.3", ["https://models.internal:8080"], "private"],
    ["another host", "10.1.2.3", ["http://other.internal:8080"], "private"],
    ["a host below it", "10.1.2.3", ["http://internal:8080"], "private"],
    ["a form that holds IPv4", "64:ff9b:1::a01:203", ["http://models.internal:8080"], "IPv4 inside IPv6"],
    ["a compatible form", "::a01:203", ["http://models.internal:8080"], "IPv4 inside IPv6"],
    [
      "an address outside its range",
      "10.2.0.1",
      ["http://models.internal:8080=10.1.0.0/16"],
      "outside the range that the operator listed",
    ],
    [
      "a public address outside its range",
      "1.1.1.1",
      ["http://models.internal:8080=10.1.0.0/16"],
      "outside the range that the operator listed",
    ],
    [
      "IPv6 outside its range of IPv4",
      "fd12::1",
      ["http://models.internal:8080=0.0.0.0/0"],
      "outside the range that the operator listed",
    ],
  ])("does not open %s", (_what, address, targets, why) => {
    hold(() => expect(at(address, targets)).toBe(why));
  });

  test("never opens metadata, whatever is listed, in any form", () => {
    const metadata = ADDRESSES.filter(([, why]) => why === "metadata of a cloud");
    for (const [address] of metadata) {
      const targets = ["", "=0.0.0.0/0", "=::/0"].map((range) => `http://models.internal:8080${range}`);
      hold(() => expect([address, at(address, targets)]).toEqual([address, "metadata of a cloud"]));
      const host = address.includes(":")
        ? `[${address.replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, "a9fe:a9fe")}]`
        : address;
      hold(() => expect([host, at("", [`http://${host}`], host)]).toEqual([host, "metadata of a cloud"]));
    }
    expect(metadata.length).toBeGreaterThan(25);
    expect(at("169.254.169.253", ["http://models.internal:8080"])).toBe(
      "http://models.internal:8080 at 169.254.169.253",
    );
  });
});
