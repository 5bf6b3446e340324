/** The one error class: a failure with a name. Everything else that is thrown becomes `internal` at the edge. */
import { FAILURES, type FailureCode, type FieldError, type Problem, toProblemType } from "#contract/failure";

export type FaultOptions = {
  /** One entry for each bad field; shown to the caller. */
  readonly errors?: readonly FieldError[];
  /** Where one code has both kinds: whether the same request may succeed later. Else the table says it. */
  readonly retryable?: boolean;
  /** Seconds after which trying again makes sense; becomes `Retry-After`. */
  readonly retryAfterS?: number;
  /** For the log only; never shown. */
  readonly cause?: unknown;
};

export class Fault extends Error {
  override readonly name = "Fault";
  readonly code: FailureCode;
  readonly errors: readonly FieldError[] | undefined;
  readonly retryable: boolean;
  readonly retryAfterS: number | undefined;

  /** `detail` is shown to callers: no path of the server, no environment value, no secret. */
  constructor(code: FailureCode, detail: string, options: FaultOptions = {}) {
    super(detail, { cause: options.cause });
    this.code = code;
    this.errors = options.errors;
    this.retryable = options.retryable ?? FAILURES[code].retryable;
    this.retryAfterS = options.retryAfterS;
  }
}

/** Names whatever was thrown; what has no name yet is `internal`, with the original kept for the log. */
export function toFault(thrown: unknown): Fault {
  if (thrown instanceof Fault) return thrown;
  if (thrown instanceof Error && thrown.cause instanceof Fault) return thrown.cause;
  return new Fault("internal", "An unexpected error happened; the log has the cause under the run's id.", {
    cause: thrown,
  });
}

/** RFC 9457 body of a fault. `instance` is the request path. */
export function toProblem(fault: Fault, context: { instance?: string; runId?: string } = {}): Problem {
  const entry = FAILURES[fault.code];
  return {
    type: toProblemType(fault.code),
    title: entry.title,
    status: entry.status,
    detail: fault.message,
    code: fault.code,
    retryable: fault.retryable,
    ...(context.instance === undefined ? {} : { instance: context.instance }),
    ...(context.runId === undefined ? {} : { runId: context.runId }),
    ...(fault.errors === undefined ? {} : { errors: [...fault.errors] }),
  };
}
