/** Content negotiation by `Accept` (RFC 9110, 12.5.1), for the few media types we have. */
import { Fault } from "../kernel/fault.ts";

type Range = { readonly type: string; readonly quality: number };

/**
 * The offer that the header likes best; of equals the first offered. Throws not_acceptable.
 * Without a header the first offer is taken.
 */
export function pickMediaType(accept: string | undefined, offers: readonly string[]): string {
  const [first] = offers;
  if (first === undefined) throw new Fault("not_acceptable", "There is nothing to choose from.");
  if (accept === undefined || accept.trim() === "") return first;
  const ranges = accept.split(",").map(toRange);
  const rated = offers.map((offer) => ({ offer, quality: rate(offer, ranges) }));
  const best = rated.reduce((left, right) => (right.quality > left.quality ? right : left));
  if (best.quality === 0) {
    throw new Fault("not_acceptable", `The answer can be given as ${offers.join(", ")}.`);
  }
  return best.offer;
}

/** The most specific matching range decides, as the standard says. */
function rate(offer: string, ranges: readonly Range[]): number {
  const family = `${offer.split("/")[0]}/*`;
  for (const type of [offer, family, "*/*"]) {
    const range = ranges.find((candidate) => candidate.type === type);
    if (range !== undefined) return range.quality;
  }
  return 0;
}

function toRange(text: string): Range {
  const [type = "", ...parameters] = text.split(";").map((part) => part.trim().toLowerCase());
  const q = parameters.find((parameter) => parameter.startsWith("q="));
  const quality = q === undefined ? 1 : Number(q.slice(2));
  return { type, quality: quality >= 0 && quality <= 1 ? quality : 0 };
}
