/** Tells zod's issues as one entry per bad field: a JSON Pointer and words that never repeat the value. */
import type { z } from "zod";
import type { FieldError } from "#contract/failure";
import { NOT_IMPLEMENTED } from "#contract/run";
import { Fault } from "../kernel/fault.ts";

const MAX_ERRORS = 32;
const MAX_POINTER_CHARS = 200;

type Issue = z.core.$ZodIssue;
type Path = readonly PropertyKey[];

/** Fields of the contract, by pointer, that this version knows but does not have yet. */
const NOT_YET = new RegExp(`^/(${NOT_IMPLEMENTED.join("|")})$`);

/** The fault for a body that does not fit its schema. `body` is only looked at to see what kind of block was meant. */
export function toInvalidBody(error: z.ZodError, body: unknown): Fault {
  return toInvalid(error.issues.flatMap((issue) => toFieldErrors(issue, [], body)));
}

/** The fault for these bad fields, telling the first in its detail. */
export function toInvalid(all: readonly FieldError[]): Fault {
  const errors = [...all].sort((a, b) => Number(isNotYet(b)) - Number(isNotYet(a))).slice(0, MAX_ERRORS);
  const [first] = errors;
  if (first === undefined) return new Fault("invalid_request", "The request is not valid.");
  const told = isNotYet(first)
    ? first.message
    : `${first.path === "" ? "The body" : first.path}: ${first.message}`;
  const rest = all.length > 1 ? ` (and ${all.length - 1} more)` : "";
  return new Fault("invalid_request", `${told}${rest}.`, { errors });
}

function toFieldErrors(issue: Issue, base: Path, body: unknown): FieldError[] {
  const path = [...base, ...issue.path];
  switch (issue.code) {
    case "unrecognized_keys":
      return issue.keys.map((key) => toKeyError([...path, key]));
    case "invalid_union":
      return toUnionErrors(issue, path, body);
    case "invalid_key":
      return [
        {
          path: toPointer(path),
          message: `the key is not valid: ${issue.issues[0]?.message ?? "not allowed"}`,
        },
      ];
    default:
      return [{ path: toPointer(path), message: toWords(issue) }];
  }
}

function toKeyError(path: Path): FieldError {
  const pointer = toPointer(path);
  const name = String(path.at(-1));
  if (NOT_YET.test(pointer)) {
    return { path: pointer, message: `\`${name}\` is not implemented yet` };
  }
  return { path: pointer, message: "unknown field" };
}

function toUnionErrors(
  issue: Extract<Issue, { code: "invalid_union" }>,
  path: Path,
  body: unknown,
): FieldError[] {
  const pointer = toPointer(path);
  if (issue.errors.length === 0) {
    if (isMessageBlock(pointer) && readAt(body, path) === "image") {
      return [{ path: pointer, message: "`image` blocks are not implemented yet" }];
    }
    return [{ path: pointer, message: toWords(issue) }];
  }
  // The branch whose outer shape fits is the one that was meant.
  const meant = issue.errors.find((branch) => branch.every((inner) => !isWrongShape(inner)));
  if (meant !== undefined) return meant.flatMap((inner) => toFieldErrors(inner, path, body));
  const shapes = issue.errors
    .flat()
    .flatMap((inner) => (inner.code === "invalid_type" ? [inner.expected] : []));
  return [{ path: pointer, message: `must be ${[...new Set(shapes)].join(" or ")}` }];
}

function isWrongShape(issue: Issue): boolean {
  return issue.code === "invalid_type" && issue.path.length === 0;
}

function isMessageBlock(pointer: string): boolean {
  return /^\/messages\/\d+\/content\/\d+\/type$/.test(pointer);
}

function isNotYet(error: FieldError): boolean {
  return error.message.endsWith("not implemented yet");
}

function toWords(issue: Issue): string {
  if (issue.code === "invalid_union") {
    const options = "options" in issue && Array.isArray(issue.options) ? issue.options.map(String) : [];
    return options.length === 0 ? "is none of the allowed kinds" : `must be one of ${options.join(", ")}`;
  }
  return issue.message;
}

function readAt(body: unknown, path: Path): unknown {
  return path.reduce<unknown>(
    (value, key) => (typeof value === "object" && value !== null ? Reflect.get(value, key) : undefined),
    body,
  );
}

/** RFC 6901, cut where a caller's own key is longer than anything of ours. */
export function toPointer(path: Path): string {
  const pointer = path.map((key) => `/${String(key).replaceAll("~", "~0").replaceAll("/", "~1")}`).join("");
  return pointer.length > MAX_POINTER_CHARS ? `${pointer.slice(0, MAX_POINTER_CHARS)}…` : pointer;
}
