/** `pillion run` with containers: what one that was killed has left is removed by the next, wherever it was. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { AGENT_IMAGE, docker, readEngineHost } from "../behaviours/open-places.ts";
import { toDockerEnv } from "../fakes/docker-env.ts";
import { EngineProxy } from "../fakes/engine-proxy.ts";
import { runProgram, startProgram } from "../fakes/live-service.ts";
import { openScriptedModel, type ScriptedModel } from "../fakes/scripted-model.ts";
import { toScriptedRequest } from "../fakes/scripted-request.ts";

let model: ScriptedModel;
let proxy: EngineProxy;
let tmp: string;

beforeEach(async () => {
  model = await openScriptedModel({ script: [{ fail: "hang" }] });
  proxy = await EngineProxy.open(readEngineHost());
  tmp = mkdtempSync(join(tmpdir(), "pillion-cli-"));
});
afterEach(async () => {
  await proxy[Symbol.asyncDispose]();
  await model[Symbol.asyncDispose]();
  rmSync(tmp, { recursive: true, force: true });
});

const list = (...filters: readonly string[]): string[] => {
  const options = filters.flatMap((filter) => ["--filter", `label=${filter}`]);
  return [docker(["ps", "-aq", ...options]), docker(["volume", "ls", "-q", ...options])].flatMap((lines) =>
    lines.split("\n").filter(Boolean),
  );
};

/** All of an instance: its runs' containers and volumes, and its volumes of the product. */
const findAll = (instance: string): string[] => [
  ...list(`org.pillion.instance=${instance}`),
  ...list(`org.pillion.product=${instance}`),
];

const readHomes = (): string[] => readdirSync(tmp).filter((name) => name.startsWith("pillion-run-"));
const readInstanceOf = (home: string): string => readFileSync(join(tmp, home, "instance"), "utf8");

/** A reader in another's image: one container, a volume of its files, and one of the product. Returns its instance. */
async function killInTheMiddle(): Promise<string> {
  const image = docker(["image", "inspect", "-f", "{{.Id}}", AGENT_IMAGE]);
  const files = [{ path: "a.txt", content: "a\n" }];
  const fields = { role: "reader", workspace: { kind: "files", files }, sandbox: { image } };
  const env = toDockerEnv(model, { PILLION_DOCKER_HOST: proxy.host, PILLION_ALLOWED_IMAGES: image });
  const running = startProgram(["run"], { tmp, env });
  let said = "";
  running.child.stderr.setEncoding("utf8").on("data", (text: string) => (said += text));
  running.child.stdin.end(JSON.stringify(toScriptedRequest(model, { fields })));
  await vi.waitFor(() => expect(model.requests, said).toHaveLength(1), 20_000);
  running.child.kill("SIGKILL");
  await running.ended;
  return readInstanceOf(readHomes()[0] ?? "");
}

/** With the engine itself, whatever the killed one had asked. */
const runDemo = () =>
  runProgram(["run", "--demo"], { tmp, env: toDockerEnv(model, { PILLION_DOCKER_HOST: readEngineHost() }) });

test("S2.13 a killed run's containers and volumes are removed by the next run; another instance's stay", async () => {
  const instance = await killInTheMiddle();
  expect(findAll(instance)).toHaveLength(3);
  const other = `other-${instance}`;
  const labels = [
    `org.pillion.instance=${other}`,
    "org.pillion.run=run_gone",
    "org.pillion.expires=1000000000",
  ];
  const options = labels.flatMap((label) => ["--label", label]);
  const theirs = [
    docker(["create", "--network", "none", ...options, AGENT_IMAGE]),
    docker(["volume", "create", ...options]),
  ];
  try {
    expect(await runDemo()).toMatchObject({ code: 0 });
    expect(findAll(instance)).toEqual([]);
    expect(findAll(other)).toHaveLength(2);
    expect(readHomes()).toEqual([]);
  } finally {
    docker(["rm", "-f", theirs[0] ?? ""]);
    docker(["volume", "rm", "-f", theirs[1] ?? ""]);
  }
}, 90_000);

test("what is left on an engine that is away is removed by a later run; no more than its name is kept until then", async () => {
  const instance = await killInTheMiddle();
  await proxy.goAway();
  expect(await runDemo()).toMatchObject({ code: 0 });
  expect(findAll(instance)).toHaveLength(3);
  const [home = "", ...more] = readHomes();
  expect([readdirSync(join(tmp, home)).sort(), more]).toEqual([["engine", "instance"], []]);
  await proxy.comeBack();
  expect(await runDemo()).toMatchObject({ code: 0 });
  expect([findAll(instance), readHomes()]).toEqual([[], []]);
}, 120_000);

test("a run whose container cannot be removed at its end leaves it to the next run", async () => {
  model.reset({ script: [{ text: "Done." }] });
  proxy.trouble({ kind: "fail", status: 500, message: "it broke" }, "remove");
  const env = toDockerEnv(model, { PILLION_DOCKER_HOST: proxy.host });
  const stdin = JSON.stringify(toScriptedRequest(model));
  expect(await runProgram(["run"], { tmp, env, stdin })).toMatchObject({ code: 0 });
  const instance = readInstanceOf(readHomes()[0] ?? "");
  expect(findAll(instance)).toHaveLength(1);
  proxy.calm();
  expect(await runDemo()).toMatchObject({ code: 0 });
  expect([findAll(instance), readHomes()]).toEqual([[], []]);
}, 90_000);
