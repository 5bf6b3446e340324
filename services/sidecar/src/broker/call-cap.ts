/** How much output a model call asks for, and how it is made to ask for less. Pure. */
import type { ModelApi } from "#contract/extension";

/** Providers refuse less for one answer. */
export const LEAST_OUTPUT = 16;

/** Most output tokens that the call asks for, all its choices together; null when it names none. */
export function readAskedCap(_api: ModelApi, _call: Readonly<Record<string, unknown>>): number | null {
  return null;
}

/** The call with at most `cap` output tokens, all its choices together. */
export function capCall(
  _api: ModelApi,
  call: Readonly<Record<string, unknown>>,
  _cap: number,
): Record<string, unknown> {
  return { ...call };
}

/** Tokens of input, by the characters of the call. */
export function estimateInput(_call: Readonly<Record<string, unknown>>): number {
  return 0;
}
