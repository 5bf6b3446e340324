/** A whole piece of work on a published package: a test that fails, the change, the same test that passes. */
import { expect, test } from "vitest";
import { LOCAL_PATHS } from "../../src/sandboxes/local/local-places.ts";
import { getJson, openLiveService, runToEnd } from "../fakes/live-service.ts";
import { readPublishedPackage } from "../fakes/published-package.ts";
import { openScriptedModel, type Turn } from "../fakes/scripted-model.ts";
import { toScriptedRequest } from "../fakes/scripted-request.ts";
import { toResults } from "../fakes/tool-results.ts";

const SOURCE = "dist/node/index.cjs";
const CHECK = "test/is-from-future.cjs";

/** Asks for the package by its own name, as its users do. */
const CHECKS = `const { isFromFuture, ulid } = require("ulid");
const assert = require("node:assert/strict");
assert.equal(isFromFuture(ulid(2000), 1000), true);
assert.equal(isFromFuture(ulid(1000), 1000), false);
assert.equal(isFromFuture(ulid(), Date.now() + 60_000), false);
assert.throws(() => isFromFuture("no id"), { code: "DEC_TIME_MALFORMED" });
console.log(\`4 checks passed with Node \${process.versions.node} in \${process.cwd()}\`);
`;

const NEXT_LINE = "exports.incrementBase32 = incrementBase32;";
const NEW_LINE = "exports.isFromFuture = (id, now = Date.now()) => decodeTime(id) > now;";

const DIFF = `diff --git a/${SOURCE} b/${SOURCE}
--- a/${SOURCE}
+++ b/${SOURCE}
@@ -331,6 +331,7 @@
 exports.decodeTime = decodeTime;
 exports.encodeTime = encodeTime;
 exports.fixULIDBase32 = fixULIDBase32;
+${NEW_LINE}
 ${NEXT_LINE}
 exports.isValid = isValid;
 exports.monotonicFactory = monotonicFactory;
diff --git a/${CHECK} b/${CHECK}
new file mode 100644
--- /dev/null
+++ b/${CHECK}
@@ -0,0 +1,7 @@
${CHECKS.replaceAll(/^(?=.)/gm, "+")}`;

const run: Turn = {
  toolCalls: [{ name: "bash", arguments: { command: `${LOCAL_PATHS.node} ${CHECK}` } }],
};

const WORK: Turn[] = [
  { toolCalls: [{ name: "write", arguments: { path: CHECK, content: CHECKS } }] },
  run,
  { toolCalls: [{ name: "read", arguments: { path: SOURCE } }] },
  {
    toolCalls: [
      {
        name: "edit",
        arguments: {
          path: SOURCE,
          edits: [{ oldText: NEXT_LINE, newText: `${NEW_LINE}\n${NEXT_LINE}` }],
        },
      },
    ],
  },
  run,
  { text: "The package tells ids from the future, and its checks pass." },
];

test("S1.9 Pi reads a published package, edits it and tests it: the same check fails before and passes after", async () => {
  await using model = await openScriptedModel({ script: WORK });
  await using service = await openLiveService({
    env: {
      PILLION_SANDBOX: "local",
      PILLION_PRIVATE_TARGETS: model.url,
      PILLION_ALLOWED_PROGRAMS: "bash",
    },
  });
  const files = await readPublishedPackage();
  const fields = { workspace: { kind: "files", files }, execution: { allowedPrograms: ["bash"] } };
  const ended = await runToEnd(service, toScriptedRequest(model, { fields }));
  expect(toResults(ended.events)).toEqual([
    { tool: "write", isError: false, text: `Successfully wrote to ${CHECK}` },
    {
      tool: "bash",
      isError: true,
      text: expect.stringContaining("TypeError: isFromFuture is not a function"),
    },
    { tool: "read", isError: false, text: files.find(({ path }) => path === SOURCE)?.content },
    { tool: "edit", isError: false, text: `Successfully replaced 1 block(s) in ${SOURCE}.` },
    {
      tool: "bash",
      isError: false,
      text: `4 checks passed with Node ${process.versions.node} in /workspace\n`,
    },
  ]);
  expect(ended.run).toMatchObject({
    outcome: "succeeded",
    output: "The package tells ids from the future, and its checks pass.",
  });
  const changed = { kind: "file", executable: false, sha256: expect.stringMatching(/^[0-9a-f]{64}$/) };
  const { length } = files.find(({ path }) => path === SOURCE)?.content ?? "";
  expect(await getJson(service, `/v1/runs/${ended.run.id}/files`)).toEqual({
    runId: ended.run.id,
    files: [
      { ...changed, path: SOURCE, change: "modified", size: length + `${NEW_LINE}\n`.length },
      { path: "test", change: "added", kind: "directory", size: expect.any(Number), executable: false },
      { ...changed, path: CHECK, change: "added", size: CHECKS.length },
    ],
    truncated: false,
  });
  expect(await (await fetch(`${service.url}/v1/runs/${ended.run.id}/diff`)).text()).toBe(DIFF);
});
