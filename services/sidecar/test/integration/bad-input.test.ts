/** Every bad input gets its named problem, nothing happens, and the service stays well. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Problem } from "#contract/failure";
import { type Listening, listen } from "../../src/http/server.ts";
import { MAX_BODY_BYTES, openCallerDoor, TOKEN } from "../fakes/caller-door.ts";
import { toId } from "../fakes/fake-run-store.ts";
import { toBadInputs } from "../fixtures/bad-input.ts";
import { sendRaw } from "../fixtures/raw-http.ts";

const table = toBadInputs({ token: TOKEN, maxBodyBytes: MAX_BODY_BYTES, runId: toId(0) });

describe("bad input", () => {
  const { app, runs, log, lines } = openCallerDoor();
  let server: Listening;

  beforeAll(async () => {
    await runs.create({
      harness: "pi",
      prompt: "there already",
      workspace: { kind: "empty" },
      sandbox: { kind: "auto", network: "none" },
      role: "worker",
    });
    runs.end(toId(0));
    server = await listen({ app, host: "127.0.0.1", port: 0, maxBodyBytes: MAX_BODY_BYTES, log });
  });
  afterAll(() => server.close(0));

  test("has at least 70 cases, each of a class of its own", () => {
    expect(table.length).toBeGreaterThanOrEqual(70);
    expect(new Set(table.map((input) => input.class)).size).toBe(table.length);
  });

  test.each(table.map((input) => [input.class, input] as const))("%s", async (_name, input) => {
    const answer = await sendRaw(server.address.port, input.bytes);
    expect(answer.headers["content-type"]).toBe("application/problem+json");
    const problem = Problem.parse(JSON.parse(answer.body));
    expect({
      http: answer.status,
      status: problem.status,
      code: problem.code,
      detail: problem.detail,
    }).toEqual({
      http: input.status,
      status: input.status,
      code: input.code,
      detail: expect.stringContaining(input.tells),
    });
    expect(answer.headers).toMatchObject({
      "x-content-type-options": "nosniff",
      "cache-control": "no-store",
      "x-request-id": expect.stringMatching(/^[A-Za-z0-9._-]{1,64}$/),
    });
    expect(answer.headers).not.toHaveProperty("access-control-allow-origin");
    expect(answer.body).not.toMatch(/node_modules|\.ts:|at \w+ \(/);
  });

  test("nothing was created, cancelled or logged as ours, and the service answers", async () => {
    expect(runs.requests).toHaveLength(1);
    expect(runs.cancelled).toEqual([]);
    expect(lines.filter((line) => line.level !== "info")).toEqual([]);
    const health = await sendRaw(server.address.port, "GET /health HTTP/1.1\r\nHost: whatever\r\n\r\n");
    expect({ status: health.status, body: health.body }).toEqual({ status: 200, body: '{"status":"ok"}' });
  });
});
