/** What the address of a request says: its query, strictly, and the file path behind `/files/`. */
import type { z } from "zod";
import { Fault } from "../kernel/fault.ts";
import type { CallerContext } from "./caller-env.ts";

/**
 * Checks the query against `schema`; without one nothing may be asked. Names what is unknown, doubled or wrong.
 * Parameters that start with `openPrefix` are left to the caller of this function.
 */
export function readQuery<T extends z.ZodObject>(
  context: CallerContext,
  schema: T,
  openPrefix?: string,
): z.output<T> {
  const given: Record<string, string> = Object.create(null);
  for (const [name, values] of Object.entries(context.req.queries())) {
    const [value] = values;
    if (values.length !== 1 || value === undefined) {
      throw invalid(`The query parameter \`${shorten(name)}\` is given more than once.`);
    }
    if (openPrefix === undefined || !name.startsWith(openPrefix)) given[name] = value;
  }
  const parsed = schema.safeParse(given);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  if (issue?.code === "unrecognized_keys") {
    throw invalid(`Unknown query parameter: ${issue.keys.map((key) => `\`${shorten(key)}\``).join(", ")}.`);
  }
  throw invalid(
    `The query parameter \`${String(issue?.path[0])}\` is not valid: ${issue?.message ?? "wrong"}.`,
  );
}

/** `metadata.KEY=VALUE` pairs of the query. */
export function readPrefixed(context: CallerContext, prefix: string): Record<string, string> {
  return Object.fromEntries(
    Object.entries(context.req.query())
      .filter(([name]) => name.startsWith(prefix))
      .map(([name, value]) => {
        if (name === prefix) throw invalid(`The query parameter \`${prefix}\` needs a key behind the dot.`);
        return [name.slice(prefix.length), value];
      }),
  );
}

/** The relative path behind `/files/`, decoded once. Throws invalid_request for anything that is no plain path. */
export function readFilePath(context: CallerContext): string {
  const encoded = /^\/v1\/runs\/[^/]+\/files\/(.*)$/.exec(context.req.path)?.[1] ?? "";
  const path = decodePath(encoded);
  const isPlain =
    path.length <= 4096 &&
    !path.includes("\0") &&
    path.split("/").every((part) => part !== "" && part !== "." && part !== "..");
  if (!isPlain) throw invalid("The file path must be relative, without empty, . or .. parts.");
  return path;
}

function decodePath(encoded: string): string {
  try {
    return decodeURIComponent(encoded);
  } catch {
    throw invalid("The file path is not valid percent-encoded UTF-8.");
  }
}

function invalid(detail: string): Fault {
  return new Fault("invalid_request", detail);
}

function shorten(name: string): string {
  return name.length > 64 ? `${name.slice(0, 64)}…` : name;
}
