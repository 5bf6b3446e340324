/** Which destinations an egress list allows, and whether one list keeps within another. Deny by default. Pure. */
import { isIP } from "node:net";
import { DEFAULT_PORT, type Destination, type Scheme, toCanonicalAddress } from "./destination.ts";

/** `host` is a name, `*.suffix`, or an address in its canonical form without brackets. */
export type EgressRule = { readonly scheme: Scheme; readonly host: string; readonly port: number };

const PATTERN = /^(?:(https?):\/\/)?(?:\[([^\]]*)\]|([^:[\]]*))(?::(\d+))?$/;

/** Of a pattern that keeps to the contract's `EgressPattern`; throws an Error for any other text. */
export function toEgressRule(pattern: string): EgressRule {
  const parts = PATTERN.exec(pattern);
  if (parts === null) throw new Error("not an egress pattern");
  const [, named, address, name = "", digits] = parts;
  const scheme: Scheme = named === "http" ? "http" : "https";
  const host = address === undefined ? name : (toCanonicalAddress(address) ?? address);
  return { scheme, host, port: digits === undefined ? DEFAULT_PORT[scheme] : Number(digits) };
}

/**
 * Whether all that `narrow` allows is allowed by `wide`. `*.a.example` covers `x.a.example` and `*.b.a.example`, and
 * not `a.example`; scheme and port must be the same; an address is covered by itself only.
 */
export function covers(wide: EgressRule, narrow: EgressRule): boolean {
  if (wide.scheme !== narrow.scheme || wide.port !== narrow.port) return false;
  if (wide.host === narrow.host) return true;
  if (!wide.host.startsWith("*.") || isIP(narrow.host) !== 0) return false;
  const narrowName = narrow.host.replace(/^\*\./, "");
  return narrowName.endsWith(wide.host.slice(1)) && narrowName.length > wide.host.length - 1;
}

/** An empty list allows nothing. */
export function isAllowed(rules: readonly EgressRule[], destination: Destination): boolean {
  return rules.some((rule) => covers(rule, destination));
}

/** Index of the first requested rule that the operator's list does not cover; undefined when all are covered. */
export function findUncovered(
  operator: readonly EgressRule[],
  requested: readonly EgressRule[],
): number | undefined {
  const index = requested.findIndex((narrow) => !operator.some((wide) => covers(wide, narrow)));
  return index === -1 ? undefined : index;
}
