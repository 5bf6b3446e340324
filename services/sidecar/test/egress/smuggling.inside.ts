// Redirects, tunnels and requests of two meanings at the door: what the client reads, what is told, and what reaches whom.
import type { Socket } from "node:net";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { EgressRefusal } from "#contract/egress";
import { openSinkDoor, openSinks, openSocket, type Sink, type Sinks } from "../fakes/door-sinks.ts";
import type { LeaseWishes } from "../fakes/told-lease.ts";
import { type RawAnswer, sendRaw } from "../fixtures/raw-http.ts";
import { REFUSED_SHAPES, type Words } from "./smuggling-shapes.ts";
import { describeTunnels } from "./tunnel-suite.ts";

const SECRET = "sk-canary-0123456789";

let all: Sink[];
let sinks: Sinks;
let close: () => void;
const counts = { cases: 0, held: 0 };
beforeAll(async () => {
  ({ all, sinks, close } = await openSinks());
});
afterAll(() => {
  close();
  console.log(`redirect, CONNECT and smuggling: ${counts.held}/${counts.cases}`);
});
beforeEach(() => {
  for (const sink of all) sink.reset();
  counts.cases += 1;
});
afterEach(({ task }) => {
  if (task.result?.state !== "fail") counts.held += 1;
});

const openDoor = (wishes: LeaseWishes = {}) => {
  const { allowed, bound, plain } = sinks;
  const patterns = [allowed, bound, plain.allowed].map(({ pattern }) => pattern);
  return openSinkDoor(all, { patterns, ...wishes });
};
type Door = Awaited<ReturnType<typeof openDoor>>;

const hits = (): string[] => all.flatMap((sink) => Array<string>(sink.dials).fill(sink.url));
const readCode = (answer: RawAnswer): string =>
  EgressRefusal.parse(JSON.parse(answer.body.slice(answer.body.indexOf("{"))).error).code;
const toWords = (door: Door): Words => ({
  to: sinks.plain.allowed.authority,
  not: sinks.plain.evil.authority,
  key: door.placeholder,
});

describe("S3.4 a request that could be read in two ways is refused, told, and reaches nobody", () => {
  test.each(REFUSED_SHAPES.map((shape) => [shape.what, shape] as const))("%s", async (_what, shape) => {
    const door = await openDoor();
    const got = await sendRaw(door.port, Buffer.from(shape.bytes(toWords(door)), "latin1"));
    expect([got.status, got.headers["pillion-refused"], readCode(got)]).toEqual([
      shape.status,
      shape.reason,
      shape.reason,
    ]);
    await vi.waitFor(() => expect(door.events.length).toBeGreaterThan(0));
    expect(door.events[0]).toMatchObject({ allowed: false, reason: shape.reason, address: null });
    expect(hits()).toEqual([]);
  });

  test("the controls: the same in a plain form, and to a host that is allowed, reach their server", async () => {
    const { plain } = sinks;
    const door = await openDoor({
      patterns: [plain.allowed.pattern, plain.evil.pattern, sinks.allowed.pattern],
    });
    const key = `x-api-key: ${door.placeholder}`;
    const plainForms = [plain.allowed, plain.evil].flatMap((sink) => [
      `POST ${sink.base}/x HTTP/1.1\r\nhost: door\r\n${key}\r\ncontent-length: 3\r\n\r\nabc`,
      `POST ${sink.base}/x HTTP/1.1\r\nhost: door\r\n${key}\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n`,
      `GET ${sink.url}/x HTTP/1.1\r\nhost: ${sink.authority}\r\n${key}\r\n\r\n`,
      `GET ${sink.base}/x HTTP/1.0\r\n${key}\r\n\r\n`,
      `GET ${sink.base}/x HTTP/1.1\r\nhost: door\r\n${key}\r\nexpect: 100-continue\r\n\r\n`,
    ]);
    for (const bytes of plainForms)
      expect([bytes, (await sendRaw(door.port, bytes)).status]).toEqual([bytes, 200]);
    expect([plain.allowed.requests.length, plain.evil.requests.length]).toEqual([5, 5]);
    expect(door.events.every(({ allowed }) => allowed)).toBe(true);
  });

  test("the control: a server that is asked itself takes shapes that the door refuses", async () => {
    const sink = sinks.plain.evil;
    const words = { ...toWords(await openDoor()), to: sink.authority };
    const taken = await Promise.all(
      REFUSED_SHAPES.map(({ bytes }) =>
        sendRaw(sink.port, Buffer.from(bytes(words), "latin1")).then(
          ({ status }) => status === 200,
          () => false,
        ),
      ),
    );
    expect(taken.filter(Boolean).length).toBeGreaterThan(20);
    expect(sink.connections).toHaveLength(REFUSED_SHAPES.length);
  }, 60_000);
});

describe("S3.4 what is carried goes out in one form only", () => {
  const cases: [string, string[], string, RegExp[], RegExp[]][] = [
    [
      "chunk extensions are dropped",
      ["transfer-encoding: chunked"],
      "3;a=b\r\nabc\r\n0;c\r\n\r\n",
      [/\r\n3\r\nabc\r\n0\r\n\r\n$/],
      [/a=b/],
    ],
    [
      "trailers are dropped",
      ["transfer-encoding: chunked", "trailer: x-late"],
      "3\r\nabc\r\n0\r\nx-late: 1\r\n\r\n",
      [/\r\n0\r\n\r\n$/],
      [/x-late/],
    ],
    [
      "chunked in capitals is chunked",
      ["transfer-encoding: CHUNKED"],
      "3\r\nabc\r\n0\r\n\r\n",
      [/transfer-encoding: chunked\r\n/i],
      [/CHUNKED/],
    ],
    [
      "headers that the connection names are dropped",
      ["connection: x-one, X-Two", "x-one: 1", "x-two: 2", "x-three: 3", "content-length: 0"],
      "",
      [/x-three: 3/],
      [/x-one/, /x-two/],
    ],
    [
      "headers for a proxy are dropped",
      ["proxy-authorization: Basic eDp5", "proxy-connection: keep-alive", "proxy-x: 1", "content-length: 0"],
      "",
      [],
      [/proxy-/i, /eDp5/],
    ],
    [
      "hop-by-hop headers are dropped",
      ["te: trailers", "keep-alive: 5", "expect: 100-continue", "content-length: 3"],
      "abc",
      [/abc$/],
      [/\nte:/i, /keep-alive: 5/i, /expect/i],
    ],
    [
      "the client's own keys are dropped",
      [
        "authorization: Bearer own",
        "api-key: own",
        "x_api_key: own",
        "x-auth-token: own",
        "content-length: 0",
      ],
      "",
      [],
      [/own/],
    ],
    [
      "the placeholder is dropped wherever it stands in a header",
      ["x-note: a KEY b", "cookie: k=KEY", "x-basic: BASE", "content-length: 0"],
      "",
      [],
      [/pillion_/, /BASE/, /x-note/, /cookie/, /x-basic/],
    ],
  ];
  test.each(cases)("%s", async (_what, lines, body, there, gone) => {
    const door = await openDoor();
    const sink = sinks.plain.allowed;
    const filled = lines.map((line) =>
      line
        .replace("KEY", door.placeholder)
        .replace("BASE", Buffer.from(`pillion:${door.placeholder}`).toString("base64")),
    );
    const bytes = (path: string) =>
      [`POST ${path} HTTP/1.1`, "host: door", `x-api-key: ${door.placeholder}`, ...filled, "", body].join(
        "\r\n",
      );
    expect((await sendRaw(door.port, bytes(`${sink.base}/x`))).status).toBe(200);
    const [carried = ""] = sink.connections;
    for (const pattern of there) expect(carried).toMatch(pattern);
    for (const pattern of gone) expect(carried).not.toMatch(pattern);
    const encoded = Buffer.from(`pillion:${door.placeholder}`).toString("base64");
    expect(carried).not.toContain(encoded);
    await sendRaw(sink.port, bytes("/x")); // the control: asked itself it sees all of it
    expect(sink.connections[1]).toContain(filled.join("\r\n"));
  });

  test("a second request on the same connection is judged by itself", async () => {
    const door = await openDoor();
    const { allowed, evil } = sinks.plain;
    const one = (sink: Sink) =>
      `GET ${sink.base}/x HTTP/1.1\r\nhost: door\r\nx-api-key: ${door.placeholder}\r\n\r\n`;
    openSocket(door.port).write(one(allowed) + one(evil));
    await vi.waitFor(() => expect(door.events).toHaveLength(2));
    expect(door.events.map(({ host, reason }) => [host, reason]).toSorted()).toEqual([
      ["allowed.example", null],
      ["evil.example", "host_not_allowed"],
    ]);
    expect([allowed.requests.length, evil.connections.length]).toEqual([1, 0]);
    const open = await openDoor({ patterns: [allowed.pattern, evil.pattern] }); // the control
    openSocket(open.port).write((one(allowed) + one(evil)).replaceAll(door.placeholder, open.placeholder));
    await vi.waitFor(() => expect([allowed.requests.length, evil.requests.length]).toEqual([2, 1]));
  });

  test("a refused request's body is never read as the next request", async () => {
    const door = await openDoor();
    const { evil, allowed } = sinks.plain;
    const inner = `GET ${allowed.base}/inner HTTP/1.1\r\nhost: door\r\nx-api-key: ${door.placeholder}\r\n\r\n`;
    const head = `POST ${evil.base}/x HTTP/1.1\r\nhost: door\r\nx-api-key: ${door.placeholder}\r\n`;
    const socket = openSocket(door.port);
    socket.write(`${head}content-length: ${inner.length}\r\n\r\n${inner}`);
    await toClose(socket);
    expect(door.events).toMatchObject([{ host: "evil.example", allowed: false }]);
    expect(hits()).toEqual([]);
    await sendRaw(door.port, inner); // the control
    expect(allowed.requests).toHaveLength(1);
  });

  test("a question's secrets are not in the event of a refusal", async () => {
    const door = await openDoor();
    await sendRaw(door.port, `GET /somewhere?token=abc HTTP/1.1\r\nhost: door\r\n\r\n`);
    await sendRaw(door.port, `GET ftp://evil.example/x?token=abc HTTP/1.1\r\nhost: door\r\n\r\n`);
    expect(door.events).toHaveLength(2);
    expect(JSON.stringify(door.events)).not.toContain("token");
  });
});

describe("S3.4 a redirect is passed on and never followed, and brings no secret with it", () => {
  const targets: [string, () => string][] = [
    ["another host", () => `${sinks.evil.url}/caught`],
    ["another scheme", () => `${sinks.plain.bound.url}/caught`],
    ["a private address", () => `http://127.0.0.1:${sinks.plain.evil.port}/caught`],
    ["metadata", () => "http://169.254.169.254/latest/meta-data/"],
    ["a path of its own", () => "/caught"],
    ["no scheme", () => `//${sinks.evil.authority}/caught`],
    ["the secret in a query", () => `${sinks.evil.url}/caught?k=${SECRET}`],
    ["the secret escaped", () => `${sinks.evil.url}/caught?k=${Buffer.from(SECRET).toString("hex")}`],
  ];
  const cases = [301, 302, 303, 307, 308].flatMap((status) =>
    targets.map(([what, toUrl]) => [status, what, toUrl] as const),
  );
  test.each(cases)("%i to %s", async (status, _what, toUrl) => {
    const { bound } = sinks;
    const credentials = [{ host: bound.authority, header: "x-token", value: SECRET }];
    const door = await openDoor({ credentials });
    const location = toUrl();
    bound.answer = (_request, response) =>
      void response.writeHead(status, { location, refresh: `0; url=${location}` }).end("moved");
    const got = await sendRaw(
      door.port,
      `GET ${bound.base}/x HTTP/1.1\r\nhost: door\r\nconnection: close\r\nx-api-key: ${door.placeholder}\r\n\r\n`,
    );
    const clean = location
      .replace(SECRET, "[redacted]")
      .replace(Buffer.from(SECRET).toString("hex"), "[redacted]");
    expect([got.status, got.headers.location, got.headers.refresh]).toEqual([
      status,
      clean,
      `0; url=${clean}`,
    ]);
    expect(hits()).toEqual([bound.url]);
    expect(bound.requests).toHaveLength(1);
    expect(door.events).toMatchObject([{ allowed: true, status, credential: bound.authority }]);
  });

  test("the control: who follows it without the door reaches the other server", async () => {
    const { allowed, evil } = sinks.plain;
    allowed.answer = (_request, response) =>
      void response.writeHead(302, { location: `http://127.0.0.1:${evil.port}/caught` }).end();
    expect((await fetch(`http://127.0.0.1:${allowed.port}/x`)).status).toBe(200);
    expect(evil.requests.map(({ url }) => url)).toEqual(["/caught"]);
  });

  test("the control: a server that is asked itself sends the secret in its redirect", async () => {
    const { allowed } = sinks.plain;
    allowed.answer = (request, response) =>
      void response.writeHead(302, { location: `/?k=${request.headers["x-token"]}` }).end();
    const got = await sendRaw(
      allowed.port,
      `GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-token: ${SECRET}\r\n\r\n`,
    );
    expect(got.headers.location).toContain(SECRET);
  });
});

describeTunnels(() => ({ all, sinks }));

/** Also where it is cut. */
function toClose(socket: Socket): Promise<void> {
  return new Promise((resolve) => socket.resume().once("close", () => resolve()));
}
