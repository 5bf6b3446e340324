/** What a run may spend on its model: each call is admitted, capped, reserved for and settled here. */
import type { ModelApi } from "#contract/extension";
import type { ListedPrice } from "../../model-price.ts";
import { capCall, countChoices, LEAST_OUTPUT, readAskedCap } from "./call-cap.ts";
import { toAffordable, toCost, toLongCachePrice, toMostCost } from "./call-cost.ts";
import { asksLongCache, estimateInput } from "./input-estimate.ts";
import type { CallUsage } from "./usage-reader.ts";

export type BudgetLimits = { readonly tokens?: number | undefined; readonly costUsd?: number | undefined };
export type LimitName = "tokens" | "costUsd";

export type Settlement = {
  /** What was counted. */
  readonly usage: CallUsage;
  /** True when the report is far below what was sent or seen, so that the estimate was counted. */
  readonly doubted: boolean;
};

export interface Admission {
  /** The call to send: capped when there is a budget. */
  readonly call: Record<string, unknown>;
  /** Output tokens, all choices together; null without a budget. */
  readonly cap: number | null;
  /** True when what has streamed proves that the provider makes more than the budget has left: the call must be cut. */
  isOverrun(estimate: number): boolean;
  /**
   * Must be called once for every admission, however the call ended; a later one changes nothing. `wasTaken`: the provider
   * may have begun its work, so that the input counts even where nothing of an answer came. Without it a caller that
   * always hangs up before the first word would use nothing.
   */
  settle(reported: CallUsage | null, estimate: number, wasTaken?: boolean): Settlement;
}

/**
 * `used_up`: what is left does not pay for the call. `reserved`: it would, but is held for calls that are under way; when
 * one of them is settled the call may be tried again.
 */
export type BudgetRefusal = "used_up" | "reserved";

/** What a call that was refused as `used_up` needs at least, in tokens or US dollars. */
export type Shortfall = { readonly limit: LimitName; readonly needs: number };

export type UsedUsage = Required<CallUsage> & {
  /** US dollars; null when the price is unknown. */
  readonly costUsd: number | null;
  /** All that were admitted. */
  readonly calls: number;
};

const NOTHING: CallUsage = { inputTokens: 0, outputTokens: 0, cacheReadTokens: 0, cacheWriteTokens: 0 };

/** What a call is taken to need: tokens of input, at this price. */
type Demand = { readonly input: number; readonly price: ListedPrice | null };
/** `most`: output tokens that the budget has left for a call, whatever the call itself is capped to. */
type Bounds = { readonly most: number; onOutput(output: number): void };
const NO_BOUNDS: Bounds = { most: Number.POSITIVE_INFINITY, onOutput: () => undefined };
type Reserve = { readonly tokens: number; readonly costUsd: number };

export class Budget {
  readonly #limits: BudgetLimits;
  readonly #price: ListedPrice | null;
  readonly #defaultMaxTokens: number;
  readonly #reserves = new Set<Reserve>();
  #tokens: Required<CallUsage> = { ...NOTHING, longCacheWriteTokens: 0 };
  #costUsd = 0;
  #calls = 0;
  #shortfall: Shortfall | null = null;
  #cutFor: LimitName | null = null;

  /**
   * `defaultMaxTokens` caps a call that names no cap of its own. Throws a RangeError for a limit of cost without a price:
   * such a run is refused when it is asked for.
   */
  constructor(limits: BudgetLimits, price: ListedPrice | null, defaultMaxTokens: number) {
    if (limits.costUsd !== undefined && price === null) throw new RangeError("a limit of cost needs a price");
    this.#limits = limits;
    this.#price = price;
    this.#defaultMaxTokens = defaultMaxTokens;
  }

  /** Reserves what the call may cost until it is settled, so that parallel calls cannot cross a limit together. */
  admit(api: ModelApi, call: Readonly<Record<string, unknown>>): Admission | BudgetRefusal {
    const demand = this.#toDemand(call);
    if (!this.#isLimited) return this.#toAdmission({ ...call }, null, demand);
    const least = LEAST_OUTPUT * countChoices(call);
    const short = this.#findShort(demand, least, []);
    if (short !== null) {
      this.#shortfall ??= { limit: short, needs: toNeeds(short, demand, least) };
      return "used_up";
    }
    const reserves = [...this.#reserves];
    if (this.#findShort(demand, least, reserves) !== null) return "reserved";
    const [tightest, left] = this.#leftOutputs(demand, reserves).toSorted(([, a], [, b]) => a - b)[0] ?? [];
    const asked = readAskedCap(call) ?? this.#defaultMaxTokens * countChoices(call);
    const cap = Math.min(asked, left ?? asked);
    const wholeCap = cap - (cap % countChoices(call));
    const onOutput = (output: number): void => {
      if (cap < asked && output >= wholeCap) this.#cutFor ??= tightest ?? null;
    };
    return this.#toAdmission(capCall(api, call, cap), cap, demand, { most: left ?? cap, onOutput });
  }

  get used(): UsedUsage {
    return { ...this.#tokens, costUsd: this.#price === null ? null : this.#costUsd, calls: this.#calls };
  }

  /** True when what was used has reached a limit, or an answer was cut short because no more was left for it. */
  get isExceeded(): boolean {
    return this.#cutFor !== null || this.#findReached() !== null;
  }

  /** The limit that was reached, that an answer was cut short for, or that a call was refused for as `used_up`. */
  get limitName(): LimitName | null {
    return this.#findReached() ?? this.#cutFor ?? this.#shortfall?.limit ?? null;
  }

  /** Null where the limit itself was reached. */
  get shortfall(): Shortfall | null {
    return this.isExceeded ? null : this.#shortfall;
  }

  get #isLimited(): boolean {
    return this.#limits.tokens !== undefined || this.#limits.costUsd !== undefined;
  }

  #findReached(): LimitName | null {
    const { tokens, costUsd } = this.#limits;
    if (tokens !== undefined && toTotal(this.#tokens) >= tokens) return "tokens";
    return costUsd !== undefined && this.#costUsd >= costUsd ? "costUsd" : null;
  }

  #toDemand(call: Readonly<Record<string, unknown>>): Demand {
    const input = estimateInput(call);
    const price = this.#price;
    return { input, price: price !== null && asksLongCache(call) ? toLongCachePrice(price) : price };
  }

  #findShort(demand: Demand, least: number, reserves: readonly Reserve[]): LimitName | null {
    return this.#leftOutputs(demand, reserves).find(([, output]) => output < least)?.[0] ?? null;
  }

  /** Output tokens that each limit leaves for a call of so much input. */
  #leftOutputs({ input, price }: Demand, reserves: readonly Reserve[]): [LimitName, number][] {
    const { tokens, costUsd } = this.#limits;
    const reserved = reserves.reduce((sum, one) => sum + one.tokens, 0);
    const reservedUsd = reserves.reduce((sum, one) => sum + one.costUsd, 0);
    const left: [LimitName, number][] = [];
    if (tokens !== undefined) left.push(["tokens", tokens - toTotal(this.#tokens) - reserved - input]);
    if (costUsd !== undefined && price !== null) {
      left.push(["costUsd", toAffordable(price, input, costUsd - this.#costUsd - reservedUsd)]);
    }
    return left;
  }

  #toAdmission(
    call: Record<string, unknown>,
    cap: number | null,
    { input, price }: Demand,
    { most, onOutput }: Bounds = NO_BOUNDS,
  ): Admission {
    this.#calls += 1;
    const costUsd = price === null ? 0 : toMostCost(price, input, cap ?? 0);
    const reserve = { tokens: input + (cap ?? 0), costUsd };
    this.#reserves.add(reserve);
    let settled: Settlement | null = null;
    return {
      call,
      cap,
      isOverrun: (estimate) => estimate > 1.25 * most + 32,
      settle: (reported, estimate, wasTaken = false) => {
        if (settled !== null) return settled;
        const isTaken = wasTaken || reported !== null || estimate > 0;
        settled = toSettlement(reported, estimate, isTaken ? input : 0, this.#isLimited);
        this.#reserves.delete(reserve);
        this.#count(settled.usage);
        onOutput(settled.usage.outputTokens);
        return settled;
      },
    };
  }

  #count(usage: CallUsage): void {
    const { longCacheWriteTokens = 0 } = usage;
    this.#tokens = {
      inputTokens: this.#tokens.inputTokens + usage.inputTokens,
      outputTokens: this.#tokens.outputTokens + usage.outputTokens,
      cacheReadTokens: this.#tokens.cacheReadTokens + usage.cacheReadTokens,
      cacheWriteTokens: this.#tokens.cacheWriteTokens + usage.cacheWriteTokens,
      longCacheWriteTokens: this.#tokens.longCacheWriteTokens + longCacheWriteTokens,
    };
    if (this.#price !== null) this.#costUsd += toCost(this.#price, usage);
  }
}

/**
 * A report counts unless it is far below what is known; estimates of honest calls are off by less than that. What a call
 * was asked is doubted only where a budget has to be kept: what came of it was seen, what it was counted as was not.
 */
function toSettlement(
  reported: CallUsage | null,
  estimate: number,
  input: number,
  isLimited: boolean,
): Settlement {
  if (reported === null) {
    return { usage: { ...NOTHING, inputTokens: input, outputTokens: estimate }, doubted: false };
  }
  const allInput = toTotal(reported) - reported.outputTokens;
  const isInputDoubted = isLimited && input > 4 * allInput + 256;
  const isOutputDoubted = estimate > 2 * reported.outputTokens + 64;
  const usage = {
    ...reported,
    ...(isInputDoubted ? { inputTokens: reported.inputTokens + input - allInput } : {}),
    ...(isOutputDoubted ? { outputTokens: estimate } : {}),
  };
  return { usage, doubted: isInputDoubted || isOutputDoubted };
}

function toNeeds(limit: LimitName, { input, price }: Demand, least: number): number {
  if (limit === "tokens") return input + least;
  return price === null ? 0 : toMostCost(price, input, least);
}

function toTotal(usage: CallUsage): number {
  return usage.inputTokens + usage.outputTokens + usage.cacheReadTokens + usage.cacheWriteTokens;
}
