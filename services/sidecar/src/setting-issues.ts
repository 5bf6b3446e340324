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

function toRule(issue: z.core.$ZodIssue): string {
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
