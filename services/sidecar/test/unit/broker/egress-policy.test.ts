import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { EgressPattern } from "#contract/egress";
import { type Destination, toDestination, toText } from "../../../src/broker/destination.ts";
import {
  covers,
  type EgressRule,
  findUncovered,
  isAllowed,
  toEgressRule,
} from "../../../src/broker/egress-policy.ts";

const toRules = (patterns: readonly string[]) =>
  patterns.map((text) => toEgressRule(EgressPattern.parse(text)));
const goTo = (text: string): Destination => {
  const [, scheme = "https", authority = ""] = /^(?:(https?):\/\/)?(.*)$/.exec(text) ?? [];
  const destination = toDestination(scheme === "http" ? "http" : "https", authority);
  if ("refused" in destination) throw new Error(destination.message);
  return destination;
};

describe("a destination is allowed", () => {
  test.each([
    ["the very host", "api.example.com", "api.example.com"],
    ["the very host, its port written", "api.example.com", "api.example.com:443"],
    ["the very host in capitals", "api.example.com", "API.Example.COM"],
    ["a port that is named", "api.example.com:8443", "api.example.com:8443"],
    ["plain HTTP where it is named", "http://api.example.com", "http://api.example.com:80"],
    ["plain HTTP at a port", "http://api.example.com:8080", "http://api.example.com:8080"],
    ["https, written out", "https://api.example.com", "api.example.com"],
    ["a name below a suffix", "*.example.com", "a.example.com"],
    ["a name far below a suffix", "*.example.com", "a.b.c.example.com"],
    ["a name below one label", "*.internal", "models.internal"],
    ["a name of one label", "localhost:9000", "localhost:9000"],
    ["an IPv4 address", "192.0.2.7", "192.0.2.7"],
    ["an IPv6 address, spelled otherwise", "[2001:db8:0:0::1]:8443", "[2001:DB8::1]:8443"],
  ])("%s", (_what, pattern, destination) => {
    expect(isAllowed(toRules([pattern]), goTo(destination))).toBe(true);
  });
});

describe("a destination is not allowed", () => {
  test.each<[string, string[], string]>([
    ["by an empty list", [], "api.example.com"],
    ["at another port", ["api.example.com"], "api.example.com:8443"],
    ["at the usual port where another is named", ["api.example.com:8443"], "api.example.com"],
    ["by plain HTTP", ["api.example.com"], "http://api.example.com"],
    ["by plain HTTP at the port of https", ["api.example.com"], "http://api.example.com:443"],
    ["by https where plain HTTP is named", ["http://api.example.com"], "api.example.com"],
    ["by https at the port of plain HTTP", ["http://api.example.com"], "api.example.com:80"],
    ["as the suffix itself", ["*.example.com"], "example.com"],
    ["with the suffix as an end of a label", ["*.example.com"], "evilexample.com"],
    ["with the suffix inside", ["*.example.com"], "a.example.com.evil.com"],
    ["as a name below an exact one", ["example.com"], "a.example.com"],
    ["as the parent of an exact one", ["a.example.com"], "example.com"],
    ["as a name with an allowed one before it", ["example.com"], "example.com.evil.com"],
    ["as an address by its end", ["*.com"], "192.0.2.7"],
    ["as an IPv4 address written as IPv6", ["192.0.2.7"], "[::ffff:c000:207]"],
  ])("%s", (_what, patterns, destination) => {
    expect(isAllowed(toRules(patterns), goTo(destination))).toBe(false);
  });

  test("as an address, whatever suffix a rule was made of", () => {
    const rule: EgressRule = { scheme: "https", host: "*.2.7", port: 443 };
    expect(isAllowed([rule], goTo("192.0.2.7"))).toBe(false);
    expect(isAllowed([{ ...rule, host: "192.0.2.7" }], goTo("192.0.2.7"))).toBe(true);
  });
});

describe("a request's list keeps within the operator's", () => {
  test.each<[string[], string[], number | undefined]>([
    [[], [], undefined],
    [[], ["a.example"], 0],
    [["a.example"], [], undefined],
    [["a.example", "b.example"], ["b.example"], undefined],
    [["a.example"], ["a.example", "b.example", "c.example"], 1],
    [["*.example"], ["a.example", "*.a.example", "*.example"], undefined],
    [["*.example"], ["a.example", "example"], 1],
    [["a.example"], ["*.a.example"], 0],
    [["*.b.example"], ["*.example"], 0],
    [["a.example"], ["http://a.example"], 0],
    [["a.example"], ["a.example:8443"], 0],
    [["http://*.a.example:8080"], ["http://b.a.example:8080"], undefined],
  ])("%j against %j: first uncovered is %j", (operator, requested, index) => {
    expect(findUncovered(toRules(operator), toRules(requested))).toBe(index);
  });
});

// Few words, so that rules often meet.
const label = fc.constantFrom("a", "b");
const name = fc.array(label, { minLength: 1, maxLength: 3 }).map((labels) => labels.join("."));
const where = {
  scheme: fc.constantFrom("http" as const, "https" as const),
  port: fc.constantFrom(80, 443),
};
const destinations: fc.Arbitrary<Destination> = fc.record({
  ...where,
  host: fc.oneof(name, fc.constantFrom("192.0.2.7", "2001:db8::1")),
});
const rules: fc.Arbitrary<EgressRule> = fc.oneof(
  destinations,
  fc.record({ ...where, host: name.map((suffix) => `*.${suffix}`) }),
);

describe("for any rules", () => {
  test("what a narrower one allows, the one that covers it allows", () => {
    let covered = 0;
    fc.assert(
      fc.property(rules, rules, destinations, fc.boolean(), (one, narrow, place, isNear) => {
        const { scheme, port } = narrow;
        const wide = isNear ? { ...one, scheme, port } : one;
        const destination = isNear ? { ...place, scheme, port } : place;
        if (!covers(wide, narrow) || !isAllowed([narrow], destination)) return;
        covered += 1;
        expect(isAllowed([wide], destination)).toBe(true);
      }),
      { numRuns: 20_000 },
    );
    expect(covered).toBeGreaterThan(20);
  });

  test("each covers itself, and covering passes on", () => {
    fc.assert(
      fc.property(rules, rules, rules, (a, b, c) => {
        expect(covers(a, a)).toBe(true);
        if (covers(a, b) && covers(b, c)) expect(covers(a, c)).toBe(true);
      }),
      { numRuns: 20_000 },
    );
  });

  test("two that cover each other are the same", () => {
    fc.assert(
      fc.property(rules, rules, (a, b) => {
        if (covers(a, b) && covers(b, a)) expect(toText(a)).toBe(toText(b));
      }),
    );
  });

  test("one written as a pattern is a pattern of the contract and is read back as it was", () => {
    fc.assert(
      fc.property(rules, (rule) => {
        expect(toEgressRule(EgressPattern.parse(toText(rule)))).toEqual(rule);
      }),
    );
  });

  test("a destination is read back from its text as it was", () => {
    fc.assert(
      fc.property(destinations, (destination) => {
        expect(goTo(toText(destination))).toEqual(destination);
      }),
    );
  });
});
