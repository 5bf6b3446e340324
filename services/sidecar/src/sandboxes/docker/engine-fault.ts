/** What an engine's refusal, or its silence, means for a run. Pure. */
import type { FailureCode } from "#contract/failure";
import { Fault } from "../../kernel/fault.ts";

function readStatus(error: unknown): number | undefined {
  const inner = error instanceof Fault ? error.cause : error;
  return inner instanceof Error && "statusCode" in inner ? Number(inner.statusCode) : undefined;
}

export function isStatus(error: unknown, ...statuses: number[]): boolean {
  const status = readStatus(error);
  return status !== undefined && statuses.includes(status);
}

/** The engine's own words stay in the log: they name paths of the machine. */
export function toEngineFault(what: string, error: unknown): Fault {
  if (error instanceof Fault) return error;
  const status = readStatus(error);
  const text = error instanceof Error ? error.message : String(error);
  const [code, detail] = toCode(what, status, text);
  // An engine that is gone or has failed may be back; what it refused, it refuses again.
  const isPassing = code === "sandbox_unavailable" && (status === undefined || status >= 500);
  return new Fault(code, detail, { cause: error, ...(isPassing ? { retryable: true } : {}) });
}

function toCode(what: string, status: number | undefined, text: string): [FailureCode, string] {
  if (status === undefined && /EACCES/.test(text))
    return [
      "sandbox_unavailable",
      "This user may not open the container engine's socket: give Pillion its proxy.",
    ];
  if (status === undefined) return ["sandbox_unavailable", "The container engine cannot be reached."];
  if (status === 403) {
    const [, why = "its log says why"] = /engine-proxy: ([ \w'.,-]{1,200})/.exec(text) ?? [];
    return ["sandbox_unavailable", `The container engine's proxy does not allow "${what}": ${why}.`];
  }
  if (status === 400 && /bind source path does not exist/.test(text))
    return [
      "forbidden",
      "The directory is not there on the container engine's machine: send the files instead.",
    ];
  if (/no space left on device/i.test(text)) return ["storage_full", "The container engine's disk is full."];
  if (status === 404 && /network \S+ not found/i.test(text))
    return ["sandbox_unavailable", "The container engine does not have the network of PILLION_OPEN_NETWORK."];
  if (status === 404 && /image/i.test(text)) {
    const [, name = ""] = /no such image: ([\w.:/@-]{1,200})/i.exec(text) ?? [];
    const what = name === "" ? "the image of runs" : `the image ${name}`;
    return ["image_missing", `The container engine does not have ${what}: build it or load it there.`];
  }
  if (/unknown( or invalid)? runtime/i.test(text))
    return ["sandbox_unavailable", "The container engine does not have the wanted runtime."];
  if (status === 409 && what === "create")
    return ["sandbox_unavailable", "The container engine has another container of the run's name."];
  return ["sandbox_unavailable", `The container engine could not "${what}" (HTTP ${status}).`];
}
