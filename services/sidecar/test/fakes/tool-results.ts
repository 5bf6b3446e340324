// What the tools of a run answered, read from its events.
import type { RunEvent } from "#contract/event";

/** In the order in which they ended. */
export function toResults(events: readonly RunEvent[]): object[] {
  return events.flatMap((event) =>
    event.type === "tool.result" ? [{ tool: event.tool, isError: event.isError, text: event.text }] : [],
  );
}
