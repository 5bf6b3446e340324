/** Reads a claim from Pi's input; the sidecar has validated it, so this only tells shapes apart. */
import type { Claim } from "#contract/extension";
import { CLAIM_PREFIX } from "#contract/extension-words";

/** A claim, or `none` for ordinary text, or `broken` for something that begins like a claim and is not one. */
export function readClaim(text: string): Claim | "none" | "broken" {
  if (!text.startsWith(CLAIM_PREFIX)) return "none";
  try {
    const value: unknown = JSON.parse(text.slice(CLAIM_PREFIX.length));
    return isClaim(value) ? value : "broken";
  } catch {
    return "broken";
  }
}

function isClaim(value: unknown): value is Claim {
  if (typeof value !== "object" || value === null) return false;
  const claim = value as Record<string, unknown>;
  const isText = (key: string) => typeof claim[key] === "string";
  return (
    ["nonce", "provider", "model", "api", "baseUrl", "placeholder", "thinking", "instructions"].every(
      isText,
    ) &&
    Array.isArray(claim.tools) &&
    claim.tools.every((tool) => typeof tool === "string") &&
    Array.isArray(claim.skills)
  );
}
