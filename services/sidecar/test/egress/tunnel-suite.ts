/** What a tunnel of the door is for, and what it is not; told and counted as the other cases are. */
import { once } from "node:events";
import type { Socket } from "node:net";
import { Duplex, duplexPair } from "node:stream";
import { buffer } from "node:stream/consumers";
import { connect as connectTls } from "node:tls";
import { describe, expect, test, vi } from "vitest";
import { EgressRefusal } from "#contract/egress";
import { openSandboxDoor } from "../../src/http/sandbox-door.ts";
import { openSinkDoor, openSocket, rawAnswer, type Sink, type Sinks } from "../fakes/door-sinks.ts";
import type { LeaseWishes } from "../fakes/told-lease.ts";
import { type RawAnswer, sendRaw } from "../fixtures/raw-http.ts";
import { readClientHello } from "./client-hello.ts";

const SECRET = "sk-canary-0123456789";

type Door = Awaited<ReturnType<typeof openSinkDoor>>;

export function describeTunnels(
  opened: () => { readonly all: readonly Sink[]; readonly sinks: Sinks },
): void {
  const openDoor = (wishes: LeaseWishes = {}) => {
    const { all, sinks } = opened();
    const patterns = [sinks.allowed, sinks.bound, sinks.plain.allowed].map(({ pattern }) => pattern);
    return openSinkDoor(all, { patterns, ...wishes });
  };
  const hits = (): number => opened().all.reduce((sum, { dials }) => sum + dials, 0);
  describeRefusals(openDoor, opened, hits);
  describeContent(openDoor, opened);
}

type OpenDoor = (wishes?: LeaseWishes) => Promise<Door>;

function describeRefusals(
  openDoor: OpenDoor,
  opened: () => { readonly sinks: Sinks },
  hits: () => number,
): void {
  describe("S3.4 a tunnel that is not for an allowed host is refused before anything is dialled", () => {
    const secret = () => [
      { host: opened().sinks.bound.authority, header: "authorization", value: `Bearer ${SECRET}` },
    ];
    const model = () => ({
      kind: "http" as const,
      baseUrl: new URL(`${opened().sinks.model.url}/v1`),
      header: null,
      privateAllowed: false,
    });
    const cases: [string, (door: Door) => string, number, string][] = [
      ["no port", () => "allowed.example", 403, "bad_host"],
      ["an empty port", () => "allowed.example:", 403, "bad_host"],
      ["port 0", () => "allowed.example:0", 403, "bad_host"],
      ["port 65536", () => "allowed.example:65536", 403, "bad_host"],
      ["a port with a zero before", () => `allowed.example:0${opened().sinks.allowed.port}`, 403, "bad_host"],
      ["a scheme", () => opened().sinks.allowed.url, 403, "bad_host"],
      ["a path", () => `${opened().sinks.allowed.authority}/x`, 403, "bad_host"],
      ["a user", () => `allowed.example@${opened().sinks.evil.authority}`, 403, "bad_host"],
      ["an address", () => `127.0.0.1:${opened().sinks.allowed.port}`, 403, "host_not_allowed"],
      ["an address of six", () => `[::1]:${opened().sinks.allowed.port}`, 403, "host_not_allowed"],
      ["a mapped address", () => `[::ffff:7f00:1]:${opened().sinks.allowed.port}`, 403, "host_not_allowed"],
      ["an address as a number", () => `2130706433:${opened().sinks.allowed.port}`, 403, "bad_host"],
      ["a host that is not allowed", () => opened().sinks.evil.authority, 403, "host_not_allowed"],
      [
        "an allowed host at another port",
        () => `allowed.example:${opened().sinks.evil.port}`,
        403,
        "host_not_allowed",
      ],
      [
        "an allowed host at its plain port",
        () => opened().sinks.plain.allowed.authority,
        403,
        "host_not_allowed",
      ],
      [
        "a host that a credential is bound to",
        () => opened().sinks.bound.authority,
        403,
        "credential_needs_base_url",
      ],
      ["the model's host", () => opened().sinks.model.authority, 403, "call_not_allowed"],
    ];
    test.each(cases)("%s", async (_what, toAuthority, status, code) => {
      const door = await openDoor({ credentials: secret(), upstream: model() });
      const authority = toAuthority(door);
      const got = await sendRaw(door.port, toConnect(authority, door.placeholder));
      expect([got.status, got.headers["pillion-refused"], readCode(got)]).toEqual([status, code, code]);
      expect(door.events).toMatchObject([{ allowed: false, reason: code, status: null }]);
      expect(hits()).toBe(0);
      if (code === "credential_needs_base_url")
        expect(got.body).toContain(`$PILLION_DOOR/to/https/${authority}/`);
    });

    test.each([
      ["without the placeholder", () => ""],
      ["with another run's", () => "other"],
    ])("%s", async (_what, toKey) => {
      const [door, other] = [await openDoor(), await openDoor()];
      const key = toKey() === "other" ? other.placeholder : "";
      const got = await sendRaw(door.port, toConnect(opened().sinks.allowed.authority, key));
      expect([got.status, readCode(got)]).toEqual([407, "no_placeholder"]);
      expect(got.headers["proxy-authenticate"]).toMatch(/^Basic /);
      expect(door.events).toMatchObject([
        { allowed: false, reason: "no_placeholder", host: "allowed.example" },
      ]);
      expect(hits()).toBe(0);
    });

    test("the control: the same to an allowed host is a tunnel, through which a client and its server speak", async () => {
      const door = await openDoor({ patterns: [opened().sinks.evil.pattern] });
      const tls = connectTls({
        socket: await openTunnel(door, opened().sinks.evil),
        servername: "EVIL.example",
      });
      tls.write("GET /through HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n");
      await toClose(tls);
      expect(opened().sinks.evil.requests.map(({ url }) => url)).toEqual(["/through"]);
      await vi.waitFor(() => expect(door.events).toHaveLength(1));
      expect(door.events).toMatchObject([
        {
          allowed: true,
          way: "connect",
          host: "evil.example",
          serverName: "evil.example",
          address: "127.0.0.1",
          path: null,
          status: null,
        },
      ]);
      expect(door.events[0]?.bytesSent).toBeGreaterThan(100);
      expect(door.events[0]?.bytesReceived).toBeGreaterThan(100);
    });
  });
}

function describeContent(openDoor: OpenDoor, opened: () => { readonly sinks: Sinks }): void {
  describe("S3.4 what goes through a tunnel is TLS for the name that was asked for", () => {
    const hello = (name: string | undefined) => readClientHello(name);
    const refused: [string, () => Promise<Buffer>, string][] = [
      ["plain HTTP", async () => Buffer.from("GET / HTTP/1.1\r\nhost: allowed.example\r\n\r\n"), "not_tls"],
      ["SSH", async () => Buffer.from("SSH-2.0-client\r\n"), "not_tls"],
      ["an old form of TLS", async () => Buffer.from("802e0100020015", "hex"), "not_tls"],
      ["no name", () => hello(undefined), "name_mismatch"],
      ["another name", () => hello("evil.example"), "name_mismatch"],
      ["a name below", () => hello("x.allowed.example"), "name_mismatch"],
      ["a name with a last dot", () => hello("allowed.example."), "name_mismatch"],
      [
        "another name, then the right one",
        async () => Buffer.concat([await hello("evil.example"), await hello("allowed.example")]),
        "name_mismatch",
      ],
      [
        "a hello without an end",
        async () => Buffer.concat([Buffer.from("1603010400", "hex"), Buffer.alloc(40_000, 1)]),
        "name_mismatch",
      ],
      [
        "a hello that is too large",
        async () => toRecords(Buffer.concat([Buffer.from("0100ffff", "hex"), Buffer.alloc(65_535, 3)])),
        "name_mismatch",
      ],
      ["a broken hello", async () => Buffer.from("16030100050100000100", "hex"), "name_mismatch"],
    ];
    test.each(refused)("%s", async (_what, toBytes, reason) => {
      const door = await openDoor();
      const tunnel = await openTunnel(door, opened().sinks.allowed);
      tunnel.write(await toBytes());
      await toClose(tunnel);
      await vi.waitFor(() => expect(door.events).toHaveLength(1));
      expect(door.events).toMatchObject([{ allowed: false, reason, host: "allowed.example", bytesSent: 0 }]);
      expect(opened().sinks.allowed.connections.join("")).toBe("");
      expect(opened().sinks.allowed.requests).toEqual([]);
    });

    const carried: [string, (name: string) => Promise<Buffer[]>][] = [
      ["at once", async (name) => [await hello(name)]],
      ["in other case", async (name) => [await hello(name.toUpperCase())]],
      ["byte by byte", async (name) => [...(await hello(name))].map((byte) => Buffer.from([byte]))],
      ["in records of ten bytes", async (name) => [toRecords((await hello(name)).subarray(5), 10)]],
    ];
    test.each(carried)("the controls: the right name %s is answered by its server", async (_how, toParts) => {
      const door = await openDoor();
      const tunnel = await openTunnel(door, opened().sinks.allowed);
      tunnel.setNoDelay(true);
      for (const part of await toParts("allowed.example")) tunnel.write(part);
      const [answer] = await once(tunnel, "data");
      expect(answer[0]).toBe(0x16); // the server's own hello
      tunnel.destroy();
      await vi.waitFor(() => expect(door.events).toHaveLength(1));
      expect(door.events).toMatchObject([{ allowed: true, serverName: "allowed.example" }]);
    });

    test("a hello that comes with the request is read as if it came after the answer", async () => {
      const door = await openDoor();
      for (const name of ["evil.example", "allowed.example"]) {
        const socket = openSocket(door.port);
        const bytes = await hello(name);
        socket.write(
          Buffer.concat([Buffer.from(toConnect(opened().sinks.allowed.authority, door.placeholder)), bytes]),
        );
        if (name === "allowed.example")
          await vi.waitFor(() => expect(String(socket.read() ?? "")).toContain("\x16\x03\x03"));
        else await toClose(socket);
        socket.destroy();
      }
      await vi.waitFor(() => expect(door.events).toHaveLength(2));
      expect(door.events).toMatchObject([
        { allowed: false, reason: "name_mismatch", serverName: "evil.example" },
        { allowed: true, serverName: "allowed.example" },
      ]);
    });

    test("a client that goes before its hello is told as a cut", async () => {
      const door = await openDoor();
      (await openTunnel(door, opened().sinks.allowed)).destroy();
      await vi.waitFor(() => expect(door.events).toHaveLength(1));
      expect(door.events).toMatchObject([{ allowed: true, failure: "cut", serverName: null }]);
    });

    test("a hello that never comes is given up", { timeout: 60_000 }, async () => {
      const door = await openDoor();
      const tunnel = await openTunnel(door, opened().sinks.allowed);
      tunnel.write((await hello("allowed.example")).subarray(0, 20));
      await toClose(tunnel);
      expect(door.events).toMatchObject([{ allowed: true, failure: "timed_out", bytesSent: 0 }]);
    });

    test.each([
      ["sent", `POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 2000000\r\n\r\n${"x".repeat(2_000_000)}`],
      ["received", "GET / HTTP/1.1\r\nhost: h\r\n\r\n"],
    ])("bytes that are %s count against the run's, which end it", async (_way, request) => {
      const door = await openDoor({ limits: { requests: 100, bytes: 500_000 } });
      const sink = opened().sinks.allowed;
      sink.answer = (_request, response) => void response.end("x".repeat(2_000_000));
      const tls = connectTls({ socket: await openTunnel(door, sink), servername: "allowed.example" });
      tls.on("error", () => undefined);
      tls.write(request);
      await toClose(tls);
      await vi.waitFor(() => expect(door.events).toHaveLength(1));
      expect(door.events).toMatchObject([{ allowed: true, failure: "too_large" }]);
      expect(door.faults).toMatchObject([{ code: "budget_exceeded" }]);
    });

    test("a server that closes before a slow client has taken everything cuts nothing off", async () => {
      const door = await openDoor();
      const { allowed } = opened().sinks;
      const answer = Buffer.concat([Buffer.from("HTTP/1.1 200 OK\r\n\r\n"), Buffer.alloc(300_000, "x")]);
      allowed.answer = rawAnswer(answer);
      const [near, far] = duplexPair();
      openSandboxDoor(door.lease)(new SlowDuplex(far));
      near.write(toConnect(allowed.authority, door.placeholder));
      await once(near, "data");
      const tls = connectTls({ socket: near, servername: "allowed.example" });
      tls.write("GET / HTTP/1.1\r\nhost: allowed.example\r\n\r\n");
      expect((await buffer(tls)).equals(answer)).toBe(true);
      near.destroy();
      await vi.waitFor(() => expect(door.events).toHaveLength(1));
      expect(door.events).toMatchObject([{ allowed: true, failure: null }]);
    });

    test("a server that breaks off is not taken for one that has ended", async () => {
      const door = await openDoor();
      const { allowed } = opened().sinks;
      allowed.answer = (request, response) => {
        response.writeHead(200, { "content-length": 1_000 }).write("x");
        setImmediate(() => request.socket.destroy());
      };
      const tls = connectTls({ socket: await openTunnel(door, allowed), servername: "allowed.example" });
      tls.on("error", () => undefined);
      tls.write("GET / HTTP/1.1\r\nhost: allowed.example\r\n\r\n");
      await toClose(tls);
      await vi.waitFor(() => expect(door.events).toHaveLength(1));
      expect(door.events).toMatchObject([{ allowed: true }]);
    });

    test("the end of the lease cuts it", async () => {
      const door = await openDoor();
      const tls = connectTls({
        socket: await openTunnel(door, opened().sinks.allowed),
        servername: "allowed.example",
      });
      await once(tls, "secureConnect");
      tls.on("error", () => undefined);
      door.lease.end();
      await toClose(tls);
      await vi.waitFor(() => expect(door.events).toHaveLength(1));
      expect(door.events).toMatchObject([{ allowed: true, failure: "cut" }]);
    });
  });
}

/** Takes one piece at a time, and a while for each, as a pipe that is full does. */
class SlowDuplex extends Duplex {
  readonly #inner: Duplex;

  constructor(inner: Duplex) {
    super({ allowHalfOpen: true });
    this.#inner = inner;
    inner.on("data", (bytes) => this.push(bytes)).once("end", () => this.push(null));
    inner.once("close", () => this.destroy());
  }

  override _read(): void {}

  override _write(bytes: Buffer, encoding: BufferEncoding, done: () => void): void {
    setTimeout(() => this.#inner.write(bytes, encoding, () => done()), 10);
  }

  override _final(done: () => void): void {
    this.#inner.end(done);
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#inner.destroy();
    done(error);
  }
}

const readCode = (answer: RawAnswer): string => EgressRefusal.parse(JSON.parse(answer.body).error).code;

/** Also where it is cut. */
function toClose(socket: Socket): Promise<void> {
  return new Promise((resolve) => socket.resume().once("close", () => resolve()));
}

function toConnect(authority: string, key: string): string {
  const proof =
    key === "" ? "" : `proxy-authorization: Basic ${Buffer.from(`pillion:${key}`).toString("base64")}\r\n`;
  return `CONNECT ${authority} HTTP/1.1\r\nhost: ${authority}\r\n${proof}\r\n`;
}

/** The client's end, after the door said yes. */
async function openTunnel(door: Door, sink: Sink): Promise<Socket> {
  const socket = openSocket(door.port);
  socket.write(toConnect(sink.authority, door.placeholder));
  const [answer] = await once(socket, "data");
  expect(String(answer)).toMatch(/^HTTP\/1\.1 200 /);
  return socket;
}

/** A handshake message in records of at most `size` bytes. */
function toRecords(message: Buffer, size = 16_384): Buffer {
  const parts = Array.from({ length: Math.ceil(message.length / size) }, (_, index) =>
    message.subarray(index * size, (index + 1) * size),
  );
  return Buffer.concat(
    parts.flatMap((part) => [Buffer.from([0x16, 3, 1, part.length >> 8, part.length & 255]), part]),
  );
}
