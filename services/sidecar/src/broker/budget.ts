/** What a run may spend on its model: each call is admitted, capped, reserved for and settled here. */
import type { ModelApi } from "#contract/extension";
import type { ListedPrice } from "../model-price.ts";
import type { CallUsage } from "./usage-reader.ts";

export type BudgetLimits = { readonly tokens?: number | undefined; readonly costUsd?: number | undefined };

export type Settlement = {
  /** What was counted. */
  readonly usage: CallUsage;
  /** True when the report is far below what was seen, so that the estimate was counted. */
  readonly doubted: boolean;
};

export interface Admission {
  /** The call to send: capped when there is a budget. */
  readonly call: Record<string, unknown>;
  /** Output tokens, all choices together; null without a budget. */
  readonly cap: number | null;
  /** True when what has streamed proves that the cap is ignored: the call must be cut. */
  isOverrun(estimate: number): boolean;
  /** Must be called once for every admission, however the call ended; later calls change nothing. */
  settle(reported: CallUsage | null, estimate: number): Settlement;
}

/**
 * `used_up`: the call can not be made within the limits, and no later one like it. `reserved`: what is left is held for
 * calls that are under way; when one of them is settled it may be asked again.
 */
export type BudgetRefusal = "used_up" | "reserved";

export declare class Budget {
  constructor(limits: BudgetLimits, price: ListedPrice | null, defaultMaxTokens: number);
  admit(api: ModelApi, call: Readonly<Record<string, unknown>>): Admission | BudgetRefusal;
  /** `costUsd` is null when the price is unknown. */
  readonly used: CallUsage & { readonly costUsd: number | null; readonly calls: number };
  /** True when a limit has been reached by what was used. */
  readonly isExceeded: boolean;
  /** The limit that was reached, or for which a call was refused as `used_up`. */
  readonly limitName: "tokens" | "costUsd" | null;
}
