// What every harness must do, on real Pi in a real sandbox and on the fake; then what only Pi's extension can break.
import { chmodSync, cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import type { EventBody } from "#contract/event";
import type { Harness, HarnessClaim, PromptEnd, StartedHarness } from "../../src/harnesses/harness.ts";
import { PiHarness } from "../../src/harnesses/pi/pi-harness.ts";
import { Fault } from "../../src/kernel/fault.ts";
import { killProcess, readChildPids } from "../../src/kernel/process-table.ts";
import type { Sandbox } from "../../src/sandboxes/sandbox.ts";
import { FakeHarness, type FakeModel } from "../fakes/fake-harness.ts";
import { FakeSandbox } from "../fakes/fake-sandbox.ts";
import { findGuard, LOCAL, PRODUCT_DIR } from "./open-places.ts";

const TEXT = "Good day.";
const GRACEFUL = { method: "graceful", exit: { code: 0, signal: null, oom: false } };

type Opened = AsyncDisposable & {
  readonly started: StartedHarness;
  readonly sandbox: Sandbox;
  /** How many connections reached the door. */
  readonly calls: () => number;
  /** Kills the harness's process from outside. */
  readonly die: () => Promise<void>;
};

type Wishes = { readonly model?: FakeModel; readonly productDir?: string };

const MAKERS: readonly { name: string; open(wishes?: Wishes): Promise<Opened> }[] = [
  {
    name: "the fake",
    async open({ model } = {}) {
      const sandbox = new FakeSandbox();
      const started = await new FakeHarness(TEXT, model).start();
      const die = async () => started.die();
      return { started, sandbox, calls: () => 0, die, [Symbol.asyncDispose]: () => sandbox.close() };
    },
  },
  { name: "Pi", open: openPi },
];

async function openPi({ model: kind = "answers", productDir = PRODUCT_DIR }: Wishes = {}): Promise<Opened> {
  let calls = 0;
  const model = openModel(kind);
  const opened = await LOCAL.open({
    productDir,
    acceptDoor: (connection) => {
      calls += 1;
      model.emit("connection", connection);
    },
  });
  await opened.sandbox.seal();
  const harness: Harness = new PiHarness(productDir);
  const started = await harness.start(opened.sandbox, {
    tools: ["read"],
    env: {},
    signal: AbortSignal.timeout(20_000),
  });
  return {
    started,
    sandbox: opened.sandbox,
    calls: () => calls,
    async die() {
      const guard = await findGuard(opened.token);
      const [pi] = guard === undefined ? [] : await readChildPids(guard.pid);
      if (pi === undefined || !killProcess(pi, "SIGKILL")) throw new Error("there is no Pi to kill");
    },
    [Symbol.asyncDispose]: () => opened[Symbol.asyncDispose](),
  };
}

/** Speaks chat completions on connections that are handed to it; it has no port. */
function openModel(kind: FakeModel): Server {
  return createServer((request, response) => {
    request.resume().once("end", () => {
      if (kind === "fails") {
        response.writeHead(401, { "content-type": "application/json" });
        return response.end(JSON.stringify({ error: { message: "Incorrect API key provided." } }));
      }
      const chunk = (delta: object, finish: string | null) =>
        `data: ${JSON.stringify({ id: "c", object: "chat.completion.chunk", model: "m", choices: [{ index: 0, delta, finish_reason: finish }] })}\n\n`;
      response.writeHead(200, { "content-type": "text/event-stream" });
      if (kind === "hangs") return response.flushHeaders();
      return response.end(
        `${chunk({ role: "assistant", content: TEXT }, null)}${chunk({}, "stop")}data: [DONE]\n\n`,
      );
    });
  });
}

function toClaim(sandbox: Sandbox): HarnessClaim {
  return {
    model: {
      provider: "acme",
      name: "m",
      api: "openai-completions",
      reasoning: false,
      contextWindow: 128_000,
      maxTokens: 1_000,
      price: null,
    },
    baseUrl: `http://127.0.0.1:${sandbox.doorPort}/model`,
    placeholder: "pillion_placeholder",
    tools: ["read"],
    instructions: "",
    skills: [],
    thinking: "off",
  };
}

async function runToEnd(events: AsyncGenerator<EventBody, PromptEnd, void>) {
  const seen: EventBody[] = [];
  for (;;) {
    const next = await events.next();
    if (next.done) return { seen, end: next.value };
    seen.push(next.value);
  }
}

for (const { name, open } of MAKERS) {
  test(`${name}: claimed and prompted, it tells what it is told and how it ended`, async () => {
    await using opened = await open();
    const harness = await opened.started.claim(toClaim(opened.sandbox));
    const { seen, end } = await runToEnd(harness.prompt("Hello"));
    expect(end).toEqual({ output: TEXT, stopReason: "stop", failure: null });
    expect(seen.filter(({ type }) => type === "message")).toEqual([
      { type: "message", role: "user", text: "Hello" },
      { type: "message", role: "assistant", text: TEXT },
    ]);
    await opened.started.stop();
  });

  test(`${name}: a second claim is refused`, async () => {
    await using opened = await open();
    await opened.started.claim(toClaim(opened.sandbox));
    await expect(opened.started.claim(toClaim(opened.sandbox))).rejects.toMatchObject({ code: "internal" });
    await opened.started.stop();
  });

  test(`${name}: stopping is idempotent, and a stopped harness answers no prompt`, async () => {
    await using opened = await open();
    const harness = await opened.started.claim(toClaim(opened.sandbox));
    const first = await opened.started.stop();
    expect(first).toEqual(GRACEFUL);
    expect(await opened.started.stop()).toEqual(first);
    await expect(runToEnd(harness.prompt("Hello"))).rejects.toMatchObject({ code: "harness_crashed" });
  });

  test(`${name}: a model that fails ends the prompt with its failure, and the harness lives on`, async () => {
    await using opened = await open({ model: "fails" });
    const harness = await opened.started.claim(toClaim(opened.sandbox));
    const { seen, end } = await runToEnd(harness.prompt("Hello"));
    expect(end).toEqual({ output: null, stopReason: "error", failure: expect.any(Fault) });
    expect(end.failure).toMatchObject({
      code: "model_refused",
      message: expect.stringContaining("The model call failed (HTTP 401)"),
      retryable: false,
    });
    expect(seen.filter(({ type }) => type === "message")).toEqual([
      { type: "message", role: "user", text: "Hello" },
    ]);
    expect(await opened.started.stop()).toEqual(GRACEFUL);
  });

  test(`${name}: a process that dies during a prompt ends it as harness_crashed, and its exit is told`, async () => {
    await using opened = await open({ model: "hangs" });
    const harness = await opened.started.claim(toClaim(opened.sandbox));
    const events = harness.prompt("Hello");
    expect(await events.next()).toMatchObject({ value: { type: "message", role: "user" } });
    const end = runToEnd(events);
    end.catch(() => undefined); // looked at below
    await opened.die();
    await expect(end).rejects.toMatchObject({ code: "harness_crashed" });
    expect(await opened.started.stop()).toEqual({
      method: "killed", // it did not end because it was asked to
      exit: { code: null, signal: "SIGKILL", oom: false },
    });
    await expect(runToEnd(harness.prompt("Again"))).rejects.toMatchObject({ code: "harness_crashed" });
  });

  test(`${name}: a stop during a prompt ends the prompt, and tells how`, async () => {
    await using opened = await open({ model: "hangs" });
    const harness = await opened.started.claim(toClaim(opened.sandbox));
    const events = harness.prompt("Hello");
    expect(await events.next()).toMatchObject({ value: { type: "message", role: "user" } });
    const end = runToEnd(events);
    end.catch(() => undefined); // looked at below
    expect(await opened.started.stop()).toEqual(GRACEFUL);
    await expect(end).rejects.toMatchObject({ code: "harness_crashed" });
  });
}

/** A copy of the product whose extension is the given text. */
function copyProduct(extension: string): string {
  const copy = mkdtempSync(join(tmpdir(), "pillion-product-"));
  onTestFinished(() => rmSync(copy, { recursive: true, force: true }));
  cpSync(PRODUCT_DIR, copy, { recursive: true });
  rmSync(join(copy, "extension/jiti-seed.json"));
  writeFileSync(join(copy, "extension/pillion.js"), extension);
  chmodSync(copy, 0o755);
  return copy;
}

test("S1.8: a sandbox that holds another extension than the service's is refused before Pi is started", async () => {
  await using opened = await LOCAL.open({ productDir: copyProduct("export default function () {}\n") });
  await opened.sandbox.seal();
  const options = { tools: ["read"] as const, env: {}, signal: AbortSignal.timeout(20_000) };
  const starting = new PiHarness(PRODUCT_DIR).start(opened.sandbox, options);
  await expect(starting).rejects.toMatchObject({ code: "harness_unavailable" });
});

test("S1.8: an extension that does nothing is noticed before anything is said to Pi, and no model is called", async () => {
  await using opened = await openPi({ productDir: copyProduct("export default function () {}\n") });
  await expect(opened.started.claim(toClaim(opened.sandbox))).rejects.toMatchObject({
    code: "extension_missing",
  });
  expect(opened.calls()).toBe(0);
});

test("S1.8: an extension that cannot be loaded ends Pi at its start, and no model is called", async () => {
  await using opened = await openPi({ productDir: copyProduct("throw new Error('broken')\n") });
  await expect(opened.started.claim(toClaim(opened.sandbox))).rejects.toMatchObject({
    code: "harness_not_started",
  });
  expect(opened.calls()).toBe(0);
});
