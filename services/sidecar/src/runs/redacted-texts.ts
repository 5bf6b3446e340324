/** Takes a run's secrets out of the texts of what is written down, and leaves its structure alone. Pure. */

/** Our own words and numbers: nothing that came from outside stands here. */
const STRUCTURE: ReadonlySet<string> = new Set([
  ...["type", "runId", "state", "outcome", "code", "level", "topic", "role", "callId", "model"],
  ...["receipt", "harness", "usage", "total", "exit", "stop"],
]);

const NOTHING: ReadonlySet<string> = new Set();

/** A copy with every free text redacted; keys, structure and lengths of lists stay. */
export function redactTexts<T>(value: T, redact: (text: string) => string): T {
  return copy(value, redact) as T; // a text becomes a text and nothing else changes, so the shape is the same
}

function copy(value: unknown, redact: (text: string) => string, ours = STRUCTURE): unknown {
  if (typeof value === "string") return redact(value);
  if (Array.isArray(value)) return value.map((item) => copy(item, redact, ours));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => {
      if (ours.has(key)) return [key, item];
      // A tool's arguments are the model's: no name in them is ours.
      return [key, copy(item, redact, key === "arguments" ? NOTHING : ours)];
    }),
  );
}
