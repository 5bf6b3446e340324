/** Grants each run its lease and keeps the real credentials, in memory only and only while the run lives. */
import { randomBytes, timingSafeEqual } from "node:crypto";
import type { ModelApi } from "#contract/extension";
import type { ModelEndpoint } from "../model-endpoint.ts";

export type LeaseRequest = {
  readonly runId: string;
  readonly model: string;
  readonly api: ModelApi;
  readonly upstream: ModelEndpoint;
  /** Called before each model call; a false answer refuses it. */
  readonly onModelCall: () => boolean;
};

/** What the broker lends one run: an unguessable placeholder inside, the real secret outside. Gone when disposed. */
export class Lease implements Disposable {
  /** Stands in for the key inside the sandbox; letters and digits only. */
  readonly placeholder = `pillion_${randomBytes(24).toString("hex")}`;
  readonly ended: AbortSignal;
  readonly request: LeaseRequest;
  readonly #end = new AbortController();

  constructor(request: LeaseRequest) {
    this.request = request;
    this.ended = this.#end.signal;
  }

  /** Model calls that are being carried now. */
  calls = 0;

  /** Whether a client inside showed this lease's placeholder. */
  isShownBy(authorization: string | undefined, apiKey: string | undefined): boolean {
    return [authorization?.replace(/^Bearer\s+/i, ""), apiKey].some(
      (shown) => shown !== undefined && isSame(shown, this.placeholder),
    );
  }

  [Symbol.dispose](): void {
    this.#end.abort();
  }
}

function isSame(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(b)];
  return left.length === right.length && timingSafeEqual(left, right);
}
