/** How the conductor speaks with any agent program: started closed, opened by one claim, then prompted. */

import type { EventBody } from "#contract/event";
import type { ClaimSkill } from "#contract/extension";
import type { HarnessId, HarnessInfo, RunHarness } from "#contract/harness";
import type { Exit } from "#contract/run";
import type { ProfileModel } from "../agents/profile.ts";
import type { Fault } from "../kernel/fault.ts";
import type { Sandbox } from "../sandboxes/sandbox.ts";

/** Everything that opens a closed harness. It holds the lease's placeholder, never a real key. */
export type HarnessClaim = {
  readonly model: ProfileModel;
  /** Base URL of the door inside the sandbox. */
  readonly baseUrl: string;
  readonly placeholder: string;
  readonly tools: readonly string[];
  readonly instructions: string;
  readonly skills: readonly ClaimSkill[];
  readonly thinking: "off" | "minimal" | "low" | "medium" | "high";
};

/** How a prompt ended, as told by the harness; a failure is never hidden behind a stop reason. */
export type PromptEnd = {
  readonly output: string | null;
  readonly stopReason: string;
  readonly failure: Fault | null;
};

export type HarnessStop = { readonly method: "graceful" | "killed"; readonly exit: Exit };

export interface OpenHarness {
  /** Yields events as they come and returns how it ended. Throws Faults: harness_crashed, harness_protocol, sandbox_lost. */
  prompt(text: string): AsyncGenerator<EventBody, PromptEnd, void>;
}

/** A harness process. Disposing stops it, whatever state it is in. */
export interface StartedHarness extends AsyncDisposable {
  readonly harness: RunHarness;
  /** Digest of the policy extension that was installed into this run, or null where the harness has none. */
  readonly extensionSha256: string | null;
  /**
   * Opens it, once. Resolves only after the harness has proved that our policy holds.
   * Throws extension_missing, harness_crashed, harness_protocol.
   */
  claim(claim: HarnessClaim): Promise<OpenHarness>;
  /** Asks, then insists, then kills; idempotent. Resolves when the process has ended. */
  stop(): Promise<HarnessStop>;
}

export type StartOptions = {
  /** Tools that the process may register at all; the first of three layers. */
  readonly tools: readonly string[];
  /** Environment besides the harness's own: how programs find the door. */
  readonly env: Readonly<Record<string, string>>;
  /** Name and version of who asks, where a harness wants to know. */
  readonly signal: AbortSignal;
};

export interface Harness {
  readonly id: HarnessId;
  describe(): Promise<HarnessInfo>;
  /** Starts it closed: no provider, no key, no tools. Throws harness_not_started, harness_unavailable. */
  start(sandbox: Sandbox, options: StartOptions): Promise<StartedHarness>;
}
