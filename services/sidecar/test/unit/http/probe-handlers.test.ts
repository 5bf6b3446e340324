import { expect, test } from "vitest";
import { openCallerDoor } from "../../fakes/caller-door.ts";

test("/health says that the process lives, whatever the query and the state of anything else", async () => {
  const { app, runs } = openCallerDoor();
  runs.failure = new Error("gone");
  for (const path of ["/health", "/health?x=1", "/health?verbose"]) {
    const answer = await app.request(path);
    expect([answer.status, await answer.text()]).toEqual([200, '{"status":"ok"}']);
  }
});

test("/livez and /readyz answer like Kubernetes' own, and in JSON when asked", async () => {
  const { app } = openCallerDoor();
  expect(await (await app.request("/livez")).text()).toBe("ok");
  expect(await (await app.request("/readyz")).text()).toBe("ok");
  expect(await (await app.request("/readyz?verbose")).json()).toEqual({
    ready: true,
    checks: { journal: { ok: true, detail: "writable" } },
  });
});

test("/readyz is a 503 that names the failed check; /livez stays well", async () => {
  const { app, runs } = openCallerDoor();
  runs.ready = {
    ready: false,
    checks: { accepting: { ok: true, detail: "yes" }, journal: { ok: false, detail: "not writable" } },
  };
  const plain = await app.request("/readyz");
  expect([plain.status, await plain.text()]).toEqual([
    503,
    "[+]accepting ok\n[-]journal failed: not writable\nreadyz check failed\n",
  ]);
  const verbose = await app.request("/readyz?verbose");
  expect([verbose.status, await verbose.json()]).toEqual([503, runs.ready]);
  expect((await app.request("/livez")).status).toBe(200);
});

test("/readyz is a 503 without a cause when the check itself fails or hangs", async () => {
  const { app, runs, lines } = openCallerDoor();
  runs.failure = new Error("secret cause");
  const failed = await app.request("/readyz");
  expect([failed.status, await failed.text()]).toEqual([
    503,
    "[-]readiness failed: the check itself failed\nreadyz check failed\n",
  ]);
  runs.readiness = () => new Promise(() => undefined);
  expect((await app.request("/readyz")).status).toBe(503);
  expect(lines).toHaveLength(2);
});

test("HEAD works where GET does", async () => {
  const { app } = openCallerDoor();
  for (const path of ["/health", "/livez", "/readyz"]) {
    const answer = await app.request(path, { method: "HEAD" });
    expect([answer.status, await answer.text()]).toEqual([200, ""]);
  }
});
