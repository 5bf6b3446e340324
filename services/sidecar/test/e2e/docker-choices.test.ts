/** What a request may choose of its container: references, an image of the operator's list, a network of the engine's. */
import { randomUUID } from "node:crypto";
import { chmodSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pack } from "tar-stream";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AGENT_IMAGE, docker, readRuntimes } from "../behaviours/open-places.ts";
import { toDockerEnv } from "../fakes/docker-env.ts";
import { getJson, type LiveService, openLiveService, post, runToEnd } from "../fakes/live-service.ts";
import { openScriptedModel, type ScriptedModel } from "../fakes/scripted-model.ts";
import { toScriptedRequest } from "../fakes/scripted-request.ts";
import { toResults } from "../fakes/tool-results.ts";

const NAME = `pillion-test-${randomUUID().slice(0, 8)}`;
let model: ScriptedModel;
let service: LiveService;
let directory: string;
let image: string;

/** An image of one file: no C library, no shell, nothing. */
async function importImage(): Promise<string> {
  const archive = pack();
  archive.entry({ name: "etc/marker", mode: 0o644 }, "an image of another's\n");
  // What lies at our product's place in an image of another's must never be used.
  archive.entry({ name: "opt/pillion/harnesses.json", mode: 0o644 }, '{"pi":"another"}');
  archive.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of Readable.from(archive)) chunks.push(chunk);
  const file = join(directory, "image.tar");
  writeFileSync(file, Buffer.concat(chunks));
  const change = [
    "--change",
    "ENV NODE_OPTIONS=--require=/nowhere.js LD_PRELOAD=/nowhere.so",
    "--change",
    "EXPOSE 80",
  ];
  return docker(["import", ...change, file, `${NAME}:latest`]);
}

beforeAll(async () => {
  directory = realpathSync(mkdtempSync(join(tmpdir(), "pillion-choices-")));
  chmodSync(directory, 0o755);
  writeFileSync(join(directory, "spec.txt"), "the spec\n");
  image = await importImage();
  docker(["network", "create", NAME]);
  model = await openScriptedModel({});
  service = await openLiveService({
    env: toDockerEnv(model, {
      PILLION_REFERENCE_ROOTS: directory,
      PILLION_ALLOWED_IMAGES: `${image},example.com/absent@sha256:${"0".repeat(64)}`,
      PILLION_OPEN_NETWORK: NAME,
      PILLION_BROWSER_IMAGES: "example.com/none:browser",
    }),
  });
});
afterAll(async () => {
  await service[Symbol.asyncDispose]();
  await model[Symbol.asyncDispose]();
  docker(["network", "rm", NAME]);
  docker(["image", "rm", "-f", image]);
  rmSync(directory, { recursive: true, force: true });
});

const runWith = (fields: object) => runToEnd(service, toScriptedRequest(model, { fields }));
const refusalOf = async (fields: object) =>
  (await post(service, "/run", toScriptedRequest(model, { fields }))).json();
const shell = (command: string) => [
  { toolCalls: [{ name: "bash", arguments: { command } }] },
  { text: "Done." },
];
const withShell = { execution: { allowedPrograms: ["bash"] } };

describe("references of a run", () => {
  test("S3.5 are told to the model, read at /refs, and never written", async () => {
    model.reset({ script: shell("cat /refs/notes.md /refs/spec/spec.txt; echo x > /refs/notes.md") });
    const references = [
      { name: "notes.md", content: "dGhlIG5vdGVzCg==", encoding: "base64" },
      { name: "spec", path: directory },
    ];
    const { run, events } = await runWith({ ...withShell, references });
    expect(toResults(events)).toEqual([
      {
        tool: "bash",
        isError: true,
        text: expect.stringMatching(/^the notes\nthe spec\n.*Read-only file system/s),
      },
    ]);
    expect(run).toMatchObject({
      outcome: "succeeded",
      receipt: { kind: "docker", references: ["/refs/notes.md", "/refs/spec"] },
    });
    expect(JSON.stringify(model.requests[0])).toContain("- /refs/notes.md\\n- /refs/spec");
    expect(docker(["volume", "ls", "-q", "--filter", `label=org.pillion.run=${run.id}`])).toBe("");
  });

  test.each([
    ["outside the operator's roots", { name: "etc", path: "/etc" }, "forbidden", "/references/0/path"],
    ["that are a file", { name: "a", path: "SPEC" }, "invalid_request", "/references/0/path"],
    ["without either", { name: "a" }, "invalid_request", "/references/0"],
    ["with both", { name: "a", path: "/etc", content: "" }, "invalid_request", "/references/0"],
    ["with a path as name", { name: "../etc", content: "" }, "invalid_request", "/references/0/name"],
  ])("%s are refused by field", async (_what, reference, code, path) => {
    const own =
      "path" in reference ? { path: reference.path.replace("SPEC", join(directory, "spec.txt")) } : {};
    expect(await refusalOf({ references: [{ ...reference, ...own }] })).toMatchObject({
      code,
      errors: [{ path }],
    });
  });

  test("of one name are refused", async () => {
    const twice = [
      { name: "a", content: "1" },
      { name: "a", content: "2" },
    ];
    expect(await refusalOf({ references: twice })).toMatchObject({ errors: [{ path: "/references" }] });
  });
});

describe("an image of another's", () => {
  test("S3.9 that the operator allows by digest runs, though it holds not even a C library", async () => {
    model.reset({
      script: [
        {
          toolCalls: [
            { name: "read", arguments: { path: "/etc/marker" } },
            { name: "write", arguments: { path: "made.txt", content: "made\n" } },
          ],
        },
        { text: "Done." },
      ],
    });
    const { run, events } = await runWith({ sandbox: { kind: "docker", image } });
    expect(toResults(events)).toContainEqual({
      tool: "read",
      isError: false,
      text: "an image of another's\n",
    });
    expect(run).toMatchObject({
      outcome: "succeeded",
      receipt: { isolated: true, limits: { image }, readOnlySystem: true },
      harness: {
        id: "pi",
        sha256: (await getJson<{ harnesses: { sha256: string }[] }>(service, "/v1/harnesses")).harnesses[0]
          ?.sha256,
      },
    });
    expect(await (await fetch(`${service.url}/v1/runs/${run.id}/files/made.txt`)).text()).toBe("made\n");
  });

  test("S3.9 runs on, with our product, when the product's volume was removed behind the service's back", async () => {
    await using own = await openLiveService({ env: toDockerEnv(model, { PILLION_ALLOWED_IMAGES: image }) });
    const instance = readFileSync(join(own.home, "instance"), "utf8");
    const list = () => docker(["volume", "ls", "-q", "--filter", `label=org.pillion.product=${instance}`]);
    const request = toScriptedRequest(model, { fields: { sandbox: { kind: "docker", image } } });
    const found: string[] = [];
    for (const _ of ["first", "second"]) {
      model.reset({ script: [{ text: "Here." }] });
      expect((await runToEnd(own, request)).run).toMatchObject({ outcome: "succeeded" });
      found.push(list());
      docker(["volume", "rm", list()]);
    }
    expect(new Set(found).size).toBe(2);
  });

  test("leaves no volume when the service has ended", async () => {
    const own = await openLiveService({
      env: toDockerEnv(model, { PILLION_ALLOWED_IMAGES: image }),
    });
    const instance = readFileSync(join(own.home, "instance"), "utf8");
    const list = () => docker(["volume", "ls", "-q", "--filter", `label=org.pillion.product=${instance}`]);
    model.reset({ script: [{ text: "Here." }] });
    await runToEnd(own, toScriptedRequest(model, { fields: { sandbox: { kind: "docker", image } } }));
    expect(list()).toMatch(/^pillion-\w+-product-\w+$/);
    await own[Symbol.asyncDispose]();
    expect(list()).toBe("");
  });

  test.each([
    ["by a digest that is not allowed", `sha256:${"1".repeat(64)}`, "forbidden"],
    ["by its name alone", `${NAME}:latest`, "invalid_request"],
    ["that is allowed and not there", `example.com/absent@sha256:${"0".repeat(64)}`, "image_missing"],
  ])("%s is refused", async (_how, wanted, code) => {
    const answer = await refusalOf({ sandbox: { kind: "docker", image: wanted } });
    expect(answer).toMatchObject({ code });
  });
});

describe("a network of the engine's", () => {
  /** Another container on the network, which answers everybody who can reach it. */
  const script = `require("node:http").createServer((_, answer) => answer.end("reached")).listen(8080, () => console.log("up"))`;
  const reach = `node -e 'fetch("http://${NAME}-peer:8080/").then((a) => a.text()).then(console.log, (e) => console.log(e.cause.code))'`;
  beforeAll(() => {
    docker([
      "run",
      "-d",
      "--name",
      `${NAME}-peer`,
      "--network",
      NAME,
      "--entrypoint",
      "node",
      AGENT_IMAGE,
      "-e",
      script,
    ]);
  });
  afterAll(() => void docker(["rm", "-f", `${NAME}-peer`]));

  test("S3.15 is there where the operator named one and the run asks, and the receipt tells", async () => {
    model.reset({ script: shell(reach) });
    const { run, events } = await runWith({ ...withShell, sandbox: { kind: "docker", network: "open" } });
    expect(toResults(events)).toMatchObject([{ text: "reached\n" }]);
    expect(run.receipt).toMatchObject({
      requested: { network: "open" },
      network: "open",
      egressEnforced: false,
      missing: expect.arrayContaining([expect.stringContaining("egress is not enforced")]),
    });
  });

  test("S3.15 can be had by an image that exposes a port, and none is published", async () => {
    model.reset({ script: [{ text: "Here." }] });
    const { run } = await runWith({ sandbox: { kind: "docker", image, network: "open" } });
    expect(run).toMatchObject({ outcome: "succeeded", receipt: { network: "open" } });
  });

  test("S3.15 S3.4 is not there for a run that does not ask", async () => {
    model.reset({ script: shell(`NODE_USE_ENV_PROXY=0 ${reach}`) }); // past the proxy that the door is
    const { run, events } = await runWith(withShell);
    expect(toResults(events)).toMatchObject([{ text: expect.stringMatching(/^(EAI_AGAIN|ENOTFOUND)\n$/) }]);
    expect(run.receipt).toMatchObject({ network: "none", egressEnforced: true });
  });

  test("S3.15 is refused where the operator named none, and in a local sandbox", async () => {
    await using closed = await openLiveService({
      env: { PILLION_SANDBOX: "local", PILLION_PRIVATE_TARGETS: model.url },
    });
    const request = toScriptedRequest(model, { fields: { sandbox: { network: "open" } } });
    expect(await (await post(closed, "/run", request)).json()).toMatchObject({
      code: "invalid_request",
      errors: [{ path: "/sandbox/network" }],
    });
    await using without = await openLiveService({ env: toDockerEnv(model) });
    expect(await (await post(without, "/run", request)).json()).toMatchObject({
      code: "forbidden",
      errors: [{ path: "/sandbox/network" }],
    });
    expect(await getJson(without, "/v1/capabilities")).toMatchObject({ networkModes: ["none"] });
    expect(await getJson(service, "/v1/capabilities")).toMatchObject({ networkModes: ["none", "open"] });
  });
});

test("what a setting weakens is told when the service starts, and nothing where none does", async () => {
  const toWarnings = ({ logs }: LiveService): string[] =>
    logs()
      .split("\n")
      .filter((line) => line.startsWith("{"))
      .map((line): { level: string; msg: string } => JSON.parse(line))
      .filter(({ level }) => level === "warn")
      .map(({ msg }) => msg);
  const weak = toWarnings(service).map((text) => text.split(":")[0]);
  expect(weak).toEqual(expect.arrayContaining(["PILLION_OPEN_NETWORK", "PILLION_BROWSER_IMAGES"]));
  await using strict = await openLiveService({ env: toDockerEnv(model) });
  const strictly = toWarnings(strict).map((text) => text.split(":")[0]);
  expect(strictly).not.toContain("PILLION_OPEN_NETWORK");
  expect(strictly).not.toContain("PILLION_BROWSER_IMAGES");
});

describe.runIf(readRuntimes().includes("runsc"))("under runsc", () => {
  test("a whole run works, shell and all, and says that the machine's kernel is not its own", async () => {
    await using guarded = await openLiveService({ env: toDockerEnv(model, { PILLION_RUNTIME: "runsc" }) });
    model.reset({ script: shell("git init -q . && git status --short | wc -l; cat /proc/version") });
    const { run, events } = await runToEnd(guarded, toScriptedRequest(model, { fields: withShell }));
    expect(toResults(events)).toMatchObject([
      { isError: false, text: expect.stringMatching(/^0\nLinux version 4\.4/) },
    ]);
    expect(run).toMatchObject({
      outcome: "succeeded",
      stop: { verified: true },
      receipt: { limits: { runtime: "runsc" }, network: "none" },
    });
  });
});

describe("a mistake in the operator's settings is told by the setting's name", () => {
  test.each([
    ["an image that is not the agent's", { PILLION_IMAGE: "debian:bookworm-slim" }, {}, /PILLION_IMAGE/],
    [
      "a network that is not there",
      { PILLION_OPEN_NETWORK: "no-such-network" },
      { sandbox: { kind: "docker", network: "open" } },
      /PILLION_OPEN_NETWORK/,
    ],
  ])("%s", async (_what, env, fields, detail) => {
    await using wrong = await openLiveService({ env: toDockerEnv(model, env) });
    model.reset({ script: [{ text: "Here." }] });
    const { run } = await runToEnd(wrong, toScriptedRequest(model, { fields }));
    expect(run.outcome).toBe("failed");
    expect(run.failure?.detail).toMatch(detail);
  });
});
