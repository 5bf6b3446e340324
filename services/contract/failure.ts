/** Every failure that has a name: its code, HTTP status, whether to retry, and the body it is told with (RFC 9457). */
import { z } from "zod";

type FailureEntry = { readonly status: number; readonly retryable: boolean; readonly title: string };

/** The one table. `docs/failures.md` must describe every code; a test holds that. */
export const FAILURES = {
  invalid_request: { status: 400, retryable: false, title: "The request is not valid" },
  unauthenticated: { status: 401, retryable: false, title: "A valid bearer token is needed" },
  forbidden: { status: 403, retryable: false, title: "The operator's settings do not allow this" },
  execution_disabled: { status: 403, retryable: false, title: "Running programs is not allowed" },
  not_found: { status: 404, retryable: false, title: "There is nothing at this address" },
  run_not_found: { status: 404, retryable: false, title: "There is no such run" },
  method_not_allowed: { status: 405, retryable: false, title: "This address does not take that method" },
  not_acceptable: { status: 406, retryable: false, title: "None of the accepted media types can be given" },
  wrong_state: { status: 409, retryable: false, title: "The run is not in a state for this" },
  idempotency_in_flight: { status: 409, retryable: true, title: "A request with this key is being handled" },
  cursor_expired: { status: 410, retryable: false, title: "Events this old are no longer kept" },
  too_large: { status: 413, retryable: false, title: "The request is too large" },
  unsupported_media_type: { status: 415, retryable: false, title: "The request body must be JSON" },
  misdirected_request: { status: 421, retryable: false, title: "This host name is not served here" },
  idempotency_mismatch: { status: 422, retryable: false, title: "This key was used with another request" },
  overloaded: { status: 429, retryable: true, title: "Too many runs; try again later" },
  internal: { status: 500, retryable: false, title: "Something went wrong on our side" },
  harness_unverified: { status: 502, retryable: false, title: "The harness could not be verified" },
  draining: { status: 503, retryable: true, title: "The service is shutting down" },
  sandbox_unavailable: { status: 503, retryable: false, title: "The wanted sandbox cannot be had here" },
  isolation_unavailable: { status: 503, retryable: false, title: "Isolation cannot be had on this machine" },
  image_missing: { status: 503, retryable: false, title: "The sandbox image is missing" },
  harness_unavailable: { status: 503, retryable: false, title: "The harness is not available" },
  storage_full: { status: 507, retryable: true, title: "There is no room left on a disk" },
  harness_not_started: { status: 502, retryable: true, title: "The harness did not start" },
  harness_crashed: { status: 502, retryable: true, title: "The harness ended unexpectedly" },
  harness_protocol: { status: 502, retryable: false, title: "The harness broke its protocol" },
  model_refused: { status: 502, retryable: false, title: "The model's provider did not answer the request" },
  extension_missing: { status: 502, retryable: false, title: "The policy extension was not loaded" },
  sandbox_lost: { status: 502, retryable: true, title: "The sandbox was lost" },
  deadline_exceeded: { status: 504, retryable: false, title: "The run's time was used up" },
  idle_timeout: { status: 504, retryable: false, title: "The run was silent for too long" },
  budget_exceeded: { status: 402, retryable: false, title: "The run's budget was used up" },
  out_of_memory: { status: 502, retryable: false, title: "The run ran out of memory" },
  cancelled: { status: 409, retryable: false, title: "The run was cancelled" },
  lost: { status: 502, retryable: true, title: "The service ended while the run was going on" },
} as const satisfies Record<string, FailureEntry>;

export type FailureCode = keyof typeof FAILURES;

const codes = Object.keys(FAILURES) as [FailureCode, ...FailureCode[]]; // Object.keys loses what the table's type knows
export const FailureCode = z.enum(codes);

export const FieldError = z.object({
  path: z.string().describe("Where in the request, as a JSON Pointer (RFC 6901)."),
  message: z.string(),
});
export type FieldError = z.infer<typeof FieldError>;

export const Problem = z
  .object({
    type: z.string().describe("Stable URI of the failure's description."),
    title: z.string(),
    status: z.int(),
    detail: z.string().describe("What happened and what to do, in words that are safe to show."),
    instance: z.string().optional().describe("The request path this is about."),
    code: FailureCode,
    retryable: z.boolean().describe("True when the same request may succeed later."),
    runId: z.string().optional(),
    errors: z.array(FieldError).optional().describe("One entry for each bad field."),
  })
  .describe("RFC 9457 problem details.");
export type Problem = z.infer<typeof Problem>;

/** The stable URI for a code; it names the section of docs/failures.md. */
export function toProblemType(code: FailureCode): string {
  return `urn:pillion:failure:${code}`;
}
