// Real runs on a caller's own directory: what may be named, what comes back, and a repository that wants to be executed.
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { RunEvent } from "#contract/event";
import type { ChangedFiles } from "#contract/run";
import { getJson, type LiveService, openLiveService, post, runToEnd } from "../fakes/live-service.ts";
import { openScriptedModel, type ScriptedModel } from "../fakes/scripted-model.ts";
import { toScriptedRequest } from "../fakes/scripted-request.ts";

const isRoot = process.getuid?.() === 0;
const OWNER = { uid: 31_437, gid: 31_438 };

let directory: string;
let root: string;
let model: ScriptedModel;
let service: LiveService;
let gitCalls: string;

beforeAll(async () => {
  directory = realpathSync(mkdtempSync(join(tmpdir(), "pillion-callers-")));
  chmodSync(directory, 0o755);
  root = join(directory, "root");
  mkdirSync(join(root, "with-key"), { recursive: true });
  writeFileSync(join(root, "with-key/token"), "a-token-of-the-operator");
  gitCalls = join(directory, "git-calls");
  model = await openScriptedModel({});
  service = await openLiveService({
    env: {
      PILLION_HOME: join(root, "data"),
      PILLION_OPENAI_API_KEY_FILE: join(root, "with-key/token"),
      PILLION_WORKSPACE_ROOTS: root,
      PILLION_PRIVATE_TARGETS: model.url,
      PILLION_ALLOWED_PROGRAMS: "bash",
      PATH: `${toWatchedGit()}:${process.env.PATH}`,
    },
  });
});
afterAll(async () => {
  await service[Symbol.asyncDispose]();
  await model[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true, force: true });
});

/** First on the service's PATH: a git that tells of every call. */
function toWatchedGit(): string {
  const bin = join(directory, "bin");
  mkdirSync(bin);
  writeFileSync(join(bin, "git"), `#!/bin/sh\necho "$@" >> ${gitCalls}\nexec /usr/bin/git "$@"\n`, {
    mode: 0o755,
  });
  return bin;
}

function toProject(name: string): string {
  const path = join(root, name);
  mkdirSync(path);
  writeFileSync(join(path, "notes.txt"), "one\ntwo\n");
  return path;
}

function give(path: string): void {
  if (isRoot) spawnSync("chown", ["-R", `${OWNER.uid}:${OWNER.gid}`, path]);
}

const EDITING = [
  {
    toolCalls: [
      { name: "edit", arguments: { path: "notes.txt", edits: [{ oldText: "two", newText: "2" }] } },
      { name: "write", arguments: { path: "made/new.txt", content: "new\n" } },
    ],
  },
  { text: "Done." },
];

function toRequest(path: string, fields: object = {}): object {
  return toScriptedRequest(model, { fields: { workspace: { kind: "path", path }, ...fields } });
}

async function getText(path: string): Promise<string> {
  return (await fetch(service.url + path)).text();
}

async function readPaths(runId: string): Promise<string[]> {
  const { files } = await getJson<ChangedFiles>(service, `/v1/runs/${runId}/files`);
  return files.map(({ path, change }) => `${change} ${path}`);
}

test("S3.8 a run on a directory under a root writes there as its owner, and tells what it changed", async () => {
  const path = toProject("project");
  give(path);
  model.reset({ script: EDITING });
  const { run } = await runToEnd(service, toRequest(path));
  expect(run).toMatchObject({ outcome: "succeeded", receipt: { isolated: true, workspace: "read-write" } });
  expect(readFileSync(join(path, "notes.txt"), "utf8")).toBe("one\n2\n");
  const { uid, gid } = statSync(join(path, "made/new.txt"));
  if (isRoot) expect({ uid, gid }).toEqual(OWNER);
  expect(await readPaths(run.id)).toEqual(["added made", "added made/new.txt", "modified notes.txt"]);
  expect(await getText(`/v1/runs/${run.id}/diff`)).toContain("-two\n+2\n");
});

test("a reader's run on it changes nothing", async () => {
  const path = toProject("read");
  give(path);
  model.reset({ script: EDITING });
  const { run } = await runToEnd(service, toRequest(path, { role: "reader" }));
  expect(run).toMatchObject({ outcome: "succeeded", receipt: { workspace: "read-only" } });
  expect(readFileSync(join(path, "notes.txt"), "utf8")).toBe("one\ntwo\n");
  expect(existsSync(join(path, "made"))).toBe(false);
});

describe("what may not be a workspace", () => {
  test.each([
    ["a directory outside the roots", () => tmpdir()],
    ["a link under a root that leads out of it", () => toLink("way-out", tmpdir())],
    ["a path that climbs out of a root", () => `${root}/../..`],
    ["a name that only begins like a root", () => toSibling()],
    ["a directory that is not there", () => join(root, "nowhere")],
    ["a file", () => join(root, "with-key/token")],
    ["the data directory", () => join(root, "data")],
    ["a directory in the data directory", () => join(root, "data/results")],
    ["a directory that the data directory is in", () => root],
    ["a directory with a file of the operator's that holds a key", () => join(root, "with-key")],
  ])("%s is refused, and no run is made", async (_what, toPath) => {
    const before = await getText("/v1/runs");
    const answer = await post(service, "/run", toRequest(toPath()));
    expect(await answer.json()).toMatchObject({
      status: 403,
      code: "forbidden",
      errors: [{ path: "/workspace/path" }],
    });
    expect(await getText("/v1/runs")).toBe(before);
  });

  test.runIf(isRoot)("a directory of root's is refused before anything is started in it", async () => {
    const answer = await post(service, "/run", toRequest(toProject("roots")));
    expect(await answer.json()).toMatchObject({
      outcome: "failed",
      failure: { code: "forbidden", detail: expect.stringContaining("chown user:group") },
    });
  });

  function toLink(name: string, target: string): string {
    symlinkSync(target, join(root, name));
    return join(root, name);
  }

  function toSibling(): string {
    mkdirSync(`${root}-other`);
    return `${root}-other`;
  }
});

/** A repository of which ordinary git commands execute a program of its own choice, which leaves a mark on the machine. */
function toHostileRepository(name: string): { path: string; mark: string } {
  const path = toProject(name);
  const mark = join(directory, `${name}-was-executed`);
  writeFileSync(join(path, ".gitattributes"), "*.txt filter=evil diff=evil\n");
  const git = (...args: string[]): void => {
    const { status, stderr } = spawnSync("/usr/bin/git", ["-C", path, ...args], { encoding: "utf8" });
    if (status !== 0) throw new Error(stderr);
  };
  git("init", "-q");
  git("-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-q", "--allow-empty", "-m", "first");
  git("add", "notes.txt");
  const evil = `touch ${mark}; cat`;
  for (const key of ["filter.evil.clean", "filter.evil.smudge", "diff.evil.textconv", "core.pager"])
    git("config", key, evil);
  git("config", "core.fsmonitor", `touch ${mark}; false`);
  git("config", "diff.external", `touch ${mark}; true`);
  mkdirSync(join(path, ".git/hooks"), { recursive: true });
  for (const hook of ["pre-commit", "post-index-change", "post-checkout"]) {
    writeFileSync(join(path, ".git/hooks", hook), `#!/bin/sh\ntouch ${mark}\n`, { mode: 0o755 });
  }
  return { path, mark };
}

test("S3.14 git works inside, and the machine never runs it on a workspace that wants to be executed", async () => {
  const { path, mark } = toHostileRepository("hostile");
  writeFileSync(join(path, "notes.txt"), "one\n2\n");
  // The control: git on this machine does execute what the repository names.
  spawnSync("/usr/bin/git", ["-C", path, "status"]);
  expect(existsSync(mark)).toBe(true);
  rmSync(mark);
  give(path);
  chmodSync(directory, 0o777);

  const command =
    "git status --short; git log --oneline | wc -l; echo three >> notes.txt; git diff --stat -- notes.txt | cat";
  model.reset({ script: [{ toolCalls: [{ name: "bash", arguments: { command } }] }, { text: "Done." }] });
  const { run, events } = await runToEnd(
    service,
    toRequest(path, { execution: { allowedPrograms: ["bash"] } }),
  );
  expect(run.outcome).toBe("succeeded");
  const said = events.find(
    (event): event is Extract<RunEvent, { type: "tool.result" }> => event.type === "tool.result",
  );
  expect(said).toMatchObject({
    tool: "bash",
    isError: false,
    text: expect.stringMatching(/AM? notes\.txt[\s\S]*\n1\n/),
  });
  expect(await readPaths(run.id)).toContain("modified notes.txt");
  expect(await getText(`/v1/runs/${run.id}/diff`)).toContain("+three\n");
  expect(await getText(`/v1/runs/${run.id}/files/notes.txt`)).toBe("one\n2\nthree\n");
  expect((await fetch(`${service.url}/v1/runs/${run.id}`, { method: "DELETE" })).status).toBe(204);

  expect(existsSync(mark)).toBe(false);
  expect(existsSync(gitCalls)).toBe(false);
  // The control: a git that the service had started would have been seen.
  spawnSync(join(directory, "bin/git"), ["--version"]);
  expect(readFileSync(gitCalls, "utf8")).toBe("--version\n");
});
