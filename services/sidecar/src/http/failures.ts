/** Turns whatever was thrown into an answer: problem+json that names the failure and shows nothing of the inside. */
import { FAILURES } from "#contract/failure";
import { MEDIA } from "#contract/routes";
import { RunId } from "#contract/run";
import { Fault, toFault, toProblem } from "../kernel/fault.ts";
import type { CallerContext } from "./caller-env.ts";
import type { HttpLog } from "./http-settings.ts";

/** All that a caller learns of a failure of ours; the log has the rest under the request's id. */
const INTERNAL_DETAIL = "An unexpected error happened; the log has the cause under the request's id.";

/** Seconds for `Retry-After` when the fault itself names none. */
const RETRY_AFTER_S: Partial<Record<Fault["code"], number>> = { overloaded: 5, draining: 10 };

/** Logs what is ours to mend and answers the rest with its name. */
export function toFailureResponse(
  thrown: unknown,
  context: CallerContext,
  log: HttpLog,
  headers: Readonly<Record<string, string>> = {},
): Response {
  const fault = toShownFault(thrown);
  const status = FAILURES[fault.code].status;
  const runId = RunId.safeParse(context.req.param("id")).data;
  const fields = {
    requestId: context.get("requestId"),
    code: fault.code,
    ...(runId === undefined ? {} : { runId }),
  };
  if (fault.code === "internal") log.error({ ...fields, err: fault.cause ?? thrown }, "a request failed");
  else if (status >= 500) log.warn({ ...fields, err: fault.cause }, fault.message);

  const problem = toProblem(fault, {
    instance: context.req.path,
    ...(runId === undefined ? {} : { runId }),
  });
  return new Response(JSON.stringify(problem), {
    status,
    headers: { ...toFailureHeaders(fault), ...headers },
  });
}

/** The headers that belong to a failure, content type included. */
export function toFailureHeaders(fault: Fault): Record<string, string> {
  const retryAfterS = fault.retryAfterS ?? RETRY_AFTER_S[fault.code];
  return {
    "content-type": MEDIA.problem,
    ...(retryAfterS === undefined ? {} : { "retry-after": String(Math.max(1, Math.ceil(retryAfterS))) }),
    ...(fault.code === "unauthenticated" ? { "www-authenticate": 'Bearer realm="pillion"' } : {}),
  };
}

function toShownFault(thrown: unknown): Fault {
  const fault = toFault(thrown);
  if (fault.code !== "internal") return fault;
  return new Fault("internal", INTERNAL_DETAIL, { cause: fault.cause ?? fault });
}
