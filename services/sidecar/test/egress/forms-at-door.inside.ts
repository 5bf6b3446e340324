// Every bad spelling of a host and every address that is not given out, sent to a real door in all three ways.
import { isIPv6 } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { EgressRefusal } from "#contract/egress";
import { type OpenDoor, openSinkDoor, openSinks, type Sink, type Sinks } from "../fakes/door-sinks.ts";
import { BAD_ADDRESSES, BAD_HOSTS } from "../fixtures/destination-forms.ts";
import { sendRaw } from "../fixtures/raw-http.ts";

const OWN = ["127.0.0.1", "::1", "8.8.4.4", "172.17.0.1", "2a00:1450::4", "fe80::42"];
const WAYS = ["base-url", "proxy", "connect"] as const;

let all: Sink[];
let sinks: Sinks;
let close: () => void;
const counts = { forms: 0, held: 0 };
beforeAll(async () => {
  ({ all, sinks, close } = await openSinks());
});
afterAll(() => {
  close();
  console.log(`name and address forms at the door: ${counts.held}/${counts.forms}`);
});

function toBytes(way: (typeof WAYS)[number], authority: string, { placeholder }: OpenDoor): Buffer {
  const key = `proxy-authorization: Bearer ${placeholder}\r\n`;
  const tunnel = /:\d+$/.test(authority) ? authority : `${authority}:443`;
  const lines = {
    "base-url": `GET /to/https/${authority}/x HTTP/1.1\r\nhost: door\r\n`,
    proxy: `GET https://${authority}/x HTTP/1.1\r\nhost: ${authority}\r\n`,
    connect: `CONNECT ${tunnel} HTTP/1.1\r\nhost: door\r\n`,
  };
  return Buffer.from(`${lines[way]}${key}connection: close\r\n\r\n`);
}

/** Refused so that a program can read it, told as one event, and nobody was reached. */
async function hold(door: OpenDoor, bytes: Buffer, what: string, reasons: readonly string[]): Promise<void> {
  counts.forms += 1;
  door.events.length = 0;
  const got = await sendRaw(door.port, bytes);
  const error = EgressRefusal.parse(JSON.parse(got.body).error);
  expect([what, got.status >= 400, reasons.includes(error.code)]).toEqual([what, true, true]);
  expect([what, door.events.map(({ allowed, reason }) => [allowed, reason])]).toEqual([
    what,
    [[false, error.code]],
  ]);
  expect(all.reduce((sum, { dials }) => sum + dials, 0)).toBe(0);
  counts.held += 1;
}

/** Each host of the list is allowed, by itself: no rule stands in the way. */
const openDoorFor = (hosts: readonly string[], addresses: readonly string[]) =>
  openSinkDoor([], {
    egress: hosts.flatMap((host) =>
      [443, sinks.allowed.port].map((port) => ({ scheme: "https" as const, host, port })),
    ),
    dialer: { privateTargets: [], resolve: async () => addresses, readOwnAddresses: () => OWN },
  });

describe("S3.4 at a real door", () => {
  // What stands behind a slash or a question mark is a path: those hosts are plain ones.
  const hosts = BAD_HOSTS.filter(([, bad]) => !/^[a-z.]+[/?]/.test(bad));

  test.each(WAYS)(
    "a host that cannot be read in one way only is refused: %s",
    { timeout: 120_000 },
    async (way) => {
      for (const [what, bad] of hosts) {
        if (way === "connect" && bad.startsWith(" ")) continue; // a second blank behind the method
        const door = await openDoorFor(
          [bad.toLowerCase().replace(/:.*/, ""), "a.example", "evil.example"],
          ["127.0.0.1"],
        );
        await hold(door, toBytes(way, bad, door), `${way} ${what}`, [
          "bad_host",
          "bad_request",
          "host_not_allowed",
        ]);
      }
    },
  );

  test.each(WAYS)("an address that is not given out is refused: %s", { timeout: 120_000 }, async (way) => {
    for (const [bad] of BAD_ADDRESSES) {
      const named = await openDoorFor(["a.example"], [bad]);
      await hold(named, toBytes(way, "a.example", named), `${way} a name for ${bad}`, [
        "address_not_allowed",
      ]);
      const literal = isIPv6(bad) && !bad.includes("%") ? new URL(`http://[${bad}]`).hostname : bad;
      const host = literal.replace(/^\[|\]$/g, "");
      const door = await openDoorFor([host], []);
      await hold(door, toBytes(way, literal, door), `${way} ${bad}`, [
        "address_not_allowed",
        "bad_host",
        "bad_request",
      ]);
    }
  });

  test.each(WAYS)(
    "the controls: a name for an address that the operator listed is reached: %s",
    async (way) => {
      const { allowed } = sinks;
      const door = await openSinkDoor(all, { patterns: [allowed.pattern] });
      const got = await sendRaw(door.port, toBytes(way, allowed.authority, door)).then(
        ({ status }) => status,
        () => 200, // a tunnel's yes has no end that a reader could wait for
      );
      expect(got).toBe(200);
      expect(allowed.dials).toBe(1);
      allowed.reset();
    },
  );
});
