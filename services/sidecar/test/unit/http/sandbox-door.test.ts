import { createServer } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { Lease, type Upstream } from "../../../src/broker/broker.ts";
import { openSandboxDoor } from "../../../src/http/sandbox-door.ts";

/** Calls the door as a sandbox would; the upstream is a loopback port where nobody listens. */
async function call(
  upstream: Partial<Extract<Upstream, { kind: "http" }>>,
  wishes: { key?: string; path?: string; model?: string } = {},
) {
  const lease = new Lease({
    runId: "run",
    model: "m",
    api: "openai-completions",
    onModelCall: () => true,
    upstream: {
      kind: "http",
      baseUrl: new URL("https://127.0.0.1:1/v1"),
      header: null,
      privateAllowed: false,
      ...upstream,
    },
  });
  const server = createServer(openSandboxDoor(lease)).listen(0, "127.0.0.1");
  onTestFinished(() => {
    lease[Symbol.dispose]();
    server.close();
  });
  await new Promise((resolve) => server.once("listening", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  const response = await fetch(
    `http://127.0.0.1:${address.port}${wishes.path ?? "/model/chat/completions"}`,
    {
      method: "POST",
      headers: { authorization: `Bearer ${wishes.key ?? lease.placeholder}` },
      body: JSON.stringify({ model: wishes.model ?? "m" }),
    },
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
    status: 502,
    text: expect.stringContaining("ADDRESS_REFUSED"),
  });
  const control = await call({ baseUrl: new URL(url), privateAllowed: true });
  expect(control.text).not.toContain("ADDRESS_REFUSED");
  expect(control.status).toBe(502);
});

test.each([
  ["another key", { key: "pillion_other" }, 401],
  ["another model", { model: "dearer" }, 403],
  ["another call of the provider", { path: "/model/files" }, 403],
  ["another place", { path: "/health" }, 404],
])("nothing but the run's own model is forwarded: %s", async (_what, wishes, status) => {
  expect((await call({ privateAllowed: true }, wishes)).status).toBe(status);
});
