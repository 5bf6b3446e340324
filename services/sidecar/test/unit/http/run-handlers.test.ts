import { Readable } from "node:stream";
import { describe, expect, test } from "vitest";
import { Problem } from "#contract/failure";
import { RunPage } from "#contract/routes";
import { Run } from "#contract/run";
import { type CallerDoor, openCallerDoor, post, withToken } from "../../fakes/caller-door.ts";
import { toId } from "../../fakes/fake-run-store.ts";

const id = toId(0);

async function openDoorWithRun(
  heartbeatMs?: number,
): Promise<CallerDoor & { get: (path: string, headers?: Record<string, string>) => Promise<Response> }> {
  const door = openCallerDoor({}, heartbeatMs);
  await door.app.request("/v1/runs", post({ prompt: "x" }));
  return { ...door, get: async (path, headers) => door.app.request(path, { headers: withToken(headers) }) };
}

describe("lists", () => {
  test("come in pages, newest first", async () => {
    const { app, get } = await openDoorWithRun();
    for (let i = 0; i < 4; i++) await app.request("/v1/runs", post({ prompt: "x" }));
    const idsOf = async (path: string) => {
      const { runs, next } = RunPage.parse(await (await get(path)).json());
      return [runs.map((run) => run.id), next];
    };
    expect(await idsOf("/v1/runs?limit=2")).toEqual([[toId(4), toId(3)], toId(3)]);
    expect(await idsOf(`/v1/runs?limit=2&before=${toId(3)}`)).toEqual([[toId(2), toId(1)], toId(1)]);
    expect(await idsOf(`/v1/runs?limit=2&before=${toId(1)}`)).toEqual([[toId(0)], null]);
  });

  test("are filtered by state and metadata", async () => {
    const { app, runs, get } = await openDoorWithRun();
    await app.request("/v1/runs", post({ prompt: "x", metadata: { "team.x": "a b", n: "1" } }));
    runs.end(toId(0));
    const countOf = async (query: string) =>
      RunPage.parse(await (await get(`/v1/runs?${query}`)).json()).runs.length;
    expect(await countOf("state=ended")).toBe(1);
    expect(await countOf("metadata.team.x=a%20b&metadata.n=1")).toBe(1);
    expect(await countOf("metadata.team.x=a%20b&metadata.n=2")).toBe(0);
    expect(await countOf("metadata.team.x=a+b")).toBe(1);
  });
});

describe("one run", () => {
  test("is read, cancelled with 202 while stopping and 200 once ended, and forgotten", async () => {
    const { app, runs, get } = await openDoorWithRun();
    expect(await (await get(`/v1/runs/${id}`)).json()).toMatchObject({ id, state: "running" });
    const remove = () => app.request(`/v1/runs/${id}`, { method: "DELETE", headers: withToken() });
    expect((await remove()).status).toBe(409);
    const cancel = () => app.request(`/v1/runs/${id}/cancel`, { method: "POST", headers: withToken() });
    const stopping = await cancel();
    expect([stopping.status, Run.parse(await stopping.json()).state]).toEqual([202, "stopping"]);
    runs.end(id, "cancelled");
    const ended = await app.request(`/v1/runs/${id}/cancel`, post({}));
    expect([ended.status, Run.parse(await ended.json()).outcome]).toEqual([200, "cancelled"]);
    const removed = await remove();
    expect([removed.status, await removed.text()]).toEqual([204, ""]);
    expect((await get(`/v1/runs/${id}`)).status).toBe(404);
  });
});

describe("events", () => {
  test("follow after a number, by header or query, and end after run.ended", async () => {
    const { runs, get } = await openDoorWithRun();
    runs.emit(id, { type: "message.delta", text: "a" });
    runs.end(id);
    const path = `/v1/runs/${id}/events`;
    const idsOf = async (answer: Response) => (await answer.text()).match(/(?<=^id: ).*$/gm);
    expect(await idsOf(await get(path))).toEqual(["1", "2", "3"]);
    expect(await idsOf(await get(`${path}?after=1`))).toEqual(["2", "3"]);
    expect(await idsOf(await get(path, { "last-event-id": "2" }))).toEqual(["3"]);
    expect(await idsOf(await get(`${path}?after=2`, { "last-event-id": "2" }))).toEqual(["3"]);
  });

  test("after the last one of an ended run are none: 204 stops an EventSource, NDJSON is empty", async () => {
    const { runs, get } = await openDoorWithRun();
    runs.end(id);
    const path = `/v1/runs/${id}/events?after=2`;
    expect((await get(path)).status).toBe(204);
    const ndjson = await get(path, { accept: "application/x-ndjson" });
    expect([ndjson.status, ndjson.headers.get("content-type"), await ndjson.text()]).toEqual([
      200,
      "application/x-ndjson",
      "",
    ]);
  });

  test("that are no longer kept are a 410 before anything is streamed", async () => {
    const { runs, get } = await openDoorWithRun();
    runs.end(id);
    runs.expiredUntil = 1;
    const answer = await get(`/v1/runs/${id}/events`);
    expect([answer.status, Problem.parse(await answer.json()).code]).toEqual([410, "cursor_expired"]);
  });

  test("not yet written are waited for, with heartbeats", async () => {
    const { runs, get } = await openDoorWithRun(5);
    const answer = await get(`/v1/runs/${id}/events?after=1`);
    const reader = answer.body!.pipeThrough(new TextDecoderStream() as never).getReader();
    let text = "";
    while (!text.includes("heartbeat")) text += (await reader.read()).value;
    runs.end(id);
    for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) text += chunk.value;
    expect(text).toMatch(/^retry: 1000\n\n(: heartbeat\n\n)+id: 2\ndata: .*\n\n$/);
  });

  test("stop being watched when the reader goes, without cancelling the run", async () => {
    const { runs, get } = await openDoorWithRun();
    const answer = await get(`/v1/runs/${id}/events?after=1`, { accept: "application/x-ndjson" });
    const reader = answer.body!.getReader();
    const read = reader.read();
    await expect.poll(() => runs.watching).toBe(1);
    await reader.cancel();
    await read;
    await expect.poll(() => runs.watching).toBe(0);
    expect(runs.cancelled).toEqual([]);
  });

  test.each([
    [
      "when the journal fails",
      (door: CallerDoor) => {
        door.runs.failure = new Error("secret cause");
        door.runs.wake(id);
      },
    ],
    [
      "when they stop before run.ended",
      (door: CallerDoor) => {
        door.runs.watch = async function* () {};
        door.runs.failure = new Error("x");
        door.runs.wake(id);
      },
    ],
  ])("break off %s", async (_when, harm) => {
    const door = await openDoorWithRun();
    const answer = await door.get(`/v1/runs/${id}/events?after=1`, { accept: "application/x-ndjson" });
    const text = answer.text();
    await expect.poll(() => door.runs.watching).toBe(1);
    harm(door);
    await expect(text).rejects.toThrow("the stream broke off");
    expect(door.lines.map((line) => line.message)).toEqual(["a stream broke off"]);
  });

  test("stop being watched when the caller leaves before reading", async () => {
    const { app, runs } = await openDoorWithRun();
    const caller = new AbortController();
    const path = `/v1/runs/${id}/events`;
    await app.request(path, { headers: withToken(), signal: caller.signal });
    expect(runs.watching).toBe(1);
    caller.abort();
    await expect.poll(() => runs.watching).toBe(0);
  });

  test("have headers for HEAD and open nothing", async () => {
    const { app, runs } = await openDoorWithRun();
    const answer = await app.request(`/v1/runs/${id}/events`, { method: "HEAD", headers: withToken() });
    expect([answer.status, answer.headers.get("content-type"), runs.watching]).toEqual([
      200,
      "text/event-stream",
      0,
    ]);
  });
});

describe("what a run changed", () => {
  test("is a list, a tar or a diff", async () => {
    const { runs, get } = await openDoorWithRun();
    runs.files.set("src/a.txt", Buffer.from("hello"));
    const list = await get(`/v1/runs/${id}/files`);
    expect(await list.json()).toEqual({
      runId: id,
      files: [{ path: "src/a.txt", change: "added", kind: "file", size: 5, executable: false }],
      truncated: false,
    });
    const tar = await get(`/v1/runs/${id}/files`, { accept: "application/x-tar" });
    expect([tar.headers.get("content-type"), await tar.text()]).toEqual([
      "application/x-tar",
      `tar of ${id}`,
    ]);
    const diff = await get(`/v1/runs/${id}/diff`);
    expect([diff.headers.get("content-type"), await diff.text()]).toEqual([
      "text/x-diff; charset=utf-8",
      "--- a/x\n+++ b/x\n",
    ]);
  });

  test("is one file, decoded once, never shown by a browser", async () => {
    const { runs, get } = await openDoorWithRun();
    runs.files.set("a/100%25 'é'.html", Buffer.from("<script>"));
    const answer = await get(`/v1/runs/${id}/files/a/100%2525%20'%C3%A9'.html`);
    expect(await answer.text()).toBe("<script>");
    expect(Object.fromEntries(answer.headers)).toMatchObject({
      "content-type": "application/octet-stream",
      "content-length": "8",
      "content-disposition": "attachment; filename*=UTF-8''100%2525%20%27%C3%A9%27.html",
      "content-security-policy": "sandbox; default-src 'none'",
      "x-content-type-options": "nosniff",
    });
    const missing = await get(`/v1/runs/${id}/files/b`);
    expect([missing.status, Problem.parse(await missing.json()).code]).toEqual([404, "not_found"]);
  });

  test("is closed when the caller leaves before reading, or asks for the headers only", async () => {
    const { app, runs } = await openDoorWithRun();
    const stream = () => Readable.from([Buffer.from("x")]);
    const opened: Readable[] = [];
    runs.openTar = async () => {
      const tar = stream();
      opened.push(tar);
      return tar;
    };
    const headers = withToken({ accept: "application/x-tar" });
    const caller = new AbortController();
    await app.request(`/v1/runs/${id}/files`, { headers, signal: caller.signal });
    caller.abort();
    await app.request(`/v1/runs/${id}/files`, { headers, method: "HEAD" });
    expect(opened.map((tar) => tar.destroyed)).toEqual([true, true]);
  });

  test("that does not have its size breaks off", async () => {
    const { runs, get } = await openDoorWithRun();
    runs.files.set("a", Buffer.from("hello"));
    for (const missing of [1, -1]) {
      runs.missingBytes = missing;
      await expect((await get(`/v1/runs/${id}/files/a`)).text()).rejects.toThrow("the stream broke off");
    }
  });
});

describe("the catalogue", () => {
  test("tells harnesses, capabilities and the interface", async () => {
    const { get } = await openDoorWithRun();
    expect(await (await get("/v1/harnesses")).json()).toMatchObject({ harnesses: [{ id: "pi" }] });
    expect(await (await get("/v1/capabilities")).json()).toMatchObject({ version: "0.0.0-test" });
    const page = await get("/openapi.json");
    expect(page.headers.get("content-type")).toBe("application/json");
    expect(await page.json()).toMatchObject({ openapi: "3.1.0", info: { version: "0.0.0-test" } });
  });
});
