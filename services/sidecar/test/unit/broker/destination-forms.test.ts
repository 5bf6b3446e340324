import { afterAll, describe, expect, test } from "vitest";
import { judgeAddresses, type PrivateTarget } from "../../../src/broker/address-rule.ts";
import { type Scheme, toDestination, toText } from "../../../src/broker/destination.ts";
import { isAllowed } from "../../../src/broker/egress-policy.ts";
import { toPrivateTarget } from "../../../src/broker/private-target.ts";
import { BAD_ADDRESSES, BAD_HOSTS } from "../../fixtures/destination-forms.ts";

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
  test.each(BAD_HOSTS)("%s: %j; the control is %j", (_what, bad, good) => {
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

describe("S3.4 an address that is not given out is not dialled, and the nearest that is given out is", () => {
  const isIPv6 = (address: string) => address.includes(":");
  test.each(BAD_ADDRESSES)("%j is %s; the control is %j", (bad, why, good) => {
    hold(() => {
      expect(judge("a.example", { addresses: [bad] })).toBe(why);
      expect(judge("a.example", { addresses: [good] })).toMatch(/^a\.example at [^ ]+$/);
    });
  });

  test("also as a host without a name, in every form that can be sent", () => {
    const sent = BAD_ADDRESSES.filter(([bad]) =>
      (isIPv6(bad) ? /^[0-9a-f:]+$/ : /^\d+(\.\d+){3}$/).test(bad),
    );
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
    const metadata = BAD_ADDRESSES.filter(([, why]) => why === "metadata of a cloud");
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
