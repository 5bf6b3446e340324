/** Real runs of a real Pi in a real sandbox, over the built service; only the model is a scripted program. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { RunEvent } from "#contract/event";
import type { Problem } from "#contract/failure";
import { getJson, type LiveService, openLiveService, post, runToEnd } from "../fakes/live-service.ts";
import { readPublishedPackage } from "../fakes/published-package.ts";
import {
  type ModelScript,
  openScriptedModel,
  type ScriptedModel,
  type Turn,
} from "../fakes/scripted-model.ts";
import { DIALECTS, KEY, toScriptedRequest } from "../fakes/scripted-request.ts";
import { toResults } from "../fakes/tool-results.ts";

let model: ScriptedModel;
let service: LiveService;

beforeAll(async () => {
  model = await openScriptedModel({});
  service = await openLiveService({
    env: { PILLION_PRIVATE_TARGETS: model.url, PILLION_ALLOWED_PROGRAMS: "bash", PILLION_CONCURRENCY: "8" },
  });
});
afterAll(async () => {
  await service[Symbol.asyncDispose]();
  await model[Symbol.asyncDispose]();
});

/** The kinds of the events in order, a stream of deltas counted once. */
function toTypes(events: readonly RunEvent[]): string[] {
  const types = events.map(({ type }) => type);
  return types.filter((type, index) => !(type.endsWith(".delta") && types[index - 1] === type));
}

const NOTE = "# Working on ulid\n\nTimes are milliseconds since the epoch.\n";

const EDITING: NonNullable<ModelScript["script"]> = [
  {
    text: "I look.",
    toolCalls: [{ name: "read", arguments: { path: "dist/types.d.ts" } }],
    usage: { input: 100, output: 10 },
  },
  {
    toolCalls: [{ name: "grep", arguments: { pattern: "TIME_MAX", path: "dist/constants.d.ts" } }],
    usage: { input: 200, output: 20, cacheRead: 50 },
  },
  {
    toolCalls: [{ name: "find", arguments: { pattern: "*.cjs" } }],
    usage: { input: 300, output: 30, cacheRead: 60 },
  },
  {
    toolCalls: [
      {
        name: "edit",
        arguments: {
          path: "dist/types.d.ts",
          edits: [
            {
              oldText: "export type ULID = string;",
              newText: 'export type ULID = string & { readonly kind?: "ulid" };',
            },
          ],
        },
      },
    ],
    usage: { input: 400, output: 40 },
  },
  {
    toolCalls: [{ name: "write", arguments: { path: "docs/notes.md", content: NOTE } }],
    usage: { input: 500, output: 50 },
  },
  { text: ["It is ", "done."], usage: { input: 600, output: 60 } },
];

const DIFF = `diff --git a/dist/types.d.ts b/dist/types.d.ts
--- a/dist/types.d.ts
+++ b/dist/types.d.ts
@@ -1,4 +1,4 @@
 export type PRNG = () => number;
-export type ULID = string;
+export type ULID = string & { readonly kind?: "ulid" };
 export type ULIDFactory = (seedTime?: number) => ULID;
 export type UUID = string;
diff --git a/docs/notes.md b/docs/notes.md
new file mode 100644
--- /dev/null
+++ b/docs/notes.md
@@ -0,0 +1,3 @@
+# Working on ulid
+
+Times are milliseconds since the epoch.
`;

const TOOL_TURN = ["usage", "tool.call", "tool.result"];

describe("a run on the source of a published package", () => {
  test.each(DIALECTS)("S1.9 reads, searches, edits and writes through %s", async (api) => {
    const files = await readPublishedPackage();
    model.reset({ script: EDITING });
    const { run, events } = await runToEnd(
      service,
      toScriptedRequest(model, { api, fields: { workspace: { kind: "files", files } } }),
    );

    const usage = {
      inputTokens: 2100,
      outputTokens: 210,
      cacheReadTokens: 110,
      costUsd: null,
      modelCalls: 6,
    };
    const sums = { allowed: 6, denied: 0, bytesSent: expect.any(Number), bytesReceived: expect.any(Number) };
    const { hostname, port } = new URL(model.url);
    const end = {
      egress: { ...sums, hosts: [{ ...sums, host: hostname, port: Number(port) }] },
      outcome: "succeeded",
      output: "It is done.",
      stopReason: "stop",
      usage,
      exit: { code: 0, signal: null, oom: false },
      stop: { method: "graceful", verified: true, ms: expect.any(Number) },
      failure: null,
    };
    expect(run).toMatchObject({
      ...end,
      state: "ended",
      model: "acme/scripted",
      demo: false,
      lastSeq: events.length,
    });
    expect(run.receipt).toMatchObject({
      isolated: true,
      network: "none",
      workspace: "read-write",
      capabilities: [],
    });
    expect(events.at(-1)).toEqual({
      ...end,
      type: "run.ended",
      runId: run.id,
      seq: events.length,
      at: expect.any(String),
    });
    expect(events.filter(({ type }) => type === "egress")).toHaveLength(6);
    expect(toTypes(events).filter((type) => type !== "egress")).toEqual([
      ...[
        "run.started",
        "notice",
        "message",
        "message.delta",
        "usage",
        "message",
        "tool.call",
        "tool.result",
      ],
      ...[...TOOL_TURN, ...TOOL_TURN, ...TOOL_TURN, ...TOOL_TURN],
      ...["message.delta", "usage", "message", "run.ended"],
    ]);
    expect(toResults(events)).toEqual([
      { tool: "read", isError: false, text: files.find(({ path }) => path === "dist/types.d.ts")?.content },
      {
        tool: "grep",
        isError: false,
        text: "constants.d.ts:8: export declare const TIME_MAX = 281474976710655;",
      },
      {
        tool: "find",
        isError: false,
        text: expect.stringMatching(/^dist\/(node|browser)\/index.cjs\ndist\/(node|browser)\/index.cjs$/),
      },
      { tool: "edit", isError: false, text: "Successfully replaced 1 block(s) in dist/types.d.ts." },
      { tool: "write", isError: false, text: "Successfully wrote to docs/notes.md" },
    ]);
    const changed = { kind: "file", executable: false, sha256: expect.stringMatching(/^[0-9a-f]{64}$/) };
    expect(await getJson(service, `/v1/runs/${run.id}/files`)).toEqual({
      runId: run.id,
      files: [
        { ...changed, path: "dist/types.d.ts", change: "modified", size: 171 },
        { path: "docs", change: "added", kind: "directory", size: expect.any(Number), executable: false },
        { ...changed, path: "docs/notes.md", change: "added", size: NOTE.length },
      ],
      truncated: false,
    });
    expect(await getText(`/v1/runs/${run.id}/diff`)).toBe(DIFF);
    expect(await getText(`/v1/runs/${run.id}/files/docs/notes.md`)).toBe(NOTE);
  });

  test("a credential that the run has no use for is not written down either", async () => {
    const unused = "canary-unused-0123456789";
    const host = `127.0.0.1:${model.port}`;
    const credentials = [
      { host, header: "authorization", value: `Bearer ${unused}` },
      { host, header: "authorization", value: `Bearer ${KEY}` }, // of two for one host, the last is taken
    ];
    model.reset({ script: [{ text: `It is ${unused}.` }] });
    const { run, events } = await runToEnd(service, toScriptedRequest(model, { fields: { credentials } }));
    expect(run.output).toBe("It is [redacted].");
    expect(JSON.stringify([run, events])).not.toContain(unused);
    expect(model.requests.map(({ headers }) => headers.authorization)).toEqual([`Bearer ${KEY}`]);
  });

  test.each(DIALECTS)(
    "the provider sees the real key through %s, the sandbox and the record never do",
    async (api) => {
      model.reset({
        script: [
          { text: "Which key?", echoHeaders: true, toolCalls: [{ name: "ls", arguments: {} }] },
          { text: "Done." },
        ],
      });
      const { run, events } = await runToEnd(service, toScriptedRequest(model, { api }));
      expect(run.outcome).toBe("succeeded");
      const [name, value] =
        api === "anthropic-messages" ? ["x-api-key", KEY] : ["authorization", `Bearer ${KEY}`];
      expect(model.requests.map(({ headers }) => headers[name])).toEqual([value, value]);
      expect(JSON.stringify(model.requests)).not.toMatch(/pillion_[0-9a-f]{48}/);
      // The control: the model did say its key.
      expect(JSON.stringify(events)).toContain("Which key?");
      expect(
        JSON.stringify([run, events, model.requests.map(({ body }) => body), service.logs()]),
      ).not.toContain(KEY);
    },
  );
});

async function getText(path: string): Promise<string> {
  return (await fetch(service.url + path)).text();
}

describe("what a run may do", () => {
  const writing: Turn[] = [
    { toolCalls: [{ name: "write", arguments: { path: "a.txt", content: "a" } }] },
    { toolCalls: [{ name: "bash", arguments: { command: "echo b > b.txt" } }] },
    { text: "I tried." },
  ];

  test("S1.9 the policy refuses a reader's write and shell, and nothing is written", async () => {
    model.reset({ script: writing });
    const { run, events } = await runToEnd(service, toScriptedRequest(model, { fields: { role: "reader" } }));
    expect(toResults(events)).toEqual([
      { tool: "write", isError: true, text: expect.any(String) },
      { tool: "bash", isError: true, text: expect.any(String) },
    ]);
    expect(run).toMatchObject({
      outcome: "succeeded",
      output: "I tried.",
      receipt: { workspace: "read-only" },
    });
    expect(await getJson(service, `/v1/runs/${run.id}/files`)).toEqual({
      runId: run.id,
      files: [],
      truncated: false,
    });
    expect(await getText(`/v1/runs/${run.id}/diff`)).toBe("");
  });

  test("the same script writes for a worker with a shell, where both operator and request consent", async () => {
    model.reset({ script: writing });
    const execution = { allowedPrograms: ["bash"] };
    const { run, events } = await runToEnd(service, toScriptedRequest(model, { fields: { execution } }));
    expect(toResults(events).map((result) => ({ ...result, text: "" }))).toEqual([
      { tool: "write", isError: false, text: "" },
      { tool: "bash", isError: false, text: "" },
    ]);
    expect(await getText(`/v1/runs/${run.id}/files/b.txt`)).toBe("b\n");
  });

  test("a shell says what it printed", async () => {
    model.reset({
      script: [{ toolCalls: [{ name: "bash", arguments: { command: "echo it-is-$((40 + 2))" } }] }],
    });
    const execution = { allowedPrograms: ["bash"] };
    const { events } = await runToEnd(service, toScriptedRequest(model, { fields: { execution } }));
    expect(toResults(events)).toEqual([
      { tool: "bash", isError: false, text: expect.stringContaining("it-is-42") },
    ]);
  });

  test("a shell with the consent of one side only is refused as execution_disabled", async () => {
    await using strict = await openLiveService({ env: { PILLION_PRIVATE_TARGETS: model.url } });
    const onlyOperator = await post(
      service,
      "/run",
      toScriptedRequest(model, { fields: { agent: { tools: ["bash"] } } }),
    );
    const onlyRequest = await post(
      strict,
      "/run",
      toScriptedRequest(model, { fields: { execution: { allowedPrograms: ["bash"] } } }),
    );
    for (const answer of [onlyOperator, onlyRequest]) {
      expect(await answer.json()).toMatchObject({
        status: 403,
        code: "execution_disabled",
      } satisfies Partial<Problem>);
    }
  });
});
