/** What is wrong with a value that was given, in words: where in it, which entry of a list it is, and the rule. */
import type { z } from "zod";

const LONGEST_SHOWN = 80;

/** `allow[0] "A.example" must be …`. Only entries of lists are quoted, which their number alone would not tell. */
export function toIssueText(issue: z.core.$ZodIssue, value: unknown): string {
  const entry = typeof issue.path.at(-1) === "number" ? readAt(value, issue.path) : undefined;
  const parts = [toPathText(issue.path), typeof entry === "string" ? toShown(entry) : "", toRule(issue)];
  return parts.filter(Boolean).join(" ");
}

/** A place in JSON as one writes it: `prices["a/b"].input`, `allow[0]`. */
export function toPathText(path: readonly PropertyKey[]): string {
  return path
    .map((part) => {
      if (typeof part === "number") return `[${part}]`;
      return /^\w+$/.test(String(part)) ? `.${String(part)}` : `[${toShown(String(part))}]`;
    })
    .join("")
    .replace(/^\./, "");
}

/** A text from outside, so that no terminal takes it for a command. */
export function toShown(text: string): string {
  return JSON.stringify(text.slice(0, LONGEST_SHOWN)).replace(/[^\x20-\x7e]/g, "?");
}

/** What the value must be; never a part of it. */
export function toRule(issue: z.core.$ZodIssue): string {
  if (issue.code === "unrecognized_keys") return `has unknown fields: ${issue.keys.map(toShown).join(", ")}`;
  const message = issue.code === "invalid_key" ? issue.issues[0]?.message : issue.message;
  const words = message?.replace(/^Invalid input: /, "") ?? "not allowed";
  return issue.code === "custom" || words.startsWith("must ") ? words : `is not valid: ${words}`;
}

function readAt(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (inner, part) => (typeof inner === "object" && inner !== null ? Reflect.get(inner, part) : undefined),
    value,
  );
}

/** The known name that this one begins, else the one that the fewest edits make of it, if they are few. */
export function toNearest(name: string, known: readonly string[]): string | undefined {
  const isBegun = (other: string) => other.toLowerCase().startsWith(name.toLowerCase());
  if (name.replace(/^PILLION_/, "").length >= 3) {
    const longer = known.filter(isBegun).toSorted((a, b) => a.length - b.length)[0];
    if (longer !== undefined) return longer;
  }
  const ranked = known.map((other) => ({
    other,
    edits: countEdits(name.toLowerCase(), other.toLowerCase()),
  }));
  const best = ranked.sort((a, b) => a.edits - b.edits)[0];
  return best !== undefined && best.edits <= Math.max(2, name.length / 4) ? best.other : undefined;
}

/** Levenshtein distance. */
function countEdits(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (const [i, letter] of [...from.slice(0, 100)].entries()) {
    const next = [i + 1];
    for (const [j, other] of [...to].entries()) {
      const swapped = (row[j] ?? 0) + (letter === other ? 0 : 1);
      next.push(Math.min(swapped, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1));
    }
    row = next;
  }
  return row.at(-1) ?? 0;
}
