/** The caller's door on real sockets: slow senders, callers that leave, streams that are cut and resumed. */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { EventSource } from "eventsource";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { RunEvent } from "#contract/event";
import { RunLine } from "#contract/routes";
import { type Listening, listen } from "../../src/http/server.ts";
import {
  type CallerDoor,
  MAX_BODY_BYTES,
  openCallerDoor,
  post,
  TOKEN,
  withToken,
} from "../fakes/caller-door.ts";
import { toId } from "../fakes/fake-run-store.ts";
import { sendRaw } from "../fixtures/raw-http.ts";

const id = toId(0);
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
  });
});
afterEach(() => server.close(0));

const fetchFrom = (path: string, init: RequestInit = {}): Promise<Response> =>
  fetch(`${server.address.url}${path}`, init);

function open(lines: string[]): Socket {
  const socket = connect(server.address.port, "127.0.0.1");
  socket.on("error", () => undefined);
  socket.write(`${lines.join("\r\n")}\r\n`);
  return socket;
}

/** A wire between client and server that can be cut. */
async function openRelay(port: number): Promise<{ port: number; cut: () => void; close: () => void }> {
  const ends = new Set<Socket>();
  const relay = createServer((near) => {
    const far = connect(port, "127.0.0.1");
    for (const end of [near, far]) ends.add(end.on("error", () => undefined));
    near.pipe(far).pipe(near);
  });
  const cut = (): void => {
    for (const end of ends) end.destroy();
    ends.clear();
  };
  const close = (): void => {
    cut();
    relay.close();
  };
  await once(relay.listen(0, "127.0.0.1"), "listening");
  const address = relay.address() as AddressInfo; // a TCP listener's address is never text
  return { port: address.port, cut, close };
}

async function readAll(socket: Socket): Promise<string> {
  let text = "";
  for await (const chunk of socket) text += chunk;
  return text;
}

describe("slow and oversized senders", () => {
  test("a client that never finishes its headers is answered 408 and cut", { timeout: 20_000 }, async () => {
    const socket = open(["POST /v1/runs HTTP/1.1", "Host: localhost"]);
    const drip = setInterval(() => socket.write("X-Drip: 1\r\n"), 500);
    const from = performance.now();
    const answer = await readAll(socket).finally(() => clearInterval(drip));
    expect(answer).toMatch(/^HTTP\/1\.1 408 [\s\S]*application\/problem\+json[\s\S]*"status":408/);
    expect(performance.now() - from).toBeLessThan(11_000);
    expect((await fetchFrom("/health")).status).toBe(200);
  });

  test("a body over the limit is refused while it is still being sent", async () => {
    const head = ["POST /v1/runs HTTP/1.1", "Host: localhost", `Authorization: Bearer ${TOKEN}`];
    const socket = open([...head, "Content-Type: application/json", "Transfer-Encoding: chunked", ""]);
    const answered = once(socket, "data");
    let sent = 0;
    let isAnswered = false;
    answered.then(() => {
      isAnswered = true;
    });
    while (!isAnswered && sent < 50 * MAX_BODY_BYTES) {
      socket.write(`10000\r\n${" ".repeat(0x10000)}\r\n`);
      sent += 0x10000;
      await sleep(1);
    }
    expect(String(await answered)).toMatch(/^HTTP\/1\.1 413 [\s\S]*"code":"too_large"/);
    expect(sent).toBeLessThan(10 * MAX_BODY_BYTES);
    socket.destroy();
    expect(door.runs.requests).toEqual([]);
  });

  test("a client that asks first is told to go on only when the size is right", async () => {
    const head = `Host: localhost\r\nAuthorization: Bearer ${TOKEN}\r\nContent-Type: application/json\r\nExpect: 100-continue`;
    const good = open([`POST /v1/runs HTTP/1.1\r\n${head}`, "Content-Length: 14", ""]);
    expect(String((await once(good, "data"))[0])).toMatch(/^HTTP\/1\.1 100 /);
    good.write('{"prompt":"x"}');
    expect(String((await once(good, "data"))[0])).toMatch(/^HTTP\/1\.1 202 /);
    good.destroy();
    const large = open([`POST /v1/runs HTTP/1.1\r\n${head}`, `Content-Length: ${MAX_BODY_BYTES + 1}`, ""]);
    expect(String((await once(large, "data"))[0])).toMatch(/^HTTP\/1\.1 413 /);
    large.destroy();
  });

  test("probes answer to HTTP/1.0 without a Host, and HEAD has no body", async () => {
    const old = await sendRaw(server.address.port, "GET /health HTTP/1.0\r\n\r\n");
    expect([old.status, old.body]).toEqual([200, '{"status":"ok"}']);
    const head = await fetchFrom("/health", { method: "HEAD" });
    expect([head.status, await head.text()]).toEqual([200, ""]);
  });
});

describe("callers that leave", () => {
  test.each(["application/json", "application/x-ndjson"])("POST /run as %s is cancelled", async (accept) => {
    const caller = new AbortController();
    const answer = fetchFrom("/run", { ...post({ prompt: "x" }, { accept }), signal: caller.signal });
    await expect.poll(() => door.runs.requests.length).toBe(1);
    caller.abort();
    await expect(answer.then((response) => response.text())).rejects.toThrow();
    await expect.poll(() => door.runs.cancelled).toEqual([id]);
    await expect.poll(() => door.runs.watching).toBe(0);
    expect(door.lines).toEqual([]);
  });

  test.each([
    ["a stream of POST /v1/runs", "/v1/runs", { accept: "text/event-stream" }],
    ["a wait", "/v1/runs", { prefer: "wait=60" }],
  ])("%s goes on", async (_what, path, headers: Record<string, string>) => {
    const caller = new AbortController();
    const answer = fetchFrom(path, { ...post({ prompt: "x" }, headers), signal: caller.signal });
    await expect.poll(() => door.runs.requests.length).toBe(1);
    caller.abort();
    await expect(answer.then((response) => response.text())).rejects.toThrow();
    await expect.poll(() => door.runs.watching).toBe(0);
    const run = await fetchFrom(`/v1/runs/${id}`, { headers: withToken() });
    expect(await run.json()).toMatchObject({ state: "running" });
    expect(door.runs.cancelled).toEqual([]);
  });

  test("POST /run that is not left ends by itself and cancels nothing", async () => {
    door.runs.onCreate = (run) => setImmediate(() => door.runs.end(run));
    const answer = await fetchFrom("/run", post({ prompt: "x" }, { accept: "application/x-ndjson" }));
    const lines = (await answer.text())
      .trimEnd()
      .split("\n")
      .map((line) => RunLine.parse(JSON.parse(line)));
    expect(lines.map((line) => line.kind)).toEqual(["event", "event", "result"]);
    await sleep(50);
    expect(door.runs.cancelled).toEqual([]);
  });
});

describe("streams", () => {
  test("an EventSource that is cut resumes without a gap or a double, and stops at the end", {
    timeout: 20_000,
  }, async () => {
    await fetchFrom("/v1/runs", post({ prompt: "x" }));
    const relay = await openRelay(server.address.port);
    const statuses: number[] = [];
    const source = new EventSource(`http://127.0.0.1:${relay.port}/v1/runs/${id}/events`, {
      fetch: async (url, init) => {
        const answer = await fetch(url, { ...init, headers: withToken(init.headers) });
        statuses.push(answer.status);
        return answer;
      },
    });
    const seen: RunEvent[] = [];
    source.onmessage = ({ data, lastEventId }) => {
      const event = JSON.parse(data);
      expect(lastEventId).toBe(String(event.seq));
      seen.push(event);
    };
    for (let batch = 1; batch <= 3; batch++) {
      for (let n = 0; n < 10; n++) door.runs.emit(id, { type: "message.delta", text: `${n}` });
      await expect.poll(() => seen.length, { timeout: 5_000 }).toBe(1 + batch * 10);
      if (batch < 3) relay.cut();
    }
    door.runs.end(id);
    await expect.poll(() => source.readyState, { timeout: 10_000 }).toBe(EventSource.CLOSED);
    expect(seen.map((event) => event.seq)).toEqual(Array.from({ length: 32 }, (_, i) => i + 1));
    expect(statuses).toEqual([200, 200, 200, 204]);
    await expect.poll(() => door.runs.watching).toBe(0);
    relay.close();
  });

  test("a reader that stalls holds the watcher back instead of filling memory", {
    timeout: 30_000,
  }, async () => {
    await fetchFrom("/v1/runs", post({ prompt: "x" }));
    const count = 50_000;
    const text = "x".repeat(2_000);
    for (let n = 0; n < count; n++) door.runs.emit(id, { type: "message.delta", text });
    const head = [`GET /v1/runs/${id}/events HTTP/1.1`, "Host: localhost", `Authorization: Bearer ${TOKEN}`];
    const socket = open([...head, "Connection: close", ""]); // nobody reads it yet
    await expect.poll(() => door.runs.pulled).toBeGreaterThan(0);
    const before = process.memoryUsage();
    let pulled = -1;
    while (pulled !== door.runs.pulled) {
      pulled = door.runs.pulled;
      await sleep(250);
    }
    const after = process.memoryUsage();
    expect(pulled).toBeLessThan(count / 5); // what the kernel's socket buffers take, and no more
    expect(after.external + after.arrayBuffers - before.external - before.arrayBuffers).toBeLessThan(
      8_000_000,
    );

    let newlines = 0;
    socket.on("data", (chunk) => {
      newlines += String(chunk).split("\n").length - 1;
    });
    door.runs.end(id);
    await once(socket, "close");
    expect(door.runs.pulled).toBe(count + 2);
    expect(newlines).toBeGreaterThan(3 * (count + 2)); // three in each frame, besides those of HTTP
  });

  test("a failure in the middle cuts the connection, so that it is not taken for the end", async () => {
    await fetchFrom("/v1/runs", post({ prompt: "x" }));
    const answer = await fetchFrom(`/v1/runs/${id}/events`, {
      headers: withToken({ accept: "application/x-ndjson" }),
    });
    const text = answer.text();
    await expect.poll(() => door.runs.watching).toBe(1);
    door.runs.failure = new Error("secret cause");
    door.runs.wake(id);
    await expect(text).rejects.toThrow("terminated");
    expect(door.lines.map((line) => line.message)).toEqual(["a stream broke off"]);
    expect((await fetchFrom("/health")).status).toBe(200);
  });

  test("a file that ends too early cuts the connection, and its cause stays here", async () => {
    await fetchFrom("/v1/runs", post({ prompt: "x" }));
    door.runs.files.set("a", Buffer.from("hello"));
    door.runs.missingBytes = 10;
    const head = [
      `GET /v1/runs/${id}/files/a HTTP/1.1`,
      "Host: localhost",
      `Authorization: Bearer ${TOKEN}`,
      "",
    ];
    const text = await readAll(open(head));
    expect(text).not.toContain("Error");
    expect(door.lines.map((line) => line.message)).toEqual(["a stream broke off"]);
  });
});

describe("closing", () => {
  test("lets an answer end, takes nothing new, and cuts what does not end in time", async () => {
    await fetchFrom("/v1/runs", post({ prompt: "x" }));
    const waiting = fetchFrom("/v1/runs", post({ prompt: "x" }, { prefer: "wait=60" }));
    await expect.poll(() => door.runs.requests.length).toBe(2);
    const streaming = (await fetchFrom(`/v1/runs/${id}/events`, { headers: withToken() })).text();
    streaming.catch(() => undefined);
    const from = performance.now();
    const closed = server.close(1_000);
    door.runs.end(toId(1));
    expect((await waiting).status).toBe(200);
    await expect(fetchFrom("/health")).rejects.toThrow();
    await expect(streaming).rejects.toThrow();
    await closed;
    expect(performance.now() - from).toBeLessThan(2_000);
    await expect.poll(() => door.runs.watching).toBe(0);
  });
});
