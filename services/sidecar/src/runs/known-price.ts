/** A limit of cost needs a price: refuses a run without one, in words of whoever can give it. */
import type { RunRequest } from "#contract/run";
import type { Profile } from "../agents/profile.ts";
import { Fault } from "../kernel/fault.ts";
import type { ClampedLimits } from "./limits.ts";

/** A cost that is not known is not guessed. `isCostLimited`: the operator has a ceiling. Throws invalid_request. */
export function refuseWithoutPrice(
  { limits: { costUsd } }: ClampedLimits,
  request: RunRequest,
  { model }: Profile,
  isCostLimited: boolean,
): void {
  if (costUsd === undefined || model.price !== null) return;
  const message = `the price of ${model.provider}/${model.name} is not known: ${toRemedy(request, isCostLimited)}`;
  const path = request.limits?.costUsd === undefined ? "/model" : "/limits/costUsd";
  throw new Fault("invalid_request", `A limit of cost cannot be kept: ${message}.`, {
    errors: [{ path, message }],
  });
}

/** The operator's list is not asked for an endpoint of the request's own, nor a request's price where it would keep a ceiling. */
function toRemedy({ model }: RunRequest, isCostLimited: boolean): string {
  if (typeof model === "object" && model.baseUrl !== undefined) return "give model.price";
  if (isCostLimited) return "the operator can list it in prices.json, a request cannot name it here";
  return "give model.price, or let the operator list it in prices.json";
}
