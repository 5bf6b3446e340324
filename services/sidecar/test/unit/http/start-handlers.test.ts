import { describe, expect, test } from "vitest";
import { Fault } from "../../../src/kernel/fault.ts";
import { openCallerDoor, post } from "../../fakes/caller-door.ts";
import { toId } from "../../fakes/fake-run-store.ts";

const id = toId(0);

describe("POST /v1/runs", () => {
  test("answers 202 at once with the run and its address", async () => {
    const { app, runs } = openCallerDoor();
    const answer = await app.request("/v1/runs", post({ prompt: "hello", metadata: { team: "a" } }));
    expect([answer.status, answer.headers.get("location")]).toEqual([202, `/v1/runs/${id}`]);
    expect(await answer.json()).toMatchObject({ id, state: "running", metadata: { team: "a" } });
    expect(runs.requests).toEqual([
      {
        harness: "pi",
        prompt: "hello",
        workspace: { kind: "empty" },
        sandbox: { kind: "auto", network: "none" },
        role: "worker",
        metadata: { team: "a" },
      },
    ]);
  });

  test("takes messages, base64 files and a charset", async () => {
    const { app } = openCallerDoor();
    const files = [
      { path: "a/b", content: "aGVsbG8=", encoding: "base64" },
      { path: "a/c", content: "x" },
      { path: "a-b", content: "" },
    ];
    const body = {
      messages: [{ role: "user", content: [{ type: "text", text: "x" }] }],
      workspace: { kind: "files", files },
    };
    const answer = await app.request(
      "/v1/runs",
      post(body, { "content-type": "Application/JSON; Charset=UTF-8" }),
    );
    expect(answer.status).toBe(202);
  });

  test("with Prefer: wait gives the ended run with 200", async () => {
    const { app, runs } = openCallerDoor();
    runs.onCreate = (run) => setImmediate(() => runs.end(run));
    const answer = await app.request("/v1/runs", post({ prompt: "x" }, { prefer: "respond-async, wait=5" }));
    expect([answer.status, answer.headers.get("preference-applied")]).toEqual([200, "wait=5"]);
    expect(await answer.json()).toMatchObject({ id, state: "ended", outcome: "succeeded", output: "done" });
  });

  test("with Prefer: wait gives 202 when the time is over, and clamps what is too long", async () => {
    const { app, runs } = openCallerDoor();
    const late = await app.request("/v1/runs", post({ prompt: "x" }, { prefer: "wait=0" }));
    expect([late.status, late.headers.get("preference-applied")]).toEqual([202, "wait=0"]);
    runs.onCreate = (run) => setImmediate(() => runs.end(run));
    const long = await app.request("/v1/runs", post({ prompt: "x" }, { prefer: "wait=86400" }));
    expect([long.status, long.headers.get("preference-applied")]).toEqual([200, "wait=600"]);
    expect(runs.cancelled).toEqual([]);
  });

  test("streams from the first event as SSE or NDJSON", async () => {
    const { app, runs } = openCallerDoor();
    runs.onCreate = (run) => setImmediate(() => runs.end(run));
    const sse = await app.request("/v1/runs", post({ prompt: "x" }, { accept: "text/event-stream" }));
    expect([sse.status, sse.headers.get("content-type"), sse.headers.get("location")]).toEqual([
      200,
      "text/event-stream",
      `/v1/runs/${id}`,
    ]);
    expect((await sse.text()).match(/^id: .*$/gm)).toEqual(["id: 1", "id: 2"]);
    const ndjson = await app.request("/v1/runs", post({ prompt: "x" }, { accept: "application/x-ndjson" }));
    const lines = (await ndjson.text()).trimEnd().split("\n");
    expect(lines.map((line) => JSON.parse(line).type)).toEqual(["run.started", "run.ended"]);
    expect(runs.watching).toBe(0);
  });

  test("tells a failure of the creation by status also when a stream was asked for", async () => {
    const { app, runs } = openCallerDoor();
    runs.failure = new Fault("overloaded", "Full.");
    const answer = await app.request("/v1/runs", post({ prompt: "x" }, { accept: "text/event-stream" }));
    expect([answer.status, answer.headers.get("content-type")]).toEqual([429, "application/problem+json"]);
  });
});

describe("POST /run", () => {
  test.each(["succeeded", "failed", "timed_out"] as const)(
    "gives 200 with the run that %s",
    async (outcome) => {
      const { app, runs } = openCallerDoor();
      runs.onCreate = (run) => setImmediate(() => runs.end(run, outcome));
      const answer = await app.request("/run", post({ prompt: "x" }));
      expect(answer.status).toBe(200);
      expect(await answer.json()).toMatchObject({ id, state: "ended", outcome });
      expect(runs.cancelled).toEqual([]);
    },
  );

  test("as NDJSON gives every event and one last result", async () => {
    const { app, runs } = openCallerDoor();
    runs.onCreate = (run) => setImmediate(() => runs.end(run));
    const answer = await app.request("/run", post({ prompt: "x" }, { accept: "application/x-ndjson" }));
    const lines = (await answer.text())
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(lines).toMatchObject([
      { kind: "event", event: { seq: 1, type: "run.started" } },
      { kind: "event", event: { seq: 2, type: "run.ended" } },
      { kind: "result", run: { id, state: "ended" } },
    ]);
    expect(runs.cancelled).toEqual([]);
  });

  test("cancels the run when the caller leaves", async () => {
    const { app, runs } = openCallerDoor();
    for (const accept of ["application/json", "application/x-ndjson"]) {
      const caller = new AbortController();
      runs.onCreate = () => setImmediate(() => caller.abort());
      const answer = await app.request("/run", {
        ...post({ prompt: "x" }, { accept }),
        signal: caller.signal,
      });
      await answer.text().catch(() => undefined);
    }
    expect(runs.cancelled).toEqual([toId(0), toId(1)]);
    expect(runs.watching).toBe(0);
  });

  test("cancels the run when its events cannot be told", async () => {
    const { app, runs } = openCallerDoor();
    runs.expiredUntil = 1;
    const answer = await app.request("/run", post({ prompt: "x" }, { accept: "application/x-ndjson" }));
    expect([answer.status, runs.cancelled]).toEqual([410, [id]]);
  });
});
