/** A harness without a process: says what it was told to, so that what stands above can be tested quickly. */
import type { EventBody } from "#contract/event";
import type { HarnessInfo } from "#contract/harness";
import type { Exit } from "#contract/run";
import type {
  Harness,
  HarnessClaim,
  HarnessStop,
  OpenHarness,
  PromptEnd,
  StartedHarness,
} from "../../src/harnesses/harness.ts";
import { Fault } from "../../src/kernel/fault.ts";

/** What the model behind the fake does with a prompt. */
export type FakeModel = "answers" | "fails" | "hangs";

export class FakeHarness implements Harness {
  readonly id = "fake";
  readonly text: string;
  readonly model: FakeModel;

  constructor(text: string, model: FakeModel = "answers") {
    this.text = text;
    this.model = model;
  }

  async describe(): Promise<HarnessInfo> {
    const facts = { version: "1", sha256: "0".repeat(64), licence: "MIT" };
    return { id: this.id, title: "Fake", installed: true, source: "baked", drivenBy: "pi-rpc", ...facts };
  }

  async start(): Promise<StartedFake> {
    return new StartedFake(this.text, this.model);
  }
}

class StartedFake implements StartedHarness, OpenHarness {
  readonly harness = { id: "fake", version: "1", sha256: "0".repeat(64), source: "baked" as const };
  readonly extensionSha256 = null;
  readonly #text: string;
  readonly #model: FakeModel;
  readonly #ended = Promise.withResolvers<Exit>();
  #exit: Exit | undefined;
  #claim: HarnessClaim | undefined;

  constructor(text: string, model: FakeModel) {
    this.#text = text;
    this.#model = model;
  }

  async claim(claim: HarnessClaim): Promise<OpenHarness> {
    if (this.#claim !== undefined) throw new Fault("internal", "A harness can be claimed only once.");
    this.#claim = claim;
    return this;
  }

  async *prompt(text: string): AsyncGenerator<EventBody, PromptEnd, void> {
    if (this.#exit !== undefined) throw crashed();
    yield { type: "message", role: "user", text };
    if (this.#model === "hangs") {
      await this.#ended.promise;
      throw crashed();
    }
    if (this.#model === "fails") {
      const failure = new Fault("model_refused", "The model call failed (HTTP 401).", { retryable: false });
      return { output: null, stopReason: "error", failure };
    }
    yield { type: "message.delta", text: this.#text };
    yield { type: "message", role: "assistant", text: this.#text };
    return { output: this.#text, stopReason: "stop", failure: null };
  }

  /** Plays a process that was killed. */
  die(): void {
    this.#end({ code: null, signal: "SIGKILL", oom: false });
  }

  async stop(): Promise<HarnessStop> {
    const exit = this.#end({ code: 0, signal: null, oom: false });
    return { method: exit.signal === "SIGKILL" ? "killed" : "graceful", exit };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  /** The first end is the one that stays. */
  #end(exit: Exit): Exit {
    this.#exit ??= exit;
    this.#ended.resolve(this.#exit);
    return this.#exit;
  }
}

function crashed(): Fault {
  return new Fault("harness_crashed", "The fake has ended.");
}
