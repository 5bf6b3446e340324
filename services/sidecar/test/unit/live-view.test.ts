// The live view: readable, one line for each tool call, and a terminal that no model can control.
import { describe, expect, test } from "vitest";
import type { EventBody, RunEvent } from "#contract/event";
import { type ChangedFiles, NO_EGRESS, type Run } from "#contract/run";
import { Fault } from "../../src/kernel/fault.ts";
import { createLiveView, toFailureText, toSummary, wantsColours } from "../../src/live-view.ts";

const RUN_ID = "run_00000000000000000000000000";
const USAGE = { inputTokens: 1200, outputTokens: 34, cacheReadTokens: 5, costUsd: 0.0123, modelCalls: 2 };

function show(bodies: readonly EventBody[], colours = false): string {
  const render = createLiveView({ colours });
  const at = "2026-01-01T00:00:00.000Z";
  return bodies
    .map((body, index): RunEvent => ({ seq: index + 1, at, ...body }))
    .map(render)
    .join("");
}

const EGRESS: Extract<EventBody, { type: "egress" }> = {
  type: "egress",
  way: "base-url",
  allowed: true,
  reason: null,
  failure: null,
  cause: null,
  scheme: "https",
  host: "api.example.com",
  port: 443,
  address: null,
  serverName: null,
  method: "GET",
  path: "/v1/things",
  status: 200,
  bytesSent: 0,
  bytesReceived: 12,
  durationMs: 3.1,
  credential: null,
};

const TOUR: EventBody[] = [
  { type: "run.started", runId: RUN_ID, state: "queued", model: "demo/tour", demo: true },
  { type: "message", role: "user", text: "Look\naround" },
  { type: "thought.delta", text: "Hm" },
  { type: "thought.delta", text: "m." },
  { type: "thought", text: "Hmm." },
  { type: "message.delta", text: "I will " },
  { type: "message.delta", text: "look." },
  { type: "message", role: "assistant", text: "I will look." },
  { type: "tool.call", callId: "1", tool: "ls", arguments: { path: ".", depth: 2 } },
  { type: "tool.update", callId: "1", tool: "ls", text: "…" },
  {
    type: "tool.result",
    callId: "1",
    tool: "ls",
    isError: false,
    text: "a\nb",
    truncated: false,
    durationMs: 12.4,
  },
  { type: "usage", call: 1, httpStatus: 200, stopReason: "toolUse", usage: USAGE, total: USAGE },
  { type: "tool.call", callId: "2", tool: "read", arguments: {} },
  {
    type: "tool.result",
    callId: "2",
    tool: "read",
    isError: true,
    text: "no such\nfile",
    truncated: false,
    durationMs: null,
  },
  { type: "notice", level: "warning", topic: "retry", text: "trying again" },
  { type: "message.delta", text: "Done.\n" },
  { type: "message", role: "assistant", text: "Done.\n" },
  {
    type: "run.ended",
    runId: RUN_ID,
    outcome: "succeeded",
    output: "Done.",
    stopReason: "stop",
    usage: USAGE,
    egress: NO_EGRESS,
    exit: null,
    stop: null,
    failure: null,
  },
];

test("a whole run reads like this", () => {
  expect(show(TOUR)).toBe(
    [
      `${RUN_ID}, model demo/tour (demo: no real AI)`,
      "> Look around",
      "Hmm.",
      "I will look.",
      "→ ls path=. depth=2",
      "  ✓ 3 characters, 12 ms",
      "→ read",
      "  ✗ no such file",
      "! trying again",
      "Done.",
      "",
    ].join("\n"),
  );
});

test("colours change nothing but the colour", () => {
  const coloured = show(TOUR, true);
  expect(coloured).toContain("\u001b[36m→ ls\u001b[0m path=.");
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colours are control sequences
  expect(coloured.replace(/\u001b\[\d+m/g, "")).toBe(show(TOUR));
});

test("text that was not streamed is shown once it is whole, after thoughts too", () => {
  expect(
    show([
      { type: "thought.delta", text: "Hm." },
      { type: "thought", text: "Hm." },
      { type: "message", role: "assistant", text: "Hello." },
    ]),
  ).toBe("Hm.\nHello.\n");
});

test("thought and text that follow each other stand on lines of their own", () => {
  expect(
    show([
      { type: "thought.delta", text: "Hm." },
      { type: "message.delta", text: "Hello" },
      {
        type: "run.ended",
        runId: RUN_ID,
        outcome: "failed",
        output: null,
        stopReason: null,
        usage: USAGE,
        egress: NO_EGRESS,
        exit: null,
        stop: null,
        failure: null,
      },
    ]),
  ).toBe("Hm.\nHello\n");
});

describe("ways out", () => {
  test("S3.6 one that was denied gets a line with what it was and why", () => {
    const denied = { ...EGRESS, allowed: false, reason: "host_not_allowed" as const, status: null };
    const unread = { ...denied, way: "proxy" as const, host: null, port: null, path: null, method: null };
    expect(
      show([
        { ...denied, way: "connect", method: "CONNECT", path: null },
        { ...denied, method: "POST" },
        { ...unread, reason: "bad_request" },
        { ...unread, host: "a_b.example", reason: "bad_host" },
        { ...denied, way: "model", host: null, port: null, path: "/model/x", reason: "call_not_allowed" },
      ]),
    ).toBe(
      [
        "! egress denied: CONNECT api.example.com:443 (host_not_allowed)",
        "! egress denied: POST api.example.com:443 (host_not_allowed)",
        "! egress denied: (bad_request)",
        "! egress denied: a_b.example (bad_host)",
        "! egress denied: GET /model/x (call_not_allowed)",
        "",
      ].join("\n"),
    );
  });

  test("S3.6 one that was allowed gets none, and leaves a text that streams alone", () => {
    const text: EventBody[] = [
      { type: "message.delta", text: "Hel" },
      EGRESS,
      { type: "message.delta", text: "lo" },
    ];
    expect(show(text)).toBe("Hello");
  });

  test("S3.6 a long or broken host makes no long line", () => {
    const host = "x".repeat(5_000);
    const line = show([{ ...EGRESS, allowed: false, reason: "bad_host", host, port: null }]);
    expect(line).toMatch(/^! egress denied: GET x+… \(bad_host\)\n$/);
    expect(line.length).toBeLessThan(130);
  });
});

describe("a terminal", () => {
  const attack = "a\u001b[2J\u001b]0;title\u0007\u009b31m\rb\u0008\u202ec\u200bd\u0000\u007f\u001b";
  const fields: EventBody[] = [
    { type: "message.delta", text: attack },
    { type: "message", role: "assistant", text: attack },
    { type: "message", role: "user", text: attack },
    { type: "thought", text: attack },
    { type: "thought.delta", text: attack },
    { type: "tool.call", callId: "1", tool: attack, arguments: { [attack]: attack, list: [attack] } },
    {
      type: "tool.result",
      callId: "1",
      tool: "t",
      isError: true,
      text: attack,
      truncated: false,
      durationMs: null,
    },
    { type: "notice", level: "info", topic: "harness", text: attack },
    { ...EGRESS, allowed: false, reason: "bad_host", method: attack, host: attack },
    { type: "run.started", runId: RUN_ID, state: "queued", model: attack, demo: false },
  ];

  test.each(fields.map((body) => [body.type, body] as const))("cannot be controlled by %s", (_type, body) => {
    const shown = show([body]);
    expect(shown).toMatch(/a/);
    expect(shown).toMatch(/^[\n\x20-\x7e→✓✗]*$/);
    expect(JSON.stringify(body)).toMatch(/u001b/); // the control: it was there
  });

  test("cannot be controlled by a sequence that comes in two pieces", () => {
    const halves: EventBody[] = [
      { type: "message.delta", text: "\u001b" },
      { type: "message.delta", text: "[2Jx" },
    ];
    expect(show(halves)).toBe("[2Jx");
  });

  test("gets one line for a tool call of any size", () => {
    const line = show([
      { type: "tool.call", callId: "1", tool: "write", arguments: { content: "x\n".repeat(100_000) } },
    ]);
    expect(line).toMatch(/^→ write content=[x ]+…\n$/);
    expect(line.length).toBeLessThan(200);
  });
});

describe("the summary", () => {
  const run: Run = {
    id: RUN_ID,
    state: "ended",
    outcome: "succeeded",
    output: "Done.",
    model: "demo/tour",
    demo: true,
    usage: USAGE,
    egress: NO_EGRESS,
    stopReason: "stop",
    exit: null,
    stop: null,
    receipt: null,
    harness: null,
    timings: {
      createdAt: "2026-01-01T00:00:00.000Z",
      startedAt: null,
      endedAt: null,
      queuedMs: 0,
      sandboxMs: 1,
      preparingMs: 1,
      firstOutputMs: 2,
      totalMs: 1234,
    },
    failure: null,
    metadata: {},
    lastSeq: 9,
  };
  const file = (path: string, change: "added" | "modified" | "deleted") => ({
    path,
    change,
    kind: "file" as const,
    size: 1,
    executable: false,
  });

  test("tells outcome, duration, files, tokens and sandbox", () => {
    const files = [file("a.txt", "added"), file("b\u001b[2J.txt", "modified"), file("c.txt", "deleted")];
    expect(toSummary(run, { runId: RUN_ID, files, truncated: false }, { colours: false })).toBe(
      [
        "✓ succeeded in 1.2 s (demo model: no real AI)",
        "  3 files changed: +a.txt ~b.txt -c.txt",
        "  tokens 1200 in (5 cached), 34 out, 2 model calls, $0.0123",
        `  ${RUN_ID}`,
        "",
      ].join("\n"),
    );
  });

  test("S3.6 tells how many ways out were allowed and denied, where there was any", () => {
    const egress = { ...NO_EGRESS, allowed: 7, denied: 2 };
    const shown = toSummary({ ...run, egress }, undefined, { colours: false });
    expect(shown).toContain("\n  egress: 7 allowed, 2 denied\n");
    expect(toSummary(run, undefined, { colours: false })).not.toContain("egress"); // the control
  });

  test("S3.6 names the hosts that were denied, the first three, and what a run wrote cannot control the terminal", () => {
    const names = [
      "ok.example",
      "paste.example",
      "evil.\u001b[31mexample",
      "c.example",
      "d.example",
      "e.example",
    ];
    const hosts = names.map((host, index) => ({
      ...{ host, port: 443, bytesSent: 0, bytesReceived: 0 },
      ...(index === 0 ? { allowed: 4, denied: 0 } : { allowed: 0, denied: index }),
    }));
    const told = (some: typeof hosts) =>
      toSummary({ ...run, egress: { ...NO_EGRESS, allowed: 4, denied: 15, hosts: some } }, undefined, {
        colours: false,
      });
    expect(told(hosts)).toContain(
      "\n  egress: 4 allowed, 15 denied (paste.example, evil.example, c.example and 2 more)\n",
    );
    expect(told(hosts.slice(0, 2))).toContain("\n  egress: 4 allowed, 15 denied (paste.example)\n");
  });

  test("tells why a run failed, and a cost that is not known", () => {
    const failure = {
      type: "urn:pillion:failure:deadline_exceeded",
      title: "The run's time was used up",
      status: 504,
      detail: "The run took\nmore than 1 s.",
      code: "deadline_exceeded" as const,
      retryable: false,
    };
    const usage = { ...USAGE, costUsd: null, modelCalls: 1, cacheReadTokens: 0 };
    const failed: Run = { ...run, demo: false, outcome: "timed_out", failure, usage };
    expect(toSummary(failed, undefined, { colours: false })).toBe(
      [
        "✗ timed out in 1.2 s",
        "  deadline_exceeded: The run took more than 1 s.",
        "  tokens 1200 in, 34 out, 1 model call, cost unknown",
        `  ${RUN_ID}`,
        "",
      ].join("\n"),
    );
  });

  test("names ten files and counts the others", () => {
    const files: ChangedFiles["files"] = Array.from({ length: 12 }, (_, index) => file(`f${index}`, "added"));
    const shown = toSummary(run, { runId: RUN_ID, files, truncated: true }, { colours: false });
    expect(shown).toContain(
      "  more than 12 files changed: +f0 +f1 +f2 +f3 +f4 +f5 +f6 +f7 +f8 +f9 and 2 more\n",
    );
    expect(toSummary(run, { runId: RUN_ID, files: [], truncated: false }, { colours: false })).toContain(
      "no files changed",
    );
  });
});

test("colours are for terminals whose owner has not said no", () => {
  expect(wantsColours({}, true)).toBe(true);
  expect(wantsColours({ NO_COLOR: "" }, true)).toBe(true);
  expect(wantsColours({}, false)).toBe(false);
  expect(wantsColours({ NO_COLOR: "1" }, true)).toBe(false);
  expect(wantsColours({ TERM: "dumb" }, true)).toBe(false);
});

describe("a failure at the command line", () => {
  const fail = (message: string, errors?: { path: string; message: string }[]): string =>
    toFailureText(new Fault("invalid_request", message, errors === undefined ? {} : { errors }));

  test("is told once, with the field that its message does not name", () => {
    expect(fail("There is no such run.")).toBe("pillion: There is no such run.\n");
    const message = "this service has no default";
    expect(fail(`/model: ${message}.`, [{ path: "/model", message }])).toBe(`pillion: /model: ${message}.\n`);
    expect(fail(`The request is not valid: ${message}.`, [{ path: "/model", message }])).toBe(
      `pillion: The request is not valid: ${message}. (/model)\n`,
    );
  });

  test("has every other bad field below it", () => {
    const errors = [
      { path: "/promt", message: "is not a field" },
      { path: "/steps", message: "is too much" },
    ];
    expect(fail("/promt: is not a field (and 1 more).", errors)).toBe(
      "pillion: /promt: is not a field (and 1 more).\n  /steps: is too much\n",
    );
  });
});
