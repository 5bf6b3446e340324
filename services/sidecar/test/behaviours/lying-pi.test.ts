// A program in Pi's place that keeps to the protocol until it matters: each lie has its name, and none is believed.
import { chmodSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, onTestFinished, test } from "vitest";
import type { HarnessClaim, StartedHarness } from "../../src/harnesses/harness.ts";
import { type PiDeadlines, PiHarness } from "../../src/harnesses/pi/pi-harness.ts";
import type { Sandbox } from "../../src/sandboxes/sandbox.ts";
import { LOCAL, PRODUCT_DIR } from "./open-places.ts";

const PACKAGE = "pi/node_modules/@earendil-works/pi-coding-agent";
const CLI = `${PACKAGE}/dist/bundle/cli.js`;
const PROGRAM = readFileSync(join(import.meta.dirname, "../fixtures/lying-pi.js"), "utf8");

type Opened = AsyncDisposable & { readonly started: StartedHarness; readonly sandbox: Sandbox };

/** `lie` is the text of a function that runs inside the sandbox. */
async function openLyingPi(lie: string, deadlines?: PiDeadlines): Promise<Opened> {
  const productDir = mkdtempSync(join(tmpdir(), "pillion-product-"));
  onTestFinished(() => rmSync(productDir, { recursive: true, force: true }));
  for (const part of ["guard", "extension", "harnesses.json", `${PACKAGE}/package.json`]) {
    cpSync(join(PRODUCT_DIR, part), join(productDir, part), { recursive: true });
  }
  mkdirSync(dirname(join(productDir, CLI)), { recursive: true });
  writeFileSync(join(productDir, CLI), PROGRAM.replace("/* LIE */ () => ({})", lie));
  chmodSync(productDir, 0o755);
  const opened = await LOCAL.open({ productDir });
  await opened.sandbox.seal();
  const options = { tools: ["read"] as const, env: {}, signal: AbortSignal.timeout(20_000) };
  const started = await new PiHarness(productDir, 0, deadlines).start(opened.sandbox, options);
  return { started, sandbox: opened.sandbox, [Symbol.asyncDispose]: () => opened[Symbol.asyncDispose]() };
}

const CLAIM: HarnessClaim = {
  model: {
    provider: "acme",
    name: "m",
    api: "openai-completions",
    reasoning: false,
    contextWindow: 128_000,
    maxTokens: 1_000,
    price: null,
  },
  baseUrl: "http://127.0.0.1:9/model",
  placeholder: "pillion_placeholder",
  tools: ["read"],
  instructions: "",
  skills: [],
  thinking: "off",
};

/** How the run of a lying Pi ends: the failure's code and words. */
async function runOn(lie: string): Promise<{ code: string; detail: string } | null> {
  await using opened = await openLyingPi(lie);
  try {
    const events = (await opened.started.claim(CLAIM)).prompt("Hello");
    for (let next = await events.next(); ; next = await events.next()) {
      if (!next.done) continue;
      const { failure } = next.value;
      return failure === null ? null : { code: failure.code, detail: failure.message };
    }
  } catch (error) {
    if (!(error instanceof Error && "code" in error)) throw error;
    return { code: String(error.code), detail: error.message };
  }
}

const ANSWER = `say({ type: "message_end", message: { role: "assistant", content: [{ type: "text", text: "Hi" }], stopReason: "stop" } })`;
const onPrompt = (work: string) => `({ say, settle }) => ({ prompt() { ${work} } })`;

test("a program that speaks the protocol to its end is believed (control)", async () => {
  expect(await runOn(onPrompt(`${ANSWER}; settle();`))).toBeNull();
});

test.each([
  [
    "takes another model than the claimed one",
    `() => ({ model: (model) => ({ ...model, id: "dearer" }) })`,
    "harness_protocol",
  ],
  [
    "has the model at another address",
    `() => ({ model: (model) => ({ ...model, baseUrl: "https://a.example" }) })`,
    "harness_protocol",
  ],
  ["proves nothing", "() => ({ commands: () => [] })", "extension_missing"],
  [
    "proves another claim",
    `({ command }) => ({ commands: () => [command("pillion-other")] })`,
    "extension_missing",
  ],
  [
    "proves it with another file",
    `({ command }) => ({ commands: (nonce) => [command("pillion-" + nonce, "/tmp/own.js")] })`,
    "extension_missing",
  ],
  ["settles without an answer", onPrompt("settle();"), "harness_protocol"],
  ["writes what is no record", onPrompt(`process.stdout.write("Hello!\\n");`), "harness_protocol"],
  [
    "writes a known record of another shape",
    onPrompt(`say({ type: "message_end", message: "Hi" });`),
    "harness_protocol",
  ],
  [
    "writes a line without end",
    onPrompt(`process.stdout.write("x".repeat(33 * 1024 * 1024));`),
    "harness_protocol",
  ],
  [
    "tells that a handler of the policy threw",
    onPrompt(`say({ type: "extension_error", event: "tool_call", error: "boom" });`),
    "harness_protocol",
  ],
  [
    "reports usage that is no report",
    onPrompt(
      `say({ type: "extension_ui_request", method: "setStatus", statusKey: "pillion-usage", statusText: "nonsense" });`,
    ),
    "harness_protocol",
  ],
  ["closes its output", onPrompt(`process.getBuiltinModule("node:fs").closeSync(1);`), "harness_crashed"],
  ["ends in the middle", onPrompt("process.exit(3);"), "harness_crashed"],
  ["is killed in the middle", onPrompt(`process.kill(process.pid, "SIGKILL");`), "harness_crashed"],
])("a program that %s is not believed", async (_what, lie, code) => {
  expect(await runOn(lie)).toMatchObject({ code });
});

test("a program that floods waits for its reader, and is stopped in good order all the same", async () => {
  await using opened = await openLyingPi(
    onPrompt(`
      const record = { type: "message_update", assistantMessageEvent: { type: "text_delta", delta: "x".repeat(1024 * 1024) } };
      let sent = 0;
      const more = () => {
        process.getBuiltinModule("node:fs").writeFileSync("sent", String(sent));
        if (sent++ < 400) process.stdout.write(JSON.stringify(record) + "\\n", more);
      };
      more();`),
  );
  const events = (await opened.started.claim(CLAIM)).prompt("Hello");
  expect((await events.next()).value).toMatchObject({ type: "message.delta" });
  await sleep(1_500);
  const sent = Number(await text(await opened.sandbox.openFile("sent")));
  expect(sent).toBeGreaterThan(20); // the probe does fill what it may
  expect(sent).toBeLessThan(60);
  expect(await opened.started.stop()).toMatchObject({ method: "graceful" });
});

const NEVER_MS = 60_000; // longer than a test may take
const DEAF = `process.on("SIGTERM", () => undefined); for (;;);`;

test.each([
  ["answers nothing at all", "() => ({ ignores: () => true })", "graceful", { code: 0, signal: null }],
  ["never comes to answer", "() => { for (;;); }", "graceful", { code: null, signal: "SIGTERM" }],
  ["is deaf to a SIGTERM too", `() => { ${DEAF} }`, "killed", { code: null, signal: "SIGKILL" }],
])("a program that %s has not started in time, and can be stopped", async (_what, lie, method, exit) => {
  await using opened = await openLyingPi(lie, { startMs: 500, claimMs: NEVER_MS });
  await expect(opened.started.claim(CLAIM)).rejects.toMatchObject({
    code: "harness_not_started",
    message: "Pi did not start in time.",
  });
  expect(await opened.started.stop()).toEqual({ method, exit: { ...exit, oom: false } });
  expect(await opened.sandbox.clear()).toBe(0);
});

test.each([
  ["is silent before the claim", `({ type }) => type === "get_commands"`],
  ["never answers the claim", `({ type }) => type === "prompt"`],
  ["takes the claim and never proves it", `claimed("get_commands")`],
  ["proves the claim and never tells its model", `({ type }) => type === "get_state"`],
])("a program that %s breaks the protocol in time, and can be stopped", async (_what, ignores) => {
  const claimed = `const claimed = (wanted) => {
    let isClaimed = false;
    return ({ type }) => { isClaimed ||= type === "prompt"; return isClaimed && type === wanted; };
  };`;
  const lie = `() => { ${claimed} return { ignores: ${ignores} }; }`;
  await using opened = await openLyingPi(lie, { startMs: NEVER_MS, claimMs: 500 });
  await expect(opened.started.claim(CLAIM)).rejects.toMatchObject({
    code: "harness_protocol",
    message: "Pi did not take the claim in time.",
  });
  expect(await opened.started.stop()).toEqual({
    method: "graceful",
    exit: { code: 0, signal: null, oom: false },
  });
});
