/** Reads one answer of a model as it streams: the tokens that its provider reports, and an estimate of those it made. */
import type { ModelApi } from "#contract/extension";

/** Tokens of one call. `inputTokens` has neither what was read from the cache nor what was written to it. */
export type CallUsage = {
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly cacheReadTokens: number;
  readonly cacheWriteTokens: number;
  /** Of `cacheWriteTokens`, those kept for an hour: Anthropic takes twice the price of input for them. */
  readonly longCacheWriteTokens?: number;
};

export class UsageReader {
  #estimate = 0;

  /** `contentType` is the answer's own; what the bytes are is looked at as well. */
  constructor(_api: ModelApi, _contentType: string) {}

  /** Never throws, whatever the bytes are. */
  write(_bytes: Buffer): void {}

  /** Output tokens so far, by the characters of text, reasoning and tool calls. An answer that is one JSON text is counted at its end. */
  get estimate(): number {
    return this.#estimate;
  }

  /** Ends reading. What the provider reported; null when it reported nothing usable. */
  end(): CallUsage | null {
    return null;
  }
}
