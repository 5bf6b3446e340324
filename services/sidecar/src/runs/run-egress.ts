/** What one run may reach besides its model, and with which credentials: the request within the operator's list. */
import type { Credential } from "#contract/agent";
import type { RunRequest } from "#contract/run";
import { resolveCredential } from "../agents/credential-list.ts";
import type { Profile } from "../agents/profile.ts";
import { type Destination, toDestination } from "../broker/destination.ts";
import { type EgressRule, findUncovered, isAllowed, toEgressRule } from "../broker/egress-policy.ts";
import { toHeldCredential } from "../broker/vault.ts";
import { Fault } from "../kernel/fault.ts";

export type EgressContext = {
  readonly egress: readonly EgressRule[];
  readonly credentials: readonly Credential[];
  /** Whether the operator means plain HTTP for this host and port. */
  isPlain(host: string, port: number): boolean;
};

export type RunEgress = {
  readonly rules: readonly EgressRule[];
  readonly patterns: readonly string[];
  /** Of other hosts than the model's. */
  readonly credentials: readonly Credential[];
};

/** Throws invalid_request and forbidden, naming the field. */
export function resolveEgress(request: RunRequest, profile: Profile, context: EgressContext): RunEgress {
  const patterns = request.egress ?? [];
  const rules = patterns.map(toEgressRule);
  const uncovered = findUncovered(context.egress, rules);
  if (uncovered !== undefined) {
    const message = toUncoveredText(patterns[uncovered] ?? "", context.egress);
    throw new Fault("forbidden", `"${patterns[uncovered]}" may not be reached: ${message}.`, {
      errors: [{ path: `/egress/${uncovered}`, message }],
    });
  }
  const modelHost = profile.endpoint.kind === "http" ? profile.endpoint.baseUrl.host : null;
  const credentials = (request.credentials ?? []).flatMap((asked, index) => {
    const path = `/credentials/${index}`;
    if (asked.host === modelHost) return []; // the profile's
    const credential = resolveCredential(asked, context.credentials, path);
    refuseUnreachable(credential, rules, path, modelHost, context);
    return [credential];
  });
  return { rules, patterns, credentials };
}

/** The most frequent slip is the scheme, which a pattern says by what it does not say. */
function toUncoveredText(pattern: string, operator: readonly EgressRule[]): string {
  const isPlain = pattern.startsWith("http://");
  const other = isPlain ? pattern.slice("http://".length) : `http://${pattern.replace(/^https:\/\//, "")}`;
  if (findUncovered(operator, [toEgressRule(other)]) !== undefined)
    return "the operator does not allow this host (PILLION_EGRESS)";
  const [kind, how] = isPlain ? ["HTTPS", "without `http://`"] : ["plain HTTP", "with `http://` before it"];
  return `the operator's list has this host for ${kind} only: name it ${how} (PILLION_EGRESS)`;
}

/** A credential that could never be sent is a mistake, and most often a wrong host. */
function refuseUnreachable(
  credential: Credential,
  rules: readonly EgressRule[],
  path: string,
  modelHost: string | null,
  context: EgressContext,
): void {
  const { scheme, host, port } = toHeldCredential(credential, (name, number) =>
    context.isPlain(name, number),
  );
  const destination = toDestination(scheme, `${host}:${port}`);
  if (!("refused" in destination) && isAllowed(rules, destination satisfies Destination)) return;
  const model = modelHost === null ? "" : `${modelHost}, the model's, or `;
  const message =
    toPlainMessage(credential, rules, context) ?? `its host must be ${model}a host that \`egress\` names`;
  throw new Fault("invalid_request", `The credential cannot be used: ${message}.`, {
    errors: [{ path: `${path}/host`, message }],
  });
}

/** `egress` names the host, but only over plain HTTP, where a secret goes to few. */
function toPlainMessage(
  { host: authority }: Credential,
  rules: readonly EgressRule[],
  { isPlain }: EgressContext,
): string | undefined {
  const [, name = "", port = "80"] = /^(.*?)(?::(\d+))?$/.exec(authority) ?? [];
  const plain = toDestination("http", `${name}:${port}`);
  if ("refused" in plain || !isAllowed(rules, plain)) return undefined;
  const rule = isPlain(name, Number(port))
    ? `the host must be given with its port, \`${name}:${port}\``
    : "a credential goes only to an origin in PILLION_PRIVATE_TARGETS";
  return `over plain HTTP (http://${name}:${port}) ${rule}`;
}
