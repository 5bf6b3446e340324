// A bound credential goes to its place only, and never comes back, however a server says it.
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { brotliCompressSync, deflateSync, gzipSync, zstdCompressSync } from "node:zlib";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Credential } from "#contract/agent";
import { type Answer, openSinkDoor, openSinks, Sink, type Sinks } from "../fakes/door-sinks.ts";
import { sendRaw } from "../fixtures/raw-http.ts";

const SECRET = "sk-Canary+0123/456789";
const SECOND = "pk-Second-9876543210";

let all: Sink[];
let sinks: Sinks;
let close: () => void;
const counts = { cases: 0, held: 0 };
beforeAll(async () => {
  ({ all, sinks, close } = await openSinks());
});
afterAll(() => {
  close();
  console.log(`credential scope: ${counts.held}/${counts.cases}`);
});
beforeEach(() => {
  for (const sink of all) sink.reset();
  counts.cases += 1;
});
afterEach(({ task }) => {
  if (task.result?.state !== "fail") counts.held += 1;
});

type Bound = Partial<Credential>;

const openDoor = (...bound: readonly Bound[]) => {
  const credentials = (bound.length === 0 ? [{}] : bound).map((one) => ({
    host: sinks.bound.authority,
    header: "x-api-key",
    value: SECRET,
    ...one,
  }));
  const patterns = [sinks.bound, sinks.other, sinks.plain.bound].map(({ pattern }) => pattern);
  return openSinkDoor(all, { patterns, credentials });
};
type Door = Awaited<ReturnType<typeof openDoor>>;

const toRequest = (door: Door, target: string, { method = "GET", more = "" } = {}) =>
  `${method} ${target} HTTP/1.1\r\nhost: door\r\nconnection: close\r\nauthorization: Bearer ${door.placeholder}\r\n${more}\r\n`;

describe("S3.4 a credential goes to its host, port, scheme, path and methods only", () => {
  const prefix: Bound[] = [{ pathPrefix: "/repos/mine" }];
  const cases: [string, Bound[], string, string, string | null][] = [
    ["its host", [], "/x", "GET", SECRET],
    ["its host, without a path", [], "", "GET", SECRET],
    ["its path", prefix, "/repos/mine", "GET", SECRET],
    ["its path with a slash", prefix, "/repos/mine/", "GET", SECRET],
    ["below its path", prefix, "/repos/mine/x?y=/..", "GET", SECRET],
    ["its path with a question", prefix, "/repos/mine?x", "GET", SECRET],
    ["a longer name", prefix, "/repos/mine2", "GET", null],
    ["a shorter path", prefix, "/repos", "GET", null],
    ["another case", prefix, "/repos/Mine", "GET", null],
    ["a way up", prefix, "/repos/mine/../yours", "GET", null],
    ["a way up at the end", prefix, "/repos/mine/..", "GET", null],
    ["a dot", prefix, "/repos/mine/./x", "GET", null],
    ["an escaped way up", prefix, "/repos/mine/%2e%2e/yours", "GET", null],
    ["a half escaped way up", prefix, "/repos/mine/.%2E/yours", "GET", null],
    ["a way up escaped twice", prefix, "/repos/mine/%252e%252e/yours", "GET", null],
    ["a way up in a longer encoding", prefix, "/repos/mine/%c0%ae%c0%ae/yours", "GET", null],
    ["an escaped slash", prefix, "/repos/mine%2f..%2fyours", "GET", null],
    ["a backslash", prefix, "/repos/mine/%5c..", "GET", null],
    ["a parameter", prefix, "/repos/mine/..;/yours", "GET", null],
    ["a broken escape", prefix, "/repos/mine/%zz", "GET", null],
    ["an escaped nul", prefix, "/repos/mine/%00", "GET", null],
    ["two slashes before", prefix, "//repos/mine", "GET", null],
    ["two slashes inside", prefix, "/repos//mine", "GET", null],
    ["a question that looks like it", prefix, "/x?/repos/mine", "GET", null],
    ["its path elsewhere", prefix, "/x/repos/mine", "GET", null],
    ["its method", [{ methods: ["POST"] }], "/x", "POST", SECRET],
    ["another method", [{ methods: ["POST"] }], "/x", "GET", null],
    ["another method of the same path", [{ methods: ["GET"] }], "/x", "DELETE", null],
    ["the longest path of two", [{}, { pathPrefix: "/a", value: SECOND }], "/a/x", "GET", SECOND],
    [
      "the longest path, whatever the order",
      [{ pathPrefix: "/a", value: SECOND }, {}],
      "/a/x",
      "GET",
      SECOND,
    ],
    [
      "the shorter path of two outside the longer",
      [{ pathPrefix: "/a", value: SECOND }, {}],
      "/b",
      "GET",
      SECRET,
    ],
    ["the last of two alike", [{}, { value: SECOND }], "/x", "GET", SECOND],
    [
      "the one of two whose method fits",
      [{ methods: ["GET"] }, { methods: ["PUT"], value: SECOND }],
      "/x",
      "GET",
      SECRET,
    ],
  ];
  test.each(cases)("%s", async (_what, bound, path, method, expected) => {
    const door = await openDoor(...bound);
    const target = Buffer.from(toRequest(door, `${sinks.bound.base}${path}`, { method }), "latin1");
    expect((await sendRaw(door.port, target)).status).toBe(200);
    expect(sinks.bound.requests.map(({ headers }) => headers["x-api-key"] ?? null)).toEqual([expected]);
    expect(sinks.bound.requests[0]?.headers.authorization).toBeUndefined();
    expect(door.events).toMatchObject([
      { allowed: true, credential: expected === null ? null : sinks.bound.authority },
    ]);
  });

  test.each([
    ["another host", () => sinks.other],
    ["its host in plain HTTP, at another port", () => sinks.plain.bound],
  ])("%s never gets it", async (_what, toSink) => {
    const door = await openDoor();
    expect((await sendRaw(door.port, toRequest(door, `${toSink().base}/x`))).status).toBe(200);
    expect(toSink().connections.join("")).toContain("GET /x"); // it came
    expect(toSink().connections.join("")).not.toContain(SECRET);
  });

  test.each<[string, string]>([
    ["X-Api-Key: own", "own"],
    ["X-API-KEY: own\r\nx-api-key: own2", "own"],
    ["x_api_key: own", "own"],
    ["connection: x-api-key\r\nx-api-key: own", "own"],
    ["proxy-authorization: Basic own", "own"],
  ])("%j is overwritten", async (more, own) => {
    const door = await openDoor();
    const request = toRequest(door, `${sinks.bound.base}/x`, { more: `${more}\r\n` });
    await sendRaw(door.port, request);
    expect(sinks.bound.requests[0]?.headers["x-api-key"]).toBe(SECRET);
    expect(sinks.bound.connections.join("")).not.toContain(own);
    await sendRaw(sinks.plain.other.port, request); // the control: without the door it comes as it was sent
    expect(sinks.plain.other.connections.join("")).toContain(own);
  });

  test("a server whose certificate is for another name never gets it", async () => {
    const { bound } = sinks;
    const wrong = Object.assign(new Sink("unnamed.example", "https"), { port: bound.port });
    const credentials = [{ host: wrong.authority, header: "x-api-key", value: SECRET }];
    const door = await openSinkDoor([wrong], { patterns: [wrong.pattern], credentials });
    expect((await sendRaw(door.port, toRequest(door, `${wrong.base}/x`))).status).toBe(502);
    expect(door.events).toMatchObject([{ allowed: true, failure: "unreachable", status: null }]);
    expect([bound.dials, bound.requests]).toEqual([1, []]);
    const right = await openDoor(); // the control: the same server under its own name
    expect((await sendRaw(right.port, toRequest(right, `${bound.base}/x`))).status).toBe(200);
  });

  test("another run's placeholder opens nothing, and each run's door gives its own credential", async () => {
    const [one, two] = [await openDoor(), await openDoor({ value: SECOND })];
    const wrong = await sendRaw(one.port, toRequest(two, `${sinks.bound.base}/x`));
    expect([wrong.status, sinks.bound.dials]).toEqual([401, 0]);
    await sendRaw(one.port, toRequest(one, `${sinks.bound.base}/x`));
    await sendRaw(two.port, toRequest(two, `${sinks.bound.base}/x`));
    expect(sinks.bound.requests.map(({ headers }) => headers["x-api-key"])).toEqual([SECRET, SECOND]);
  });

  test("after the lease ended nothing goes out", async () => {
    const door = await openDoor();
    door.lease.end();
    await expect(sendRaw(door.port, toRequest(door, `${sinks.bound.base}/x`))).rejects.toThrow(
      "no whole answer",
    );
    expect(sinks.bound.dials).toBe(0);
  });
});

/** The secret as the server was sent it. */
const seen = (request: { headers: Record<string, unknown> }): string => String(request.headers["x-api-key"]);
const encoded =
  (name: string, encode: (text: string) => Buffer): Answer =>
  (request, response) =>
    void response.setHeader("content-encoding", name).end(encode(`before ${seen(request)} after`));
const said =
  (write: (secret: string) => string): Answer =>
  (request, response) =>
    void response.end(`before ${write(seen(request))} after`);

describe("S3.4 a credential never comes back", () => {
  const forms: [string, Answer, (secret: string) => string][] = [
    ["in the body", said((secret) => secret), (secret) => secret],
    ["many times", said((secret) => secret.repeat(50)), (secret) => secret],
    [
      "in base64",
      said((secret) => Buffer.from(secret).toString("base64")),
      (secret) => Buffer.from(secret).toString("base64"),
    ],
    [
      "in base64 among other bytes",
      said((secret) => Buffer.from(`a:${secret}:b`).toString("base64")),
      (secret) => Buffer.from(`a:${secret}:b`).toString("base64").slice(4, -4),
    ],
    [
      "in hexadecimal",
      said((secret) => Buffer.from(secret).toString("hex")),
      (secret) => Buffer.from(secret).toString("hex"),
    ],
    ["escaped for an address", said(encodeURIComponent), encodeURIComponent],
    [
      "backwards",
      said((secret) => [...secret].reverse().join("")),
      (secret) => [...secret].reverse().join(""),
    ],
    ["in JSON", said((secret) => JSON.stringify({ secret })), (secret) => secret],
    ["in an error's page", (q, r) => void r.writeHead(500).end(seen(q)), (secret) => secret],
    ["in a header", (q, r) => void r.setHeader("x-echo", seen(q)).end(), (secret) => secret],
    [
      "in several headers",
      (q, r) => void r.setHeader("set-cookie", [`a=${seen(q)}`, `b=${seen(q)}`]).end(),
      (secret) => secret,
    ],
    [
      "in a header's value with more",
      (q, r) => void r.setHeader("www-authenticate", `Basic realm="${seen(q)}"`).end(),
      (secret) => secret,
    ],
    [
      "in a redirect",
      (q, r) => void r.writeHead(302, { location: `https://evil.example/?k=${seen(q)}` }).end(),
      (secret) => secret,
    ],
    ["in the status line", (q, r) => void r.writeHead(200, `OK ${seen(q)}`).end(), (secret) => secret],
    [
      "in a trailer",
      (q, r) => {
        r.setHeader("trailer", "x-late");
        r.write("body");
        r.addTrailers({ "x-late": seen(q) });
        r.end();
      },
      (secret) => secret,
    ],
    [
      "in an early hint",
      (q, r) => {
        r.writeEarlyHints({ link: "</a>; rel=preload", "x-echo": seen(q) });
        r.end("ok");
      },
      (secret) => secret,
    ],
    [
      "split over chunks",
      (q, r) => {
        for (const byte of `before ${seen(q)} after`) r.write(byte);
        r.end();
      },
      (secret) => secret,
    ],
    [
      "with 206",
      (q, r) => void r.writeHead(206, { "content-range": "bytes 0-9/10" }).end(seen(q)),
      (secret) => secret,
    ],
    ["with 304", (q, r) => void r.writeHead(304, { etag: `"${seen(q)}"` }).end(), (secret) => secret],
    ["in gzip", encoded("gzip", gzipSync), () => "content-encoding"],
    ["in x-gzip", encoded("x-gzip", gzipSync), () => "content-encoding"],
    ["in deflate", encoded("deflate", deflateSync), () => "content-encoding"],
    ["in brotli", encoded("br", brotliCompressSync), () => "content-encoding"],
    ["in zstd", encoded("zstd", zstdCompressSync), () => "content-encoding"],
    ["in gzip twice", encoded("gzip, gzip", (text) => gzipSync(gzipSync(text))), () => "content-encoding"],
    [
      "in an encoding that is not known",
      encoded("compress", (text) => Buffer.from(text)),
      () => "content-encoding",
    ],
    ["in an encoding that it is not in", encoded("gzip", (text) => Buffer.from(text)), () => "before"],
  ];
  test.each(forms)("%s", async (_what, answer, write) => {
    const door = await openDoor();
    sinks.bound.answer = answer;
    const request = toRequest(door, `${sinks.bound.base}/x`);
    const got = await sendRaw(door.port, request).then(JSON.stringify, () => "");
    const parts = [
      SECRET,
      encodeURIComponent(SECRET),
      Buffer.from(SECRET).toString("hex"),
      Buffer.from(SECRET).toString("base64").slice(2, -4),
    ];
    expect(parts.filter((part) => got.replaceAll("\\r\\n1\\r\\n", "").includes(part))).toEqual([]);
    expect(got).not.toContain([...SECRET].reverse().join(""));
    expect(sinks.bound.requests[0]?.headers).toMatchObject({
      "x-api-key": SECRET,
      "accept-encoding": "identity",
    });
    sinks.plain.other.answer = answer; // the control: the server, asked without the door, does say it
    const spoken = await readAll(sinks.plain.other, SECRET);
    expect(spoken.includes(write(SECRET)) || spoken.includes(SECRET)).toBe(true);
  });

  const packed: [string, Answer][] = [
    ["gzip", encoded("gzip", gzipSync)],
    ["x-gzip", encoded("X-GZip", gzipSync)],
    ["deflate", encoded("deflate", deflateSync)],
    ["br", encoded("br", brotliCompressSync)],
    ["zstd", encoded("zstd", zstdCompressSync)],
  ];
  test.each(packed)("in %s, of which the client gets what was inside, without it", async (_what, answer) => {
    const door = await openDoor();
    sinks.bound.answer = answer;
    const got = await sendRaw(door.port, toRequest(door, `${sinks.bound.base}/x`));
    expect(got.body.replace(/\r\n[0-9a-f]+\r\n/g, "")).toContain("before [redacted] after");
    expect(got.headers["content-encoding"]).toBeUndefined();
  });

  test.each<[string, (secret: string) => string]>([
    ["in JSON as PHP writes it", (secret) => secret.replace("/", "\\/")],
    ["in JSON as .NET writes it", (secret) => secret.replace("+", "\\u002B")],
    ["escaped for a path", (secret) => encodeURIComponent(secret).replace("%2F", "/")],
  ])("%s", async (_what, write) => {
    const door = await openDoor();
    sinks.bound.answer = said(write);
    const got = await sendRaw(door.port, toRequest(door, `${sinks.bound.base}/x`));
    expect(got.body).toContain("before [redacted] after");
    sinks.plain.other.answer = said(write); // the control
    expect(await readAll(sinks.plain.other, SECRET)).toContain(write(SECRET));
  });

  test("in an echo of all that was sent, the question's included", async () => {
    const door = await openDoor();
    const got = await sendRaw(door.port, toRequest(door, `${sinks.bound.base}/x?y=1`));
    expect(got.body).toContain('"x-api-key":"[redacted]"');
    expect(got.body).toContain("/x?y=1");
  });

  test("with a HEAD", async () => {
    const door = await openDoor();
    sinks.bound.answer = (q, r) => void r.setHeader("x-echo", seen(q)).end();
    const got = await sendRaw(door.port, toRequest(door, `${sinks.bound.base}/x`, { method: "HEAD" }));
    expect([got.status, got.headers["x-echo"]]).toEqual([200, "[redacted]"]);
  });

  test("in parts: what asks for a part goes out without it", async () => {
    const door = await openDoor();
    const more = "range: bytes=0-5\r\nif-range: x\r\n";
    await sendRaw(door.port, toRequest(door, `${sinks.bound.base}/x`, { more }));
    expect(sinks.bound.connections.join("")).not.toMatch(/range/i);
    await sendRaw(sinks.plain.other.port, toRequest(door, "/x", { more })); // the control
    expect(sinks.plain.other.connections.join("")).toMatch(/range: bytes=0-5/);
  });

  test("also where it is as long as a request may make it", async () => {
    const value = `Bearer ${"0123456789abcdef+/=".repeat(700)}`;
    const door = await openDoor({ value });
    sinks.bound.answer = (q, r) => void r.setHeader("x-note", "none").end(`before ${seen(q)} after`);
    const got = await sendRaw(door.port, toRequest(door, `${sinks.bound.base}/x`));
    expect([got.status, got.headers["x-note"]]).toEqual([200, "none"]);
    expect(got.body).toContain("before [redacted] after");
    expect(sinks.bound.requests[0]?.headers["x-api-key"]).toBe(value); // the control: it was there to be said
  });

  test("nor what is inside it beyond ASCII, in a header and in the body", async () => {
    const bytes = Buffer.from("user:pässwörd-0123456789");
    const door = await openDoor({ value: `Basic ${bytes.toString("base64")}` });
    const said = `HTTP/1.1 200 OK\r\nx-echo: ${bytes}\r\n\r\nbefore ${bytes} after`;
    sinks.bound.answer = (q) => void q.socket.end(said);
    const got = await sendRaw(door.port, toRequest(door, `${sinks.bound.base}/x`));
    expect([got.status, got.headers["x-echo"]]).toEqual([200, "[redacted]"]);
    expect(got.body).toContain("before [redacted] after");
  });

  test("on a connection that is kept", async () => {
    const door = await openDoor();
    for (const _ of [1, 2, 3]) {
      const got = await sendRaw(door.port, toRequest(door, `${sinks.bound.base}/x`));
      expect(got.body).toContain("[redacted]");
    }
    expect([sinks.bound.requests.length, sinks.bound.dials]).toEqual([3, 1]);
  });
});

/** All bytes that a sink says to one request. */
async function readAll(sink: Sink, key: string): Promise<string> {
  const socket = connect(sink.port, "127.0.0.1");
  socket.write(`GET /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-api-key: ${key}\r\n\r\n`);
  return (await text(socket)).replaceAll("\r\n1\r\n", "");
}
