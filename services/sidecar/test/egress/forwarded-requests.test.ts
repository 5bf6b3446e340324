// What a hostile server or client can do to a request that is carried: it ends, once, and the service lives on.
import { once } from "node:events";
import { createServer } from "node:net";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import {
  type Answer,
  openSinkDoor,
  openSinks,
  openSocket,
  rawAnswer,
  Sink,
  type Sinks,
} from "../fakes/door-sinks.ts";
import { toPort } from "../fakes/told-lease.ts";
import { sendRaw } from "../fixtures/raw-http.ts";

const SECRET = "sk-Canary-0123456789abcdef";

let all: Sink[];
let sinks: Sinks;
let close: () => void;
beforeAll(async () => {
  ({ all, sinks, close } = await openSinks());
});
afterAll(() => close());
beforeEach(() => {
  for (const sink of all) sink.reset();
});

const openDoor = () => {
  const { bound } = sinks;
  const credentials = [{ host: bound.authority, header: "authorization", value: `Bearer ${SECRET}` }];
  return openSinkDoor(all, {
    patterns: [sinks.allowed.pattern, bound.pattern, sinks.plain.allowed.pattern],
    credentials,
  });
};
type Door = Awaited<ReturnType<typeof openDoor>>;

const toRequest = (door: Door, sink: Sink, line = "GET", more = "", body = "") =>
  `${line} ${sink.base}/x HTTP/1.1\r\nhost: door\r\nx-api-key: ${door.placeholder}\r\nconnection: close\r\n${more}\r\n${body}`;

/** The only event, once it is there. */
const readEvent = async (door: Door) => {
  await vi.waitFor(() => expect(door.events).toHaveLength(1), 10_000);
  return door.events[0];
};

describe("S3.4 an answer that no server should give", () => {
  const cases: [string, Answer, number, string | null][] = [
    ["the secret as a header's name", (_q, r) => void r.setHeader(SECRET, "1").end("ok"), 200, null],
    ["status 000", rawAnswer("HTTP/1.1 000 Zero\r\ncontent-length: 2\r\n\r\nok"), 502, "unreadable"],
    ["status 099", rawAnswer("HTTP/1.1 099 Low\r\ncontent-length: 2\r\n\r\nok"), 502, "unreadable"],
    [
      "another protocol, unasked",
      rawAnswer("HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nxx"),
      502,
      "unreadable",
    ],
    [
      "a gzip transfer coding",
      rawAnswer(
        Buffer.concat([Buffer.from("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n"), gzipSync(SECRET)]),
      ),
      502,
      "unreadable",
    ],
    [
      "gzip in chunks of a transfer coding",
      rawAnswer(toChunked("gzip, chunked", gzipSync(SECRET))),
      502,
      "unreadable",
    ],
    [
      "an unknown encoding",
      (_q, r) => void r.setHeader("content-encoding", "rot13").end("x"),
      502,
      "unreadable",
    ],
    [
      "two encodings",
      (_q, r) => void r.setHeader("content-encoding", "gzip, br").end("x"),
      502,
      "unreadable",
    ],
    [
      "two lengths",
      rawAnswer("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc"),
      502,
      "unreadable",
    ],
    [
      "a length and chunks",
      rawAnswer(
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
      ),
      502,
      "unreadable",
    ],
    ["no HTTP", rawAnswer("220 mail.example ESMTP\r\n"), 502, "unreadable"],
    ["nothing", rawAnswer(""), 502, "unreachable"],
    ["half a head", rawAnswer("HTTP/1.1 200 OK\r\nx-half: "), 502, "unreachable"],
    [
      "a head that is too large",
      rawAnswer(`HTTP/1.1 200 OK\r\nx: ${"a".repeat(100_000)}\r\n\r\n`),
      502,
      "unreadable",
    ],
  ];
  test.each(cases)("%s", async (_what, answer, status, code) => {
    const door = await openDoor();
    sinks.bound.answer = answer;
    const got = await sendRaw(door.port, toRequest(door, sinks.bound));
    expect(JSON.stringify(got).toLowerCase()).not.toContain(SECRET.toLowerCase());
    expect([got.status, got.headers["pillion-refused"] ?? null]).toEqual([status, code]);
    expect(await readEvent(door)).toMatchObject({ allowed: true, failure: code, host: "bound.example" });
    expect(sinks.bound.requests).toHaveLength(1);
    sinks.bound.answer = (_q, r) => void r.end("still here");
    expect((await sendRaw(door.port, toRequest(door, sinks.bound))).body).toContain("still here");
  });

  test("a HEAD of something encoded ends well", async () => {
    const door = await openDoor();
    sinks.bound.answer = (_q, r) => void r.setHeader("content-encoding", "gzip").end();
    const got = await sendRaw(door.port, toRequest(door, sinks.bound, "HEAD"));
    expect(got.status).toBe(200);
    expect(await readEvent(door)).toMatchObject({ allowed: true, failure: null, status: 200 });
  });
});

describe("S3.4 a body goes out as one request, whatever the method and the headers say", () => {
  const hidden = "GET /hidden HTTP/1.1\r\nhost: h\r\n\r\n";
  const chunked = `${hidden.length.toString(16)}\r\n${hidden}\r\n0\r\n\r\n`;
  const length = `content-length: ${hidden.length}\r\n`;
  const cases = ["GET", "HEAD", "DELETE", "OPTIONS", "POST", "PUT", "PATCH"].flatMap(
    (method): [string, string, string, string][] => [
      [method, "in chunks", "transfer-encoding: chunked\r\n", chunked],
      [method, "with a length", length, hidden],
      [
        method,
        "with a length that is called a connection's",
        `connection: content-length\r\n${length}`,
        hidden,
      ],
    ],
  );
  test.each(cases)("%s %s", async (method, _how, headers, body) => {
    const door = await openDoor();
    const got = await sendRaw(door.port, toRequest(door, sinks.plain.allowed, method, headers, body));
    expect(got.status).toBe(200);
    expect(sinks.plain.allowed.requests.map(({ url, body }) => [url, body])).toEqual([["/x", hidden]]);
  });

  test("the control: without a length the same bytes are two requests", async () => {
    const { port, requests } = sinks.plain.allowed;
    await sendRaw(port, `GET /x HTTP/1.1\r\nhost: h\r\n\r\n${hidden}`);
    await vi.waitFor(() => expect(requests.map(({ url }) => url)).toEqual(["/x", "/hidden"]));
  });
});

describe("a request that does not come to its end", () => {
  const large = "b".repeat(3_000_000);
  const post = (door: Door, sink: Sink, more = "") =>
    toRequest(door, sink, "POST", `content-length: ${large.length}\r\n${more}`, large);

  test("a large body to where nobody listens is answered with the refusal", async () => {
    const gone = new Sink("allowed.example", "https");
    gone.port = 1;
    const told = await openSinkDoor([gone], { patterns: [gone.pattern] });
    const got = await sendRaw(told.port, post(told, gone));
    expect([got.status, JSON.parse(got.body).error.code]).toEqual([502, "unreachable"]);
    expect(told.events).toMatchObject([{ allowed: true, failure: "unreachable" }]);
  });

  test("a server that takes the connection and never speaks TLS is given up", {
    timeout: 60_000,
  }, async () => {
    const silent = createServer((socket) => void socket.on("error", () => undefined)).listen(0, "127.0.0.1");
    onTestFinished(() => void silent.close());
    await once(silent, "listening");
    const sink = new Sink("allowed.example", "https");
    sink.port = toPort(silent);
    const door = await openSinkDoor([sink], { patterns: [sink.pattern] });
    const got = await sendRaw(door.port, toRequest(door, sink));
    expect([got.status, JSON.parse(got.body).error.code]).toEqual([504, "timed_out"]);
    expect(door.events).toMatchObject([{ allowed: true, failure: "timed_out", status: null }]);
  });

  test("a large body to an address that is not allowed is answered with the refusal", async () => {
    const { pattern } = sinks.allowed;
    const door = await openSinkDoor([], { patterns: [pattern] });
    const got = await sendRaw(door.port, post(door, sinks.allowed));
    expect([got.status, JSON.parse(got.body).error.code]).toEqual([403, "address_not_allowed"]);
    expect(door.events).toMatchObject([{ allowed: false, reason: "address_not_allowed" }]);
  });

  test("an answer before the body's end reaches the client", async () => {
    const door = await openDoor();
    sinks.allowed.answer = (request, response) => {
      request.resume();
      response.writeHead(413).end("too large");
    };
    const got = await sendRaw(door.port, post(door, sinks.allowed, "x-early: 1\r\n"));
    expect([got.status, got.body]).toEqual([413, expect.stringContaining("too large")]);
    expect(await readEvent(door)).toMatchObject({ allowed: true, status: 413 });
  });

  test("a client that goes while it sends ends it on the other side too", async () => {
    const door = await openDoor();
    const socket = openSocket(door.port);
    socket.write(toRequest(door, sinks.plain.allowed, "POST", "content-length: 100\r\n", "half"));
    await vi.waitFor(() => expect(sinks.plain.allowed.connections.join("")).toContain("half"));
    socket.destroy();
    expect(await readEvent(door)).toMatchObject({ allowed: true, failure: "cut", bytesSent: 4 });
  });

  test("the end of the lease is told as a cut", async () => {
    const door = await openDoor();
    sinks.allowed.answer = () => undefined;
    openSocket(door.port).write(toRequest(door, sinks.allowed));
    await vi.waitFor(() => expect(sinks.allowed.requests).toHaveLength(1));
    door.lease.end();
    expect(await readEvent(door)).toMatchObject({ allowed: true, failure: "cut" });
  });

  test("a server that closes a kept connection is asked again", async () => {
    const door = await openDoor();
    const sink = sinks.plain.allowed;
    let asked = 0;
    sink.answer = (request, response) => {
      asked += 1;
      if (asked === 2) return void request.socket.destroy();
      response.end(`answer ${asked}`);
    };
    expect((await sendRaw(door.port, toRequest(door, sink))).body).toContain("answer 1");
    expect((await sendRaw(door.port, toRequest(door, sink))).body).toContain("answer 3");
    expect([asked, sink.connections.length]).toEqual([3, 2]);
    expect(door.events).toMatchObject([{ failure: null }, { failure: null }]);
  });

  test("what cannot be read behind one that is being carried is told by itself, and ends both", async () => {
    const door = await openDoor();
    const sink = sinks.plain.allowed;
    sink.answer = () => undefined;
    const one = toRequest(door, sink).replace("connection: close\r\n", "");
    const socket = openSocket(door.port);
    socket.write(one);
    await vi.waitFor(() => expect(sink.requests).toHaveLength(1));
    const closed = once(socket.resume(), "close");
    socket.write(`${one.replace("host: door", "host: door\r\nx y: z")}`);
    await closed;
    await vi.waitFor(() => expect(door.events).toHaveLength(2));
    expect(door.events.map(({ allowed, reason, failure }) => [allowed, reason, failure])).toEqual(
      expect.arrayContaining([
        [false, "bad_request", null],
        [true, null, "cut"],
      ]),
    );
    expect(sink.requests).toHaveLength(1);
  });

  test("what cannot be read is told once, in however many pieces it comes", async () => {
    const door = await openSinkDoor(all, { patterns: [] });
    const socket = openSocket(door.port).resume();
    socket.on("error", () => undefined);
    socket.write("no HTTP at all\r\n\r\n".repeat(100_000));
    await vi.waitFor(() => expect(socket.closed).toBe(true), 10_000);
    expect(door.events).toMatchObject([{ allowed: false, reason: "bad_request" }]);
  });

  test("a body that cannot be read is its request's own end", async () => {
    const door = await openDoor();
    const sink = sinks.plain.allowed;
    await sendRaw(
      door.port,
      toRequest(door, sink, "POST", "transfer-encoding: chunked\r\n", "3\r\nabc\r\nzz\r\n"),
    );
    expect(await readEvent(door)).toMatchObject({ allowed: true, failure: "cut" });
  });

  test("no more than 64 are carried at once, however many come on one connection", async () => {
    const door = await openDoor();
    const sink = sinks.plain.allowed;
    const released = Promise.withResolvers<void>();
    sink.answer = async (_request, response) => {
      await released.promise;
      response.end("ok");
    };
    const one = toRequest(door, sink).replace("connection: close\r\n", "");
    openSocket(door.port).write(one.repeat(100));
    await vi.waitFor(() => expect(door.events).toHaveLength(36));
    await vi.waitFor(() => expect(sink.requests).toHaveLength(64));
    expect(new Set(door.events.map(({ reason }) => reason))).toEqual(new Set(["limit"]));
    released.resolve();
  });
});

function toChunked(coding: string, bytes: Buffer): Buffer {
  const head = `HTTP/1.1 200 OK\r\ntransfer-encoding: ${coding}\r\n\r\n${bytes.length.toString(16)}\r\n`;
  return Buffer.concat([Buffer.from(head), bytes, Buffer.from("\r\n0\r\n\r\n")]);
}
