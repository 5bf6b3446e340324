/** An engine that says nothing holds nobody for ever, and a caller that has left leaves nothing behind at it. */
import type { ServerResponse } from "node:http";
import { connect, type Socket } from "node:net";
import { expect, test, vi } from "vitest";
import { openDeafEngine, openScriptedEngine } from "./odd-engine.ts";
import { call, openTestProxy } from "./raw-engine.ts";
import { toRunContainer } from "./run-container.ts";

const ID = "a".repeat(64);
const STREAMS = "stream=1&stdin=1&stdout=1&stderr=1&hijack=1";
const OWN = JSON.stringify({ Config: { Labels: { "org.pillion.proxy.scope": "pillion" } } });
const FILLER = JSON.stringify({
  Config: { Labels: { "org.pillion.proxy.scope": "pillion", "org.pillion.proxy.filler": "true" } },
});
const ATTACH = `POST /containers/${ID}/attach?${STREAMS} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n`;

/** A connection that has sent these bytes. */
function openCaller(socketPath: string, bytes: string): Socket {
  const socket = connect(socketPath, () => socket.write(bytes));
  return socket.on("error", () => undefined);
}

/** All that comes back until it holds `word`, or the other side closes. */
function readUntil(socket: Socket, word: string): Promise<string> {
  return new Promise((resolve) => {
    let text = "";
    socket.setEncoding("latin1").on("data", (part) => {
      text += String(part);
      if (text.includes(word)) resolve(text);
    });
    socket.once("close", () => resolve(text));
  });
}

test.each([
  ["that is passed on", `GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n`],
  ["that is still being checked", `GET /containers/${ID}/json HTTP/1.1\r\nHost: x\r\n\r\n`],
])("callers that give up a call %s leave no connection at the engine", async (_what, bytes) => {
  await using engine = await openDeafEngine();
  await using proxy = await openTestProxy(["--engine", engine.socket]);
  const callers = Array.from({ length: 10 }, () => openCaller(proxy.socket, bytes));
  await vi.waitFor(() => expect(engine.countOpen()).toBe(10), 10_000);
  for (const caller of callers) caller.destroy();
  await vi.waitFor(() => expect(engine.countOpen()).toBe(0), 10_000);
  expect(engine.countAll()).toBe(10);
});

test("an engine that accepts and never answers is told with a 504, and its connections are given up", async () => {
  await using engine = await openDeafEngine();
  await using proxy = await openTestProxy(["--engine", engine.socket], { answerMs: 200 });
  const late = {
    status: 504,
    text: JSON.stringify({ message: "engine-proxy: the engine does not answer in time" }),
  };
  expect(await call(proxy.socket, "GET", "/_ping")).toEqual(late);
  expect(await call(proxy.socket, "GET", `/containers/${ID}/json`)).toEqual(late);
  const { body } = toRunContainer("sha256:feed");
  const asked = { ...body, Image: `sha256:${ID}` };
  expect(await call(proxy.socket, "POST", "/containers/create", asked)).toEqual(late);
  await vi.waitFor(() => expect(engine.countOpen()).toBe(0), 10_000);
  expect(engine.countAll()).toBe(3);
});

test("streams that the engine does not open in time are refused, and so is a volume that it does not fill", async () => {
  const held: string[] = [];
  await using engine = await openScriptedEngine(
    ({ method, url = "" }, response) => {
      if (method === "GET") return void response.end(url.includes("b".repeat(64)) ? FILLER : OWN);
      held.push(`${method} ${url}`);
    },
    () => held.push("upgrade"),
  );
  await using proxy = await openTestProxy(["--engine", engine.socket], { answerMs: 200 });
  const text = await readUntil(openCaller(proxy.socket, ATTACH), "in time");
  expect(text).toMatch(/^HTTP\/1\.1 504 [\s\S]*the engine does not answer in time/);
  const path = `/containers/${"b".repeat(64)}/archive?path=/workspace`;
  const part = `PUT ${path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1024\r\n\r\n${"\0".repeat(512)}`;
  expect(await readUntil(openCaller(proxy.socket, part), "in time")).toMatch(/^HTTP\/1\.1 504 /);
  expect(held).toEqual(["upgrade", `PUT ${path.replace("=/", "=%2F")}`]);
  await vi.waitFor(() => expect(engine.countOpen()).toBe(0), 10_000);
});

test("streams that are open may be silent for longer than an answer may take", async () => {
  const answerMs = 200;
  await using engine = await openScriptedEngine(
    (_request, response) => void response.end(OWN),
    (socket) => {
      socket.write("HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
      setTimeout(() => socket.end("after a while"), 5 * answerMs);
    },
  );
  await using proxy = await openTestProxy(["--engine", engine.socket], { answerMs });
  const caller = openCaller(proxy.socket, ATTACH);
  expect(await readUntil(caller, "after a while")).toMatch(/^HTTP\/1\.1 101 [\s\S]*after a while$/);
  caller.destroy();
});

test("nothing is made for a caller that left while its call was checked", async () => {
  const asked: string[] = [];
  const held: ServerResponse[] = [];
  await using engine = await openScriptedEngine(({ method, url = "" }, response) => {
    asked.push(`${method} ${url.split("?")[0]}`);
    if (url.startsWith("/containers/json")) return void held.push(response);
    response.writeHead(method === "POST" ? 201 : 200).end("{}");
  });
  await using proxy = await openTestProxy(["--engine", engine.socket, "--image", "agent"]);
  const text = JSON.stringify(toRunContainer("agent").body);
  const create = `POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`;
  const caller = openCaller(proxy.socket, create);
  await vi.waitFor(() => expect(held.length).toBe(1), 10_000);
  caller.destroy();
  expect((await call(proxy.socket, "GET", "/_ping")).status).toBe(200); // by now it has seen the caller leave
  for (const response of held) response.end("[]");
  await vi.waitFor(() => expect(proxy.told.length).toBe(1), 10_000);
  expect(asked).toEqual(["GET /containers/json", "GET /_ping"]);
  expect(proxy.told).toMatchObject([{ path: "/containers/create", status: 499, why: "the caller has left" }]);
  // The control: a caller that stays gets its container.
  const staying = call(proxy.socket, "POST", "/containers/create", toRunContainer("agent").body);
  await vi.waitFor(() => expect(held.length).toBe(2), 10_000);
  held.at(-1)?.end("[]");
  expect((await staying).status).toBe(201);
  expect(asked.at(-1)).toBe("POST /containers/create");
});
