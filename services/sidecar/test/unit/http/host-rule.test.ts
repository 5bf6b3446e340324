import { describe, expect, test } from "vitest";
import { openCallerDoor, withToken } from "../../fakes/caller-door.ts";

async function statusOf(
  host: string,
  headers: Record<string, string> = {},
  allowedHosts: string[] = [],
): Promise<number> {
  const { app } = openCallerDoor({ allowedHosts });
  return (await app.request("/v1/runs", { headers: withToken({ host, ...headers }) })).status;
}

describe("the Host rule", () => {
  test.each(["localhost", "LOCALHOST", "localhost:8765", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:8765"])(
    "serves %s",
    async (host) => expect(await statusOf(host)).toBe(200),
  );

  test.each([
    "evil.test",
    "localhost.evil.test",
    "127.0.0.1.nip.io",
    "127.0.0.2",
    "[::2]",
    "localhost:x",
    "localhost, evil.test",
    "a@localhost",
    "0.0.0.0",
  ])("refuses %s", async (host) => expect(await statusOf(host)).toBe(421));

  test("serves names that the operator adds, at any port, and a name with its port at that one", async () => {
    expect(await statusOf("pillion", {}, ["Pillion"])).toBe(200);
    expect(await statusOf("pillion:80", {}, ["pillion"])).toBe(200);
    expect(await statusOf("pillion:80", {}, ["pillion:80"])).toBe(200);
    expect(await statusOf("pillion:81", {}, ["pillion:80"])).toBe(421);
    expect(await statusOf("sub.pillion", {}, ["pillion"])).toBe(421);
  });

  test("does not bind probes, which come by address", async () => {
    const { app } = openCallerDoor();
    for (const probe of ["/health", "/livez", "/readyz"]) {
      const answer = await app.request(probe, {
        headers: { host: "10.1.2.3:8765", origin: "https://evil.test" },
      });
      expect(answer.status).toBe(200);
    }
  });
});

describe("requests of pages", () => {
  test("are served from the same origin only", async () => {
    expect(await statusOf("localhost:8765", { origin: "http://localhost:8765" })).toBe(200);
    expect(await statusOf("localhost:8765", { origin: "https://localhost:8765" })).toBe(200);
    expect(await statusOf("localhost:8765", { origin: "http://localhost:3000" })).toBe(403);
    expect(await statusOf("localhost:8765", { origin: "file://localhost:8765" })).toBe(403);
    expect(await statusOf("localhost:8765", { origin: "null" })).toBe(403);
    expect(await statusOf("localhost:8765", { origin: "" })).toBe(403);
  });

  test("are refused when the browser says that they come from elsewhere", async () => {
    expect(await statusOf("localhost", { "sec-fetch-site": "same-origin" })).toBe(200);
    expect(await statusOf("localhost", { "sec-fetch-site": "none" })).toBe(200);
    expect(await statusOf("localhost", { "sec-fetch-site": "same-site" })).toBe(403);
    expect(await statusOf("localhost", { "sec-fetch-site": "cross-site" })).toBe(403);
  });

  test("never get a CORS header", async () => {
    const { app } = openCallerDoor();
    const origin = "http://localhost";
    const answer = await app.request("/v1/runs", { headers: withToken({ host: "localhost", origin }) });
    expect([...answer.headers.keys()].filter((name) => name.startsWith("access-control"))).toEqual([]);
    const preflight = await app.request("/v1/runs", { method: "OPTIONS", headers: withToken({ origin }) });
    expect([preflight.status, preflight.headers.get("allow")]).toEqual([405, "POST, GET, HEAD"]);
  });
});
