/** Which secret a request's credential stands for: its own value, or one of the operator's by name. */
import type { Credential, CredentialRequest } from "#contract/agent";
import { Fault } from "../kernel/fault.ts";

/**
 * A request may narrow what the operator bound, and never move it elsewhere. `path` is the field's, for errors.
 * Throws invalid_request where the operator has none of that name, forbidden where it is bound otherwise.
 */
export function resolveCredential(
  { value, valueFrom, ...bound }: CredentialRequest,
  operators: readonly Credential[],
  path: string,
): Credential {
  if (value !== undefined) return { ...bound, value };
  const held = operators.find(({ name }) => name === valueFrom);
  if (held === undefined) {
    const message = `the operator holds no credential of the name "${valueFrom}" (PILLION_CREDENTIALS)`;
    throw toFieldFault("invalid_request", `${path}/valueFrom`, message);
  }
  const wider = findWider(bound, held);
  if (wider !== undefined) {
    const message = `the operator's "${valueFrom}" is bound otherwise: ${toBound(wider, held)}`;
    throw toFieldFault("forbidden", `${path}/${wider}`, message);
  }
  return {
    ...bound,
    name: held.name,
    pathPrefix: bound.pathPrefix ?? held.pathPrefix,
    methods: bound.methods ?? held.methods,
    value: held.value,
  };
}

type BoundField = "host" | "header" | "pathPrefix" | "methods";

/** What a request would have to name, which `/v1/capabilities` tells as well. */
function toBound(field: BoundField, held: Credential): string {
  const bound = [held[field] ?? []].flat().map((word) => `\`${word}\``);
  const verb = field === "methods" ? "are" : "is";
  const more = field === "methods" || field === "pathPrefix" ? ", and may only be narrowed" : "";
  return `its ${field} ${verb} ${bound.join(", ")}${more}`;
}

/** The first field by which a request would have more than the operator gave. */
function findWider(
  asked: Omit<CredentialRequest, "value" | "valueFrom">,
  held: Credential,
): BoundField | undefined {
  if (asked.host !== held.host) return "host";
  if (asked.header.toLowerCase() !== held.header.toLowerCase()) return "header";
  const { pathPrefix: prefix, methods } = held;
  if (prefix !== undefined && asked.pathPrefix !== undefined && !isBelow(asked.pathPrefix, prefix))
    return "pathPrefix";
  if (methods !== undefined && asked.methods?.some((method) => !methods.includes(method))) return "methods";
  return undefined;
}

function isBelow(path: string, prefix: string): boolean {
  const bare = prefix.replace(/\/$/, "");
  return path === bare || path.startsWith(`${bare}/`);
}

function toFieldFault(code: "invalid_request" | "forbidden", path: string, message: string): Fault {
  return new Fault(code, `The credential cannot be used: ${message}.`, { errors: [{ path, message }] });
}
