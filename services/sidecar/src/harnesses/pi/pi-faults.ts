/** What went wrong with Pi, or with the model behind it, as a failure with a name. Pure. */
import type { Exit } from "#contract/run";
import { Fault } from "../../kernel/fault.ts";
import type { PiFold } from "./pi-events.ts";

const MAX_REASON_CHARS = 500;

/** Pi tells an error's status only in its text: `401: …`, `401 …`, or `acme API error (401): …`. */
const STATUS_IN_TEXT = /^(?:.{0,80} API error \((\d{3})\)|(\d{3})[: ])/;

export function toCrash(exit: Exit, starting: boolean, stderr: string): Fault {
  const how = exit.signal === null ? `with exit code ${exit.code}` : `by signal ${exit.signal}`;
  const cause = new Error(stderr.trim().slice(-1000));
  if (exit.oom)
    return new Fault("out_of_memory", "The run needed more memory than its sandbox has.", { cause });
  // A missing or broken extension makes Pi exit 1 at once, before any model is known.
  if (starting) return new Fault("harness_not_started", `Pi ended ${how} while it was starting.`, { cause });
  return new Fault("harness_crashed", `Pi ended ${how} before the run was done.`, { cause });
}

export function toExtensionFault(error: string): Fault {
  return new Fault("harness_protocol", "The policy extension failed inside Pi; the run was ended.", {
    cause: new Error(error),
  });
}

export function toModelFault(fold: PiFold): Fault {
  const reason = toReason(fold.errorMessage ?? "");
  const [, inParentheses, first] = STATUS_IN_TEXT.exec(reason) ?? [];
  const status = fold.httpStatus ?? inParentheses ?? first;
  const told = status === undefined ? "" : ` (HTTP ${status})`;
  return new Fault("model_refused", `The model call failed${told}: ${reason || "no reason was given"}`, {
    retryable: isTransient(status) && !/content_filter/.test(reason),
  });
}

/** What our own door refused reads like an answer of the provider's; its words are enough. */
function toReason(message: string): string {
  const refused = /"type":"pillion_refused","message":("(?:[^"\\]|\\.)*")/.exec(message)?.[1];
  const words = refused === undefined ? message : String(JSON.parse(refused));
  return words.replaceAll(/\s+/g, " ").slice(0, MAX_REASON_CHARS);
}

/** Whether the provider may answer the same call later: it is busy, broken, or the line to it was. */
function isTransient(status: string | number | undefined): boolean {
  if (status === undefined) return true;
  const code = Number(status);
  // 200: the answer broke off or was none; every other 2xx and 3xx will be the same next time.
  return code === 200 || code === 408 || code === 429 || code >= 500;
}
