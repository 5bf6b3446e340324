/** The log: one JSON line for each record on stderr, without secrets and without characters that deceive. */
import { type DestinationStream, destination, type Level, type Logger, pino, stdTimeFunctions } from "pino";
import type { Redactor } from "./redaction.ts";
import { escapeUnsafe } from "./unsafe-characters.ts";

export type Log = Logger;

export type LogOptions = {
  readonly level: Level | "silent";
  readonly redactor: Redactor;
  /** Gets whole lines; stderr by default, where nothing is lost when the process ends. */
  readonly stream?: DestinationStream;
};

/** Severity is a word (`level`), time is RFC 3339 (`time`), the text is `msg`, a thrown error is `err`. */
export function createLog({ level, redactor, stream }: LogOptions): Log {
  return pino(
    {
      level,
      base: { service: "pillion" },
      timestamp: stdTimeFunctions.isoTime,
      formatters: {
        level: (label) => ({ level: label }),
        log: (record) => toRecord(redactor.redactValue(record)),
      },
      // Errors are already plain copies; pino's own serializer would read the originals' stack and message again.
      serializers: { err: (value: unknown) => redactor.redactValue(value) },
      hooks: { streamWrite: (line) => toSafeLine(line, redactor) },
    },
    stream ?? destination({ dest: 2, sync: true }),
  );
}

/** The log of one run; each of its lines carries `runId`. */
export function forRun(log: Log, runId: string): Log {
  return log.child({ runId });
}

/**
 * The last look at a line, when nothing can be added to it any more: messages, bindings and whatever a serializer made.
 * The values are redacted and not the text, so that even a secret like `"` cannot break the line's JSON.
 */
function toSafeLine(line: string, redactor: Redactor): string {
  return `${escapeUnsafe(toRedactedLine(line.trimEnd(), redactor))}\n`;
}

function toRedactedLine(line: string, redactor: Redactor): string {
  try {
    return JSON.stringify(redactor.redactValue(JSON.parse(line)));
  } catch {
    return redactor.redact(line);
  }
}

function toRecord(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? { ...value } : { value };
}
