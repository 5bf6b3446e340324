/** What deleting a run takes away, seen from the caller and in the data directory of the built service. */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import {
  getJson,
  type LiveService,
  openLiveService,
  post,
  readEvents,
  runToEnd,
} from "../fakes/live-service.ts";
import { openScriptedModel, type ScriptedModel } from "../fakes/scripted-model.ts";
import { toRun, toScriptedRequest } from "../fakes/scripted-request.ts";

const WORDS = "words-that-only-this-run-wrote";

let model: ScriptedModel;
let service: LiveService;

beforeAll(async () => {
  model = await openScriptedModel({
    scripts: {
      writing: [{ toolCalls: [{ name: "write", arguments: { path: "made.txt", content: WORDS } }] }],
      hanging: [{ fail: "hang" }],
    },
  });
  service = await openLiveService({ env: { PILLION_PRIVATE_TARGETS: model.url } });
});
afterAll(async () => {
  await service[Symbol.asyncDispose]();
  await model[Symbol.asyncDispose]();
});

async function readResults(): Promise<string[]> {
  return (await readdir(join(service.home, "results"), { recursive: true })).sort();
}

function toKept(id: string): string[] {
  return [id, `${id}/diff.patch`, `${id}/files.json`, `${id}/files.tar`];
}

async function remove(id: string): Promise<{ status: number; body: string }> {
  const answer = await fetch(`${service.url}/v1/runs/${id}`, { method: "DELETE" });
  return { status: answer.status, body: await answer.text() };
}

test("a deleted run's kept files leave the data directory, and another run's stay", async () => {
  const { run: gone } = await runToEnd(service, toScriptedRequest(model, { name: "writing" }));
  const { run: other } = await runToEnd(service, toScriptedRequest(model, { name: "writing" }));
  // The control: before, the files are there and can be had.
  expect(await readResults()).toEqual([...toKept(gone.id), ...toKept(other.id)].sort());
  expect(await readFile(join(service.home, "results", gone.id, "files.tar"), "utf8")).toContain(WORDS);
  expect(await (await fetch(`${service.url}/v1/runs/${gone.id}/files/made.txt`)).text()).toBe(WORDS);

  expect(await remove(gone.id)).toEqual({ status: 204, body: "" });
  expect(await readResults()).toEqual(toKept(other.id));
  const paths = ["", "/events", "/files", "/files/made.txt", "/diff"].map(
    (path) => `/v1/runs/${gone.id}${path}`,
  );
  const answers = await Promise.all(paths.map((path) => getJson(service, path)));
  expect(answers).toMatchObject(paths.map(() => ({ status: 404, code: "run_not_found" })));
  expect(await getJson(service, "/v1/runs")).toMatchObject({ runs: [{ id: other.id }] });
  expect(await (await fetch(`${service.url}/v1/runs/${other.id}/files/made.txt`)).text()).toBe(WORDS);

  expect((await remove(gone.id)).status).toBe(404);
  expect(await readResults()).toEqual(toKept(other.id));
});

test("a run that is going on is not deleted, and can be once it has ended", async () => {
  const run = await toRun(await post(service, "/v1/runs", toScriptedRequest(model, { name: "hanging" })));
  await vi.waitFor(() => expect(model.requests.at(-1)?.body).toMatchObject({ model: "hanging" }), 10_000);
  const refused = await remove(run.id);
  expect(JSON.parse(refused.body)).toMatchObject({ status: 409, code: "wrong_state" });
  expect(await getJson(service, `/v1/runs/${run.id}`)).toMatchObject({ state: "running" });

  await post(service, `/v1/runs/${run.id}/cancel`, {});
  expect((await readEvents(service, run.id)).at(-1)).toMatchObject({ type: "run.ended" });
  expect(await readResults()).toContain(run.id); // also an empty list of changes is kept
  expect((await remove(run.id)).status).toBe(204);
  expect(await readResults()).not.toContain(run.id);
});
