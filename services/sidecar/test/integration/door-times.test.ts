/** How long a run's connections may be silent: whoever says nothing for too long is cut, and told so. */
import { once } from "node:events";
import { request } from "node:http";
import { connect, createServer as createTcp, type Server, type Socket } from "node:net";
import { text } from "node:stream/consumers";
import { expect, onTestFinished, test, vi } from "vitest";
import { readClientHello } from "../egress/client-hello.ts";
import { openDoor, openLease, toPort } from "../fakes/told-lease.ts";

const PATIENT = { requestIdleMs: 60_000, tunnelIdleMs: 60_000, helloMs: 60_000 };
const HOST = "api.example.com";

async function listen(server: Server): Promise<number> {
  server.listen(0, "127.0.0.1");
  onTestFinished(() => void server.close());
  await once(server, "listening");
  return toPort(server);
}

function openTimedLease(scheme: "http" | "https", port: number, times: Partial<typeof PATIENT>) {
  return openLease({
    patterns: [scheme === "http" ? `http://${HOST}:${port}` : `${HOST}:${port}`],
    times: { ...PATIENT, ...times },
    dialer: {
      privateTargets: [{ scheme, host: HOST, port, cidr: null }],
      resolve: async () => ["127.0.0.1"],
    },
  });
}

/** A server that says so much of its answer, and no more. */
async function askSilent(said: string, times: Partial<typeof PATIENT>) {
  const sockets: Socket[] = [];
  const port = await listen(createTcp((socket) => void sockets.push(socket.on("error", () => undefined))));
  const told = openTimedLease("http", port, times);
  const headers = { authorization: `Bearer ${told.lease.placeholder}` };
  const door = await openDoor(told.lease);
  const asked = request({ host: "127.0.0.1", port: door, path: `/to/http/${HOST}:${port}/x`, headers }).end();
  asked.on("error", () => undefined);
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
  });
  await vi.waitFor(() => expect(sockets).toHaveLength(1));
  sockets[0]?.write(said);
  return { ...told, asked };
}

test("S3.4 S3.11 a server that is silent for too long is given up: before its answer, and within it", async () => {
  const [none, half] = [
    await askSilent("", { requestIdleMs: 200 }),
    await askSilent("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", { requestIdleMs: 200 }),
  ];
  const [answer] = await once(none.asked, "response");
  expect([answer.statusCode, JSON.parse(await text(answer)).error.code]).toEqual([504, "timed_out"]);
  await vi.waitFor(() => expect([none.events.length, half.events.length]).toEqual([1, 1]));
  expect(none.events).toMatchObject([{ allowed: true, failure: "timed_out", status: null }]);
  expect(half.events).toMatchObject([{ allowed: true, failure: "timed_out", status: 200 }]);
});

test("the control: as silent a server is waited for where there is time", async () => {
  const { events, asked } = await askSilent("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nhalf", {});
  const [answer] = await once(asked, "response");
  expect(await text(answer)).toBe("half");
  await vi.waitFor(() => expect(events).toMatchObject([{ failure: null, status: 200 }]));
});

async function openSilentTunnel(times: Partial<typeof PATIENT>, first: Buffer) {
  const held: Socket[] = [];
  const port = await listen(createTcp((socket) => void held.push(socket.on("error", () => undefined))));
  const told = openTimedLease("https", port, times);
  const client = connect(await openDoor(told.lease), "127.0.0.1");
  client.on("error", () => undefined).resume();
  onTestFinished(() => {
    for (const socket of [client, ...held]) socket.destroy();
  });
  const proof = `proxy-authorization: Bearer ${told.lease.placeholder}`;
  client.write(`CONNECT ${HOST}:${port} HTTP/1.1\r\nhost: ${HOST}:${port}\r\n${proof}\r\n\r\n`);
  await once(client, "data");
  client.write(first);
  return { ...told, client };
}

test("S3.4 S3.11 a tunnel through which nothing comes is closed, and one whose client never begins", async () => {
  const hello = await readClientHello(HOST);
  const silent = await openSilentTunnel({ tunnelIdleMs: 200 }, hello);
  const late = await openSilentTunnel({ helloMs: 200 }, hello.subarray(0, 20));
  for (const { client, events } of [silent, late]) {
    await vi.waitFor(() => expect(client.closed).toBe(true), 10_000);
    await vi.waitFor(() => expect(events).toMatchObject([{ way: "connect", failure: "timed_out" }]));
  }
});

test("the control: a tunnel as silent stands where there is time", async () => {
  const silent = await openSilentTunnel({}, await readClientHello(HOST));
  await vi.waitFor(() => expect(silent.lease.audit.summary().bytesSent).toBeGreaterThanOrEqual(0));
  expect([silent.client.closed, silent.events]).toEqual([false, []]);
});
