// What every harness must do, on real Pi in a real sandbox and on the fake; then what only Pi's extension can break.
import { chmodSync, cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import type { EventBody } from "#contract/event";
import type { Harness, HarnessClaim, PromptEnd, StartedHarness } from "../../src/harnesses/harness.ts";
import { PiHarness } from "../../src/harnesses/pi/pi-harness.ts";
import type { Sandbox } from "../../src/sandboxes/sandbox.ts";
import { FakeHarness } from "../fakes/fake-harness.ts";
import { FakeSandbox } from "../fakes/fake-sandbox.ts";
import { LOCAL, PRODUCT_DIR } from "./open-places.ts";

const TEXT = "Good day.";

type Opened = AsyncDisposable & {
  readonly started: StartedHarness;
  readonly sandbox: Sandbox;
  /** How many connections reached the door. */
  readonly calls: () => number;
};

const MAKERS: readonly { name: string; open(productDir?: string): Promise<Opened> }[] = [
  {
    name: "the fake",
    async open() {
      const sandbox = new FakeSandbox();
      const started = await new FakeHarness(TEXT).start();
      return { started, sandbox, calls: () => 0, [Symbol.asyncDispose]: () => sandbox.close() };
    },
  },
  { name: "Pi", open: openPi },
];

async function openPi(productDir = PRODUCT_DIR): Promise<Opened> {
  let calls = 0;
  const model = openModel();
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
    signal: AbortSignal.timeout(20_000),
  });
  return {
    started,
    sandbox: opened.sandbox,
    calls: () => calls,
    [Symbol.asyncDispose]: () => opened[Symbol.asyncDispose](),
  };
}

/** Speaks chat completions on connections that are handed to it; it has no port. */
function openModel(): Server {
  return createServer((request, response) => {
    request.resume().once("end", () => {
      const chunk = (delta: object, finish: string | null) =>
        `data: ${JSON.stringify({ id: "c", object: "chat.completion.chunk", model: "m", choices: [{ index: 0, delta, finish_reason: finish }] })}\n\n`;
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.end(
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
    expect(first).toEqual({ method: "graceful", exit: { code: 0, signal: null, oom: false } });
    expect(await opened.started.stop()).toEqual(first);
    await expect(runToEnd(harness.prompt("Hello"))).rejects.toMatchObject({ code: "harness_crashed" });
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

test("S1.8: an extension that does nothing is noticed before anything is said to Pi, and no model is called", async () => {
  await using opened = await openPi(copyProduct("export default function () {}\n"));
  await expect(opened.started.claim(toClaim(opened.sandbox))).rejects.toMatchObject({
    code: "extension_missing",
  });
  expect(opened.calls()).toBe(0);
});

test("S1.8: an extension that cannot be loaded ends Pi at its start, and no model is called", async () => {
  await using opened = await openPi(copyProduct("throw new Error('broken')\n"));
  await expect(opened.started.claim(toClaim(opened.sandbox))).rejects.toMatchObject({
    code: "harness_not_started",
  });
  expect(opened.calls()).toBe(0);
});
