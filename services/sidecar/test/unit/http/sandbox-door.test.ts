import { once } from "node:events";
import {
  createServer as createHttpServer,
  type IncomingMessage,
  type RequestOptions,
  request,
  type ServerResponse,
} from "node:http";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { expect, onTestFinished, test, vi } from "vitest";
import { EgressRefusal } from "#contract/egress";
import type { Lease } from "../../../src/broker/lease.ts";
import type { ModelEndpoint } from "../../../src/model-endpoint.ts";
import { openDoor, openLease, toPort } from "../../fakes/told-lease.ts";

type HttpUpstream = Extract<ModelEndpoint, { kind: "http" }>;

function toLease(upstream: Partial<HttpUpstream>): Lease {
  const usual = {
    kind: "http",
    baseUrl: new URL("https://127.0.0.1:1/v1"),
    header: null,
    privateAllowed: false,
  } as const;
  return openLease({ upstream: { ...usual, ...upstream } }).lease;
}

function post(port: number, key: string, path = "/model/chat/completions", model = "m"): Promise<Response> {
  return fetch(`http://127.0.0.1:${port}${path}`, {
    method: "POST",
    headers: { authorization: `Bearer ${key}` },
    body: JSON.stringify({ model }),
  });
}

/** Calls the door as a sandbox would; the upstream is a loopback port where nobody listens. */
async function call(
  upstream: Partial<HttpUpstream>,
  wishes: { key?: string; path?: string; model?: string } = {},
) {
  const lease = toLease(upstream);
  const response = await post(
    await openDoor(lease),
    wishes.key ?? lease.placeholder,
    wishes.path,
    wishes.model,
  );
  return { status: response.status, text: await response.text() };
}

test.each([
  "https://127.0.0.1:1/v1",
  "https://[::1]:1/v1",
  "https://2130706433:1/v1",
  "https://localhost:1/v1",
])("%s is not dialled for a request's own URL; the control, with the operator's word, is", async (url) => {
  expect(await call({ baseUrl: new URL(url) })).toMatchObject({
    status: 403,
    text: expect.stringContaining("address_not_allowed"),
  });
  const control = await call({ baseUrl: new URL(url), privateAllowed: true });
  expect(control).toMatchObject({ status: 502, text: expect.stringContaining("unreachable") });
});

test.each([
  ["another key", { key: "pillion_other" }, 401],
  ["another model", { model: "dearer" }, 403],
  ["another call of the provider", { path: "/model/files" }, 403],
  ["another place", { path: "/health" }, 404],
])("nothing but the run's own model is forwarded: %s", async (_what, wishes, status) => {
  expect((await call({ privateAllowed: true }, wishes)).status).toBe(status);
});

test.each([
  ["Bearer", "Bearer canary-0123456789", "canary-0123456789"],
  ["another scheme", "Token canary-0123456789", "canary-0123456789"],
  ["Basic", `Basic ${btoa("user:canary-0123456789")}`, "canary-0123456789"],
  ["Basic, as sent", `Basic ${btoa("user:canary-0123456789")}`, btoa("user:canary-0123456789")],
  ["none", "canary-0123456789", "canary-0123456789"],
])(
  "a key that its provider says back in a header or body does not come in: %s",
  async (_what, value, secret) => {
    const provider = createHttpServer((request, response) => {
      const sent = request.headers.authorization;
      response.writeHead(200, { "x-request-id": `for ${secret}`, "content-type": `text/plain; key=${sent}` });
      response.end(`${sent} and ${secret}`);
    }).listen(0, "127.0.0.1");
    await once(provider, "listening");
    onTestFinished(() => void provider.close());
    const baseUrl = new URL(`http://127.0.0.1:${toPort(provider)}/v1`);
    const header = { name: "authorization", value, credential: "test" };
    const lease = toLease({ baseUrl, privateAllowed: true, header });
    const answer = await post(await openDoor(lease), lease.placeholder);
    const said = `${await answer.text()} ${JSON.stringify([...answer.headers])}`;
    expect(said).toContain("[redacted]");
    expect(said).not.toContain(secret);
  },
);

test("a run has so many model calls at once and no more; each that ends makes room", async () => {
  const held: ServerResponse[] = [];
  const provider = createHttpServer((_request, response) => held.push(response)).listen(0, "127.0.0.1");
  await once(provider, "listening");
  const lease = toLease({
    baseUrl: new URL(`http://127.0.0.1:${toPort(provider)}/v1`),
    privateAllowed: true,
  });
  const door = await openDoor(lease);
  onTestFinished(() => provider.closeAllConnections());
  const calls = Array.from({ length: 8 }, () => post(door, lease.placeholder));
  await vi.waitFor(() => expect(held).toHaveLength(8));
  expect((await post(door, lease.placeholder)).status).toBe(429);
  held.pop()?.end("{}");
  expect((await Promise.race(calls)).status).toBe(200);
  const next = post(door, lease.placeholder);
  await vi.waitFor(() => expect(held).toHaveLength(8));
  for (const response of held) response.end("{}");
  expect((await next).status).toBe(200);
});

test("who shows no placeholder is asked for it as its kind of server asks: a base URL with 401, a proxy with 407", async () => {
  const { lease, events } = openLease({ patterns: ["a.example"] });
  const port = await openDoor(lease);
  const base = await fetch(`http://127.0.0.1:${port}/to/https/a.example/`);
  expect([base.status, base.headers.get("www-authenticate")]).toEqual([401, 'Basic realm="pillion"']);
  const proxied = await ask({ port, path: "http://a.example/", headers: { host: "a.example" } });
  expect([proxied.statusCode, proxied.headers["proxy-authenticate"]]).toEqual([407, 'Basic realm="pillion"']);
  expect(events.map(({ way, reason }) => [way, reason])).toEqual([
    ["base-url", "no_placeholder"],
    ["proxy", "no_placeholder"],
  ]);
});

test("a tunnel to what may be reached by plain HTTP only is refused with the way to go", async () => {
  const { lease } = openLease({ patterns: ["http://a.example:8080"] });
  const port = await openDoor(lease);
  const readHint = async (path: string): Promise<string> => {
    const socket = connect(port, "127.0.0.1");
    socket.end(
      `CONNECT ${path} HTTP/1.1\r\nhost: ${path}\r\nproxy-authorization: Bearer ${lease.placeholder}\r\n\r\n`,
    );
    const [head = "", body = ""] = (await text(socket)).split("\r\n\r\n");
    expect(head).toContain(" 403 ");
    return EgressRefusal.parse(JSON.parse(body).error).hint ?? "";
  };
  expect(await readHint("a.example:8080")).toContain("$PILLION_DOOR/to/http/a.example:8080/");
  expect(await readHint("b.example:8080")).not.toContain("PILLION_DOOR"); // the control: it may not go there at all
});

function ask(options: RequestOptions): Promise<IncomingMessage> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const asked = request({ host: "127.0.0.1", agent: false, ...options });
  asked.once("response", resolve).once("error", reject).end();
  return promise;
}
