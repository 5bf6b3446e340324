/** Callers who send slowly or stop in the middle: each has its time, is told so and cut, and costs nobody else anything. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, onTestFinished, test } from "vitest";
import { type Listening, listen } from "../../src/http/server.ts";
import { type CallerDoor, MAX_BODY_BYTES, openCallerDoor, TOKEN } from "../fakes/caller-door.ts";

const TIMEOUTS = { headersMs: 600, requestMs: 2_000, checkMs: 50 };
const BODY = '{"prompt":"x"}';

let door: CallerDoor;
let server: Listening;

beforeEach(async () => {
  door = openCallerDoor();
  server = await listen({
    app: door.app,
    host: "127.0.0.1",
    port: 0,
    maxBodyBytes: MAX_BODY_BYTES,
    log: door.log,
    timeouts: TIMEOUTS,
  });
});
afterEach(() => server.close(0));

/** A request line and headers that lack only what the test then sends. */
function begin(...more: string[]): Socket {
  const socket = connect(server.address.port, "127.0.0.1");
  socket.on("error", () => undefined);
  onTestFinished(() => void socket.destroy());
  const head = ["POST /v1/runs HTTP/1.1", "Host: localhost", `Authorization: Bearer ${TOKEN}`];
  socket.write(`${[...head, "Content-Type: application/json", ...more].join("\r\n")}\r\n`);
  return socket;
}

const beginBody = (length = BODY.length): Socket => begin(`Content-Length: ${length}`, "");

/** Sends the bytes again and again until the socket is closed; answers how often it did so far. */
function drip(socket: Socket, bytes: string, ms: number): () => number {
  let times = 0;
  const timer = setInterval(() => {
    times += 1;
    socket.write(bytes);
  }, ms);
  socket.once("close", () => clearInterval(timer));
  return () => times;
}

const CUT =
  /^HTTP\/1\.1 408 Request Timeout\r\n[\s\S]*content-type: application\/problem\+json[\s\S]*\r\n\r\n(.*)$/i;

async function readCut(socket: Socket): Promise<unknown> {
  const [, body] = CUT.exec(await text(socket)) ?? [];
  return JSON.parse(body ?? "null");
}

const PROBLEM = {
  type: "urn:pillion:failure:invalid_request",
  title: "The request is not valid",
  status: 408,
  detail: "The request took too long to arrive.",
  code: "invalid_request",
  retryable: false,
};
const REFUSED = {
  level: "info",
  fields: { reason: "ERR_HTTP_REQUEST_TIMEOUT" },
  message: "a broken request was refused",
};

test.each([
  ["stalls before its first byte", ""],
  ["stalls in the middle", BODY.slice(0, 5)],
])("a body that %s is answered 408 and cut, and no run comes of it", async (_what, part) => {
  const socket = beginBody();
  socket.write(part);
  const from = performance.now();
  expect(await readCut(socket)).toEqual(PROBLEM);
  expect(performance.now() - from).toBeGreaterThan(TIMEOUTS.requestMs - 100);
  expect(door.runs.requests).toEqual([]);
  expect(door.lines).toEqual([REFUSED]);
});

test("a body that comes byte by byte has no more time than one that stalls", async () => {
  const socket = beginBody(1_000);
  const sent = drip(socket, " ", 100);
  expect(await readCut(socket)).toEqual(PROBLEM);
  expect(sent()).toBeGreaterThan(5); // the probe did go on sending
  expect(door.runs.requests).toEqual([]);
});

test("headers that come byte by byte are cut at their own, shorter time", async () => {
  const socket = begin();
  drip(socket, "X-Drip: 1\r\n", 100);
  const from = performance.now();
  expect(await readCut(socket)).toEqual(PROBLEM);
  expect(performance.now() - from).toBeLessThan(TIMEOUTS.requestMs);
  expect(door.lines).toEqual([REFUSED]);
});

test("a body that is slow and comes in time makes a run (control)", async () => {
  const socket = beginBody();
  for (const part of BODY.match(/.{1,5}/g) ?? []) {
    socket.write(part);
    await sleep(300);
  }
  expect(String((await once(socket, "data"))[0])).toMatch(/^HTTP\/1\.1 202 /);
  expect(door.runs.requests).toMatchObject([{ prompt: "x" }]);
  expect(door.lines).toEqual([]);
});

test("while a hundred bodies stall, /health and another caller's run are answered at once", async () => {
  const stalled = Array.from({ length: 100 }, () => beginBody());
  let answered = 0;
  const cuts = stalled.map(async (socket) => {
    const problem = await readCut(socket);
    answered += 1;
    return problem;
  });
  await Promise.all(stalled.map((socket) => once(socket, "connect")));
  const health = await fetch(`${server.address.url}/health`);
  expect([health.status, await health.json()]).toEqual([200, { status: "ok" }]);
  const quick = beginBody();
  quick.write(BODY);
  expect(String((await once(quick, "data"))[0])).toMatch(/^HTTP\/1\.1 202 /);
  expect(answered).toBe(0); // all of them were still waiting
  expect(await Promise.all(cuts)).toEqual(stalled.map(() => PROBLEM));
  expect((await fetch(`${server.address.url}/health`)).status).toBe(200);
});
