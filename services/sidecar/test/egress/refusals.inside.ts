// What a refused request is told, and what the audit says of it.
import { describe, expect, test } from "vitest";
import { EgressRefusal } from "#contract/egress";
import type { PrivateTarget } from "../../src/broker/address-rule.ts";
import { openDoor, openLease } from "../fakes/told-lease.ts";
import { type RawAnswer, sendRaw } from "../fixtures/raw-http.ts";

/** A door that takes so many requests, and sends nothing anywhere. */
async function openShut(requests: number) {
  const told = openLease({ patterns: ["a.example:8443"], limits: { requests, bytes: 1_000_000 } });
  const port = await openDoor(told.lease);
  const ask = (line: string, headers = "host: door\r\n"): Promise<RawAnswer> =>
    sendRaw(port, `${line} HTTP/1.1\r\n${headers}connection: close\r\n\r\n`);
  return { ...told, ask };
}

describe("S3.4 the audit of a denied request has its host, port and path apart, as far as they can be read", () => {
  const there = { scheme: "https", host: "a.example", port: 8443 };
  const nowhere = { scheme: null, port: null };
  const cases: [string, number, string, object][] = [
    ["GET /to/https/a.example:8443/x?y=1", 0, "limit", { ...there, path: "/x" }],
    ["GET http://a.example:8443/x", 0, "limit", { ...there, scheme: "http", path: "/x" }],
    ["CONNECT a.example:8443", 0, "limit", { ...there, path: null }],
    ["CONNECT a_b:443", 0, "limit", { ...nowhere, host: "a_b:443", path: null }],
    ["GET /foo?y=1", 0, "limit", { ...nowhere, host: null, path: "/foo" }],
    ["GET /foo?y=1", 9, "bad_request", { ...nowhere, host: null, path: "/foo" }],
    ["GET ftp://a.example/x", 9, "bad_request", { ...nowhere, host: null, path: "ftp://a.example/x" }],
    ["GET /to/https/a_b:443/x?y=1", 9, "bad_host", { ...nowhere, host: "a_b:443", path: "/x" }],
    ["GET http://127.1/x", 9, "bad_host", { ...nowhere, host: "127.1", path: "/x" }],
    ["GET http://a.example:8443/x", 9, "bad_request", { ...there, scheme: "http", path: "/x" }],
    ["GET /to/https/a.example:8443/x", 9, "no_placeholder", { ...there, path: "/x" }],
  ];
  test.each(cases)("%s, with %i requests left: %s", async (line, requests, reason, place) => {
    const { ask, events, lease } = await openShut(requests);
    expect((await ask(line)).headers["pillion-refused"]).toBe(reason);
    expect(events).toMatchObject([{ allowed: false, reason, ...place }]);
    const isThere = events[0]?.port === 8443;
    expect(lease.audit.summary()).toMatchObject({
      denied: 1,
      hosts: isThere ? [{ host: "a.example", port: 8443, allowed: 0, denied: 1 }] : [],
    });
  });
});

describe("S3.4 an address that may not be reached is refused with what the operator can do, where that would help", () => {
  const target = { scheme: "https", host: "a.example", port: 8443 } as const;
  const cases: [string, string, PrivateTarget[], string | null][] = [
    ["loopback", "127.0.0.1", [], "PILLION_PRIVATE_TARGETS=https://a.example:8443"],
    ["a private one", "10.1.2.3", [], "PILLION_PRIVATE_TARGETS=https://a.example:8443"],
    ["one outside the listed range", "10.1.2.3", [{ ...target, cidr: "10.2.0.0/16" }], "other addresses"],
    ["metadata of a cloud", "169.254.169.254", [], null],
    ["IPv4 inside IPv6", "64:ff9b::a01:203", [], null],
  ];
  test.each(cases)("%s", async (_what, address, privateTargets, hint) => {
    const { lease, events } = openLease({
      patterns: ["a.example:8443"],
      dialer: { privateTargets, resolve: async () => [address] },
    });
    const door = await openDoor(lease);
    for (const line of ["GET /to/https/a.example:8443/x", "CONNECT a.example:8443"]) {
      const key = `proxy-authorization: Bearer ${lease.placeholder}`;
      const got = await sendRaw(door, `${line} HTTP/1.1\r\nhost: a.example:8443\r\n${key}\r\n\r\n`);
      expect(EgressRefusal.parse(JSON.parse(got.body).error)).toMatchObject({
        code: "address_not_allowed",
        hint: hint === null ? null : expect.stringContaining(hint),
      });
      expect(events.at(-1)).toMatchObject({ allowed: false, address });
    }
  });
});

describe("S3.4 a host that may be reached by the other kind of HTTP is refused with that word", () => {
  test.each([
    ["GET /to/https/a.example:8080/x", "plain HTTP", "/to/http/a.example:8080/"],
    ["GET http://b.example:8443/x", "HTTPS", "/to/https/b.example:8443/"],
    ["GET /to/https/c.example:8080/x", "", ""],
  ])("%s", async (line, kind, way) => {
    const { lease } = openLease({ patterns: ["http://a.example:8080", "b.example:8443"] });
    const host = /(\w\.example:\d+)/.exec(line)?.[1];
    const key = `proxy-authorization: Bearer ${lease.placeholder}`;
    const got = await sendRaw(await openDoor(lease), `${line} HTTP/1.1\r\nhost: ${host}\r\n${key}\r\n\r\n`);
    const { code, hint } = EgressRefusal.parse(JSON.parse(got.body).error);
    expect(code).toBe("host_not_allowed");
    if (kind === "") expect(hint).not.toContain("PILLION_DOOR");
    else expect(hint).toContain(`The run may reach it by ${kind} only: ask $PILLION_DOOR${way}`);
  });
});

describe("S3.4 who shows no placeholder is told how to show it on the way that was taken", () => {
  const byHeader = "authorization: Bearer $PILLION_PLACEHOLDER";
  test.each([
    ["GET /to/https/a.example:8443/x", 401, byHeader],
    ["POST /model/chat/completions", 401, byHeader],
    ["GET http://door/x", 407, "HTTP_PROXY"],
    ["CONNECT a.example:8443", 407, "HTTP_PROXY"],
  ])("%s", async (line, status, way) => {
    const { ask } = await openShut(9);
    const got = await ask(line);
    const { code, message } = EgressRefusal.parse(JSON.parse(got.body).error);
    expect([got.status, code]).toEqual([status, "no_placeholder"]);
    expect([byHeader, "HTTP_PROXY"].filter((text) => message.includes(text))).toEqual([way]);
  });
});
