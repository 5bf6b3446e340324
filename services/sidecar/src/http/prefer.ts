/** The `Prefer` header (RFC 7240), of which only `wait` means something here. */
import { MAX_WAIT_S } from "#contract/routes";
import { Fault } from "../kernel/fault.ts";

/** Seconds the caller is ready to wait, clamped; undefined when there is no such preference. Throws invalid_request. */
export function readWaitS(prefer: string | undefined): number | undefined {
  const preferences = (prefer ?? "").split(",").map((part) => part.trim());
  const wait = preferences.find((preference) => /^wait\s*(=|$)/i.test(preference));
  if (wait === undefined) return undefined;
  const seconds = /^wait\s*=\s*"?(\d{1,9})"?$/i.exec(wait)?.[1];
  if (seconds === undefined) {
    throw new Fault("invalid_request", "`Prefer: wait=N` needs a whole number of seconds.");
  }
  return Math.min(Number(seconds), MAX_WAIT_S);
}
