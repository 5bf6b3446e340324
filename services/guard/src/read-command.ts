/** Reads what the sidecar says. It is trusted and has validated it; this only tells a command from a broken line. */
import type { GuardCommand, GuardConfig } from "#contract/guard";

const OPERATIONS: ReadonlySet<string> = new Set<GuardCommand["op"]>([
  "fill",
  "snapshot",
  "inspect",
  "start",
  "signal",
  "clear",
  "changes",
  "diff",
  "file",
  "tar",
]);

/** Throws on what is not a command. */
export function readCommand(line: string): GuardCommand {
  const value: unknown = JSON.parse(line);
  if (!isCommand(value)) throw new Error("not a command");
  return value;
}

/** Throws when the guard was started by hand or by something that is not the sidecar. */
export function readConfig(argument: string | undefined): GuardConfig {
  const value: unknown = JSON.parse(argument ?? "null");
  if (
    !isRecord(value) ||
    typeof value.workspace !== "string" ||
    typeof value.ownsPidNamespace !== "boolean"
  ) {
    throw new Error("the guard is started by the sidecar only");
  }
  return value as GuardConfig; // beside the check above; the sidecar made it from the same type
}

function isCommand(value: unknown): value is GuardCommand {
  return isRecord(value) && Number.isInteger(value.id) && OPERATIONS.has(String(value.op));
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}
