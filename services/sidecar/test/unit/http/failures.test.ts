import { describe, expect, test } from "vitest";
import { Fault } from "../../../src/kernel/fault.ts";
import { openCallerDoor, post, withToken } from "../../fakes/caller-door.ts";
import { toId } from "../../fakes/fake-run-store.ts";

describe("a failure of ours", () => {
  test("is told without its cause, and logged with it under the request's id", async () => {
    const { app, runs, lines } = openCallerDoor();
    runs.failure = new Error("ENOENT /srv/secret/journal.db");
    const answer = await app.request("/v1/runs", { headers: withToken({ "x-request-id": "req-1" }) });
    expect(answer.status).toBe(500);
    expect(await answer.json()).toEqual({
      type: "urn:pillion:failure:internal",
      title: "Something went wrong on our side",
      status: 500,
      detail: "An unexpected error happened; the log has the cause under the request's id.",
      code: "internal",
      retryable: false,
      instance: "/v1/runs",
    });
    expect(lines).toEqual([
      {
        level: "error",
        fields: {
          requestId: "req-1",
          code: "internal",
          err: expect.objectContaining({ message: "ENOENT /srv/secret/journal.db" }),
        },
        message: "a request failed",
      },
    ]);
  });

  test("keeps its fixed words even when someone gave it others", async () => {
    const { app, runs } = openCallerDoor();
    runs.failure = new Fault("internal", "the key is sk-123");
    const answer = await app.request("/v1/runs", { headers: withToken() });
    expect(await answer.text()).not.toContain("sk-123");
  });
});

describe("a named failure", () => {
  test("carries its status, the run and the address", async () => {
    const { app } = openCallerDoor();
    const answer = await app.request(`/v1/runs/${toId(7)}`, { headers: withToken() });
    expect(answer.headers.get("content-type")).toBe("application/problem+json");
    expect(await answer.json()).toMatchObject({
      status: 404,
      code: "run_not_found",
      runId: toId(7),
      instance: `/v1/runs/${toId(7)}`,
    });
  });

  test.each([
    [new Fault("overloaded", "Full.", { retryAfterS: 2.4 }), 429, "3"],
    [new Fault("overloaded", "Full."), 429, "5"],
    [new Fault("draining", "Going."), 503, "10"],
    [new Fault("storage_full", "Full."), 507, null],
  ])("says when to come back: %s", async (fault, status, retryAfter) => {
    const { app, runs } = openCallerDoor();
    runs.failure = fault;
    const answer = await app.request("/v1/runs", post({ prompt: "x" }));
    expect([answer.status, answer.headers.get("retry-after")]).toEqual([status, retryAfter]);
  });
});

describe("bad fields", () => {
  test("are told all at once as JSON Pointers, what is not implemented yet first", async () => {
    const { app, runs } = openCallerDoor();
    const answer = await app.request(
      "/v1/runs",
      post({
        prompt: "",
        limits: { steps: 0, tokens: 0 },
        telemetry: {},
        agent: { "a/b~c": 1 },
        session: "s",
        credentials: [{ value: "sk-secret\n" }],
      }),
    );
    const problem = await answer.json();
    expect(problem).toMatchObject({
      code: "invalid_request",
      detail: "`telemetry` is not implemented yet (and 8 more).",
      errors: [
        { path: "/telemetry", message: "`telemetry` is not implemented yet" },
        { path: "/session", message: "`session` is not implemented yet" },
        { path: "/prompt" },
        { path: "/agent/a~1b~0c", message: "unknown field" },
        { path: "/credentials/0/host" },
        { path: "/credentials/0/header" },
        { path: "/credentials/0/value", message: "must be printable ASCII" },
        { path: "/limits/steps" },
        { path: "/limits/tokens" },
      ].map((error) => expect.objectContaining(error)),
    });
    expect(JSON.stringify(problem)).not.toContain("sk-secret");
    expect(runs.requests).toEqual([]);
  });

  test("are bounded in number and length", async () => {
    const { app } = openCallerDoor();
    const fields = Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`${"k".repeat(5_000)}${i}`, 1]));
    const answer = await app.request("/v1/runs", post({ prompt: "x", ...fields }));
    const text = await answer.text();
    expect(text.length).toBeLessThan(20_000);
    expect(JSON.parse(text).errors).toHaveLength(32);
  });
});

describe("every answer", () => {
  test.each(["/health", "/readyz", "/v1/runs", "/nothing", "/openapi.json"])(
    "of %s is not guessed, not kept, and has an id",
    async (path) => {
      const { app } = openCallerDoor();
      const answer = await app.request(path, { headers: withToken() });
      expect(answer.headers.get("x-content-type-options")).toBe("nosniff");
      expect(answer.headers.get("cache-control")).toBe("no-store");
      expect(answer.headers.get("x-request-id")).toMatch(/^[0-9a-f-]{36}$/);
    },
  );

  test("keeps the caller's request id only when it is sane", async () => {
    const { app } = openCallerDoor();
    const idOf = async (id: string) =>
      (await app.request("/health", { headers: { "x-request-id": id } })).headers.get("x-request-id");
    expect(await idOf("Trace_1.a-b")).toBe("Trace_1.a-b");
    for (const id of ["a b", "x".repeat(65), "<script>", "ü"]) expect(await idOf(id)).not.toBe(id);
  });
});
