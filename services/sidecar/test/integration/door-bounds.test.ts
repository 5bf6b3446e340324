/** What a program inside a sandbox can make the door hold, and which headers go out beside a credential. */
import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, request } from "node:http";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { expect, onTestFinished, test, vi } from "vitest";
import type { PrivateTarget } from "../../src/broker/address-rule.ts";
import { openDoor, openLease, toPort } from "../fakes/told-lease.ts";

type Seen = { readonly headers: IncomingHttpHeaders[]; open: number; readonly port: number };

async function openServer(): Promise<Seen> {
  const seen = { headers: [] as IncomingHttpHeaders[], open: 0, port: 0 };
  const server = createServer({ keepAliveTimeout: 60_000 }, ({ headers }, response) => {
    seen.headers.push(headers);
    response.end("answer");
  });
  server.on("connection", (socket) => {
    seen.open += 1;
    socket.once("close", () => {
      seen.open -= 1;
    });
  });
  server.listen(0, "127.0.0.1");
  onTestFinished(() => void server.close());
  await once(server, "listening");
  seen.port = toPort(server);
  return seen;
}

const toTarget = (host: string, port: number): PrivateTarget => ({ scheme: "http", host, port, cidr: null });

async function ask(port: number, path: string, headers: Record<string, string>): Promise<string> {
  const asked = request({ host: "127.0.0.1", port, path, headers }).end();
  const [response] = await once(asked, "response");
  return text(response);
}

test("S3.6 connections that are kept are few, however many hosts a run names", async () => {
  const server = await openServer();
  const hosts = Array.from({ length: 40 }, (_, index) => `h${index}.example.com`);
  const { lease } = openLease({
    patterns: [`http://*.example.com:${server.port}`],
    dialer: {
      privateTargets: hosts.map((host) => toTarget(host, server.port)),
      resolve: async () => ["127.0.0.1"],
    },
  });
  const door = await openDoor(lease);
  for (const host of hosts) {
    const proof = { authorization: `Bearer ${lease.placeholder}` };
    expect(await ask(door, `/to/http/${host}:${server.port}/`, proof)).toBe("answer");
  }
  expect(server.headers).toHaveLength(hosts.length);
  await vi.waitFor(() => expect(server.open).toBeLessThanOrEqual(16), 10_000);
});

test("S3.4 headers by which a server takes another method or path do not go out beside a credential, and do without", async () => {
  const server = await openServer();
  const host = `api.example.com:${server.port}`;
  const open = (credentials: { host: string; header: string; value: string }[]) =>
    openLease({
      patterns: [`http://${host}`],
      credentials,
      dialer: {
        privateTargets: [toTarget("api.example.com", server.port)],
        resolve: async () => ["127.0.0.1"],
      },
    }).lease;
  const overrides = {
    ...{ "x-http-method-override": "DELETE", x_http_method: "DELETE", "x-method-override": "DELETE" },
    ...{ "x-original-url": "/other", "x-rewrite-url": "/other", "x-original-uri": "/other" },
  };
  const names = Object.keys(overrides);
  for (const lease of [
    open([{ host, header: "authorization", value: "Bearer canary-0123456789" }]),
    open([]),
  ]) {
    const proof = { authorization: `Bearer ${lease.placeholder}` };
    await ask(await openDoor(lease), `/to/http/${host}/allowed`, { ...proof, ...overrides, "x-kept": "yes" });
  }
  const [bound = {}, unbound = {}] = server.headers;
  expect(bound).toMatchObject({ authorization: "Bearer canary-0123456789", "x-kept": "yes" });
  expect(names.filter((name) => name in bound)).toEqual([]);
  expect(names.filter((name) => name in unbound)).toEqual(names); // the control
});

test("S3.11 requests sent in one breath are all written down, though the journal takes one at a time", async () => {
  const count = 2_000;
  const told: string[] = [];
  let waiting = 0;
  const { lease } = openLease({
    tell: async ({ path }) => {
      if (waiting >= 1) throw new Error("Events come faster than they are waited for.");
      waiting += 1;
      await new Promise(setImmediate);
      waiting -= 1;
      told.push(path ?? "");
    },
  });
  const client = connect(await openDoor(lease), "127.0.0.1");
  onTestFinished(() => void client.destroy());
  client.on("error", () => undefined); // the door closes a connection that asks for too much while it still writes
  client.resume();
  const requests = Array.from(
    { length: count },
    (_, index) => `GET http://evil.example/${index} HTTP/1.1\r\nhost: evil.example\r\n\r\n`,
  );
  client.write(requests.join(""));
  await vi.waitFor(() => expect(lease.audit.summary().denied).toBeGreaterThan(0), 10_000);
  await lease.settle();
  expect(told).toHaveLength(lease.audit.summary().denied + lease.audit.summary().allowed);
});

test("S3.6 bodies of model calls count against the run's bytes, also of those that are refused", async () => {
  const { lease, faults } = openLease({ limits: { requests: 100, bytes: 100_000 } });
  const door = await openDoor(lease);
  const proof = { authorization: `Bearer ${lease.placeholder}` };
  const call = JSON.stringify({ model: "another", input: "x".repeat(60_000) });
  await askModel(door, proof, call);
  expect(faults).toEqual([]);
  await askModel(door, proof, call);
  expect(faults).toMatchObject([{ code: "budget_exceeded" }]);
});

test("S3.6 bodies of model calls that are under way have one bound together, which is free again when they are over", async () => {
  const { lease } = openLease();
  const door = await openDoor(lease);
  const proof = { authorization: `Bearer ${lease.placeholder}` };
  const half = request({
    ...{ host: "127.0.0.1", port: door, path: "/model/chat/completions", method: "POST" },
    headers: { ...proof, "content-length": String(24 * 1024 ** 2) },
  });
  half.on("error", () => undefined);
  half.write(Buffer.alloc(20 * 1024 ** 2, " "));
  await vi.waitFor(() => expect(lease.callBytes).toBe(20 * 1024 ** 2), 20_000);
  const other = `{"model":"another","input":"${"x".repeat(16 * 1024 ** 2)}"}`;
  await askModel(door, proof, other).catch(() => undefined); // it is cut where it is refused
  await vi.waitFor(() => expect(lease.callBytes).toBe(20 * 1024 ** 2), 20_000);
  half.destroy();
  await vi.waitFor(() => expect(lease.callBytes).toBe(0), 20_000);
  expect(await askModel(door, proof, other)).toContain("Only calls of this run's own model");
});

async function askModel(port: number, headers: Record<string, string>, body: string): Promise<string> {
  const path = "/model/chat/completions";
  const asked = request({ host: "127.0.0.1", port, path, method: "POST", headers });
  const answered = once(asked, "response");
  asked.on("error", () => undefined); // also after the answer, where the body was still being written
  asked.end(body);
  const [response] = await answered;
  return text(response);
}
