/** A harness without a process: says what it was told to, so that what stands above can be tested quickly. */
import type { EventBody } from "#contract/event";
import type { HarnessInfo } from "#contract/harness";
import type {
  Harness,
  HarnessClaim,
  HarnessStop,
  OpenHarness,
  PromptEnd,
  StartedHarness,
} from "../../src/harnesses/harness.ts";
import { Fault } from "../../src/kernel/fault.ts";

export class FakeHarness implements Harness {
  readonly id = "fake";
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }

  async describe(): Promise<HarnessInfo> {
    const facts = { version: "1", sha256: "0".repeat(64), licence: "MIT" };
    return { id: this.id, title: "Fake", installed: true, source: "baked", drivenBy: "pi-rpc", ...facts };
  }

  async start(): Promise<StartedHarness> {
    return new StartedFake(this.text);
  }
}

class StartedFake implements StartedHarness, OpenHarness {
  readonly harness = { id: "fake", version: "1", sha256: "0".repeat(64), source: "baked" as const };
  readonly extensionSha256 = null;
  readonly #text: string;
  #claim: HarnessClaim | undefined;
  #stopped: HarnessStop | undefined;

  constructor(text: string) {
    this.#text = text;
  }

  async claim(claim: HarnessClaim): Promise<OpenHarness> {
    if (this.#claim !== undefined) throw new Fault("internal", "A harness can be claimed only once.");
    this.#claim = claim;
    return this;
  }

  async *prompt(text: string): AsyncGenerator<EventBody, PromptEnd, void> {
    if (this.#stopped !== undefined) throw new Fault("harness_crashed", "The fake has ended.");
    yield { type: "message", role: "user", text };
    yield { type: "message.delta", text: this.#text };
    yield { type: "message", role: "assistant", text: this.#text };
    return { output: this.#text, stopReason: "stop", failure: null };
  }

  async stop(): Promise<HarnessStop> {
    this.#stopped ??= { method: "graceful", exit: { code: 0, signal: null, oom: false } };
    return this.#stopped;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
