/** Real runs of a real Pi in a real sandbox, over the built service; only the model is a scripted program. */
import { readdir, readFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { RunEvent } from "#contract/event";
import type { ModelApi } from "#contract/extension";
import type { ChangedFiles } from "#contract/run";
import { getJson, type LiveService, openLiveService, post, readEvents, runToEnd } from "../fakes/live-service.ts";
import { openScriptedModel, type ModelScript, type ScriptedModel } from "../fakes/scripted-model.ts";

const PACKAGE = join(import.meta.dirname, "../../../../node_modules/ulid");
const KEY = "canary-7f3a9c51e2d84b60";
const DIALECTS = ["openai-completions", "openai-responses", "anthropic-messages"] as const satisfies readonly ModelApi[];

let model: ScriptedModel;
let service: LiveService;

beforeAll(async () => {
  model = await openScriptedModel({});
  service = await openLiveService({ env: { PILLION_PRIVATE_TARGETS: model.url, PILLION_ALLOWED_PROGRAMS: "bash" } });
});
afterAll(async () => {
  await service[Symbol.asyncDispose]();
  await model[Symbol.asyncDispose]();
});

/** A request to the scripted model in one of its dialects, with the key in the vendor's header. */
function toRequest(api: ModelApi, fields: object = {}): object {
  const isAnthropic = api === "anthropic-messages";
  return {
    prompt: "Give the package a function that tells whether an id is from the future.",
    model: { name: "acme/scripted", baseUrl: isAnthropic ? model.url : `${model.url}/v1`, api },
    credentials: [
      isAnthropic
        ? { host: `127.0.0.1:${model.port}`, header: "x-api-key", value: KEY }
        : { host: `127.0.0.1:${model.port}`, header: "authorization", value: `Bearer ${KEY}` },
    ],
    ...fields,
  };
}

function play(script: ModelScript["script"]): void {
  model.reset({ script });
}

/** The kinds of the events in order, a stream of deltas counted once. */
function toTypes(events: readonly RunEvent[]): string[] {
  const types = events.map(({ type }) => type);
  return types.filter((type, index) => !(type.endsWith(".delta") && types[index - 1] === type));
}

async function readPackage(): Promise<{ path: string; content: string }[]> {
  const entries = await readdir(PACKAGE, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  return Promise.all(
    files
      .filter((file) => !file.includes("/ulid/node_modules/"))
      .sort()
      .map(async (file) => ({ path: relative(PACKAGE, file), content: await readFile(file, "utf8") })),
  );
}

const NOTE = "# Working on ulid\n\nTimes are milliseconds since the epoch.\n";

const EDITING: NonNullable<ModelScript["script"]> = [
  { text: "I look.", toolCalls: [{ name: "read", arguments: { path: "dist/types.d.ts" } }], usage: { input: 100, output: 10 } },
  {
    toolCalls: [{ name: "grep", arguments: { pattern: "TIME_MAX", path: "dist/constants.d.ts" } }],
    usage: { input: 200, output: 20, cacheRead: 50 },
  },
  { toolCalls: [{ name: "find", arguments: { pattern: "*.cjs" } }], usage: { input: 300, output: 30, cacheRead: 60 } },
  {
    toolCalls: [
      {
        name: "edit",
        arguments: {
          path: "dist/types.d.ts",
          edits: [{ oldText: "export type ULID = string;", newText: 'export type ULID = string & { readonly kind?: "ulid" };' }],
        },
      },
    ],
    usage: { input: 400, output: 40 },
  },
  { toolCalls: [{ name: "write", arguments: { path: "docs/notes.md", content: NOTE } }], usage: { input: 500, output: 50 } },
  { text: ["It is ", "done."], usage: { input: 600, output: 60 } },
];

describe("a run on the source of a published package", () => {
  test.each(DIALECTS)("reads, searches, edits and writes through %s", async (api) => {
    const files = await readPackage();
    play(EDITING);
    const { run, events } = await runToEnd(service, toRequest(api, { workspace: { kind: "files", files } }));
    console.log(JSON.stringify(run), toTypes(events), events.filter(e=>e.type==="tool.result"));
    console.log(await getJson<ChangedFiles>(service, `/v1/runs/${run.id}/files`));
    console.log(await (await fetch(`${service.url}/v1/runs/${run.id}/diff`)).text());
    console.log(model.requests[0]?.headers, model.requests.length);
  });
});
