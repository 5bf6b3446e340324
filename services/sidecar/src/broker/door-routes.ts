/** The ways out that are not the run's model: base URLs under the door, and absolute addresses of a forward proxy. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { EgressDenial } from "#contract/egress";
import { type Destination, toDestination } from "./destination.ts";
import type { EgressEntry } from "./egress-audit.ts";
import { isAllowed } from "./egress-policy.ts";
import { forward } from "./forwarder.ts";
import { SINGLE_HEADERS, toOutgoingHeaders } from "./header-rule.ts";
import type { Lease } from "./lease.ts";
import { refuse } from "./refusal.ts";
import { findCredential } from "./vault.ts";

/** Path under the door that stands for the outside: `/to/https/<host>[:port]/<path>`. */
export const BASE_URL_PREFIX = "/to/";

/** At once for one run. It has no more connections to its door; pipelined requests are what this bounds. */
const MAX_CARRIED = 64;

const METHODS: readonly string[] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/** A refusal that knows what to say. */
export type Denied = {
  readonly reason: EgressDenial;
  readonly status: number;
  readonly message: string;
  readonly hint?: string | null;
};

/** Answers one request that came through the lease's door. Never throws; every refusal is written down and is JSON for the agent. */
export async function routeRequest(
  lease: Lease,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const url = request.url ?? "";
  const entry = lease.audit.open(url.startsWith("/") ? "base-url" : "proxy");
  entry.method = request.method ?? null;
  const read = readTarget(url, request);
  entry.destination = read.destination;
  entry.written = read.written ?? null;
  entry.path = read.target;
  if (!lease.countRequest()) return deny(lease, entry, USED_UP, response);
  if (read.denied !== undefined) return deny(lease, entry, read.denied, response);
  const { destination, target } = read;
  const denied = judgeShape(request) ?? judgeProof(lease, request) ?? judgeDestination(lease, destination);
  if (denied !== undefined) return deny(lease, entry, denied, response);
  if (lease.carried >= MAX_CARRIED) return deny(lease, entry, TOO_MANY, response);
  const credential = findCredential(lease.credentials, destination, request.method ?? "", target);
  entry.credential = credential?.name ?? null;
  const identity = !lease.secrets.isEmpty;
  const headers = toOutgoingHeaders(request.headers, {
    placeholders: lease.placeholderTexts,
    credential,
    identity,
  });
  const { "content-length": length, "transfer-encoding": coding } = request.headers;
  const body = length !== undefined || coding !== undefined ? request : Buffer.alloc(0);
  const outgoing = {
    destination,
    privateAllowed: false,
    method: request.method ?? "",
    target,
    headers,
    body,
  };
  lease.carried += 1;
  await forward(lease, entry, outgoing, response).finally(() => {
    lease.carried -= 1;
  });
}

export const USED_UP: Denied = { reason: "limit", status: 429, message: "The run's requests are used up." };

const TOO_MANY: Denied = {
  reason: "limit",
  status: 429,
  message: `No more than ${MAX_CARRIED} requests of a run are carried at once. Try again when others are over.`,
};

type Target = {
  readonly destination: Destination;
  readonly target: string;
  readonly written?: undefined;
  readonly denied?: undefined;
};

/** What there is of a target that cannot be asked; `written` is an authority that names no destination. */
type Misread = {
  readonly destination?: Destination;
  readonly target: string;
  readonly written?: string;
  readonly denied: Denied;
};

function readTarget(url: string, request: IncomingMessage): Target | Misread {
  const isBase = url.startsWith(BASE_URL_PREFIX);
  const parts = isBase
    ? /^\/to\/(https?)\/([^/?#]*)([/?][^#]*)?$/.exec(url)
    : /^(https?):\/\/([^/?#]*)([/?][^#]*)?$/.exec(url);
  const [, scheme, authority = "", rest = "/"] = parts ?? [];
  if (scheme !== "http" && scheme !== "https") {
    return { target: url, denied: url.startsWith("/") ? NOWHERE : NO_ADDRESS };
  }
  const target = rest.startsWith("?") ? `/${rest}` : rest;
  const destination = toDestination(scheme, authority);
  if ("refused" in destination) {
    const denied: Denied = { reason: "bad_host", status: 403, message: destination.message };
    return { target, written: authority, denied };
  }
  if (/[^\x21-\x7e\x80-\xff]/.test(rest))
    return { destination, target, denied: toShapeFault("its path has blanks or control characters") };
  const { host } = request.headers;
  // Two names for one request: who is asked and who is meant could differ.
  if (!isBase && host !== undefined && host.toLowerCase() !== authority.toLowerCase())
    return {
      destination,
      target,
      denied: toShapeFault("the Host header names another host than the address"),
    };
  return { destination, target };
}

const NOWHERE: Denied = {
  reason: "bad_request",
  status: 404,
  message: `There is nothing at this address of the door. Use ${BASE_URL_PREFIX}https/<host>/<path>, or the door as a proxy.`,
};
const NO_ADDRESS: Denied = {
  reason: "bad_request",
  status: 400,
  message: "The address is not one of http or https.",
};

function toShapeFault(what: string): Denied {
  return { reason: "bad_request", status: 400, message: `The request cannot be carried: ${what}.` };
}

/** What two servers could read in two ways is refused, though our own parser would choose one. */
export function judgeShape(request: IncomingMessage): Denied | undefined {
  const names = request.rawHeaders.filter((_, index) => index % 2 === 0).map((name) => name.toLowerCase());
  const double = SINGLE_HEADERS.find((name) => names.filter((other) => other === name).length > 1);
  if (double !== undefined) return toShapeFault(`the header "${double}" is there twice`);
  const {
    "transfer-encoding": coding,
    "content-length": length,
    upgrade,
    "http2-settings": settings,
    host,
    expect,
  } = request.headers;
  if (host === undefined && request.httpVersion !== "1.0") return toShapeFault("it has no Host header");
  if (expect !== undefined && expect.toLowerCase() !== "100-continue")
    return toShapeFault("it expects what is not known");
  if (coding !== undefined && coding.toLowerCase() !== "chunked")
    return toShapeFault("its transfer coding is not chunked");
  if (coding !== undefined && length !== undefined) return toShapeFault("it has two lengths");
  if (coding !== undefined && request.httpVersion === "1.0")
    return toShapeFault("HTTP/1.0 has no transfer coding");
  if (upgrade !== undefined || settings !== undefined)
    return toShapeFault("it asks for another protocol; use a tunnel (CONNECT) for that");
  if (!METHODS.includes(request.method ?? ""))
    return toShapeFault(`the method ${request.method} is not carried`);
  return undefined;
}

/** Of a base URL the door is the server itself: clients such as git send a password only to one that asks with 401. */
function judgeProof(lease: Lease, request: IncomingMessage): Denied | undefined {
  if (lease.isShownBy(request.headers)) return undefined;
  return request.url?.startsWith(BASE_URL_PREFIX) ? NO_KEY : NO_PROOF;
}

export const NO_PROOF: Denied = {
  reason: "no_placeholder",
  status: 407,
  message:
    "The run's placeholder is missing: the door is this run's only. Use the proxy's address from HTTP_PROXY as it is.",
};

/** Of what is asked like a server, not like a proxy. */
export const NO_KEY: Denied = {
  reason: "no_placeholder",
  status: 401,
  message:
    "The run's placeholder is missing: the door is this run's only. Send the header `authorization: Bearer $PILLION_PLACEHOLDER`.",
};

/** Whether the run may go there at all. */
export function judgeDestination(lease: Lease, destination: Destination): Denied | undefined {
  if (lease.isModelHost(destination)) {
    const message = "The run's model can be reached only by its own calls.";
    return { reason: "call_not_allowed", status: 403, message };
  }
  if (isAllowed(lease.request.egress, destination)) return undefined;
  const { host, port, scheme } = destination;
  const { patterns } = lease.request;
  const list =
    patterns.length === 0
      ? "This run may reach nothing but its model"
      : `It may reach ${patterns.join(", ")}`;
  return {
    reason: "host_not_allowed",
    status: 403,
    message: `This run may not reach ${scheme}://${host}:${port}. ${list}.`,
    hint: toOtherSchemeHint(lease, destination) ?? NAME_IT,
  };
}

const NAME_IT =
  "Go on without it, or say in your answer what is missing: the caller can name it in `egress`, within the operator's list.";

function toOtherSchemeHint(lease: Lease, { scheme, host, port }: Destination): string | undefined {
  const other = scheme === "https" ? "http" : "https";
  if (!isAllowed(lease.request.egress, { scheme: other, host, port })) return undefined;
  const kind = other === "http" ? "plain HTTP" : "HTTPS";
  return `The run may reach it by ${kind} only: ask $PILLION_DOOR${BASE_URL_PREFIX}${other}/${host.includes(":") ? `[${host}]` : host}:${port}/….`;
}

/** Writes it down, then tells. */
export async function deny(
  lease: Lease,
  entry: EgressEntry,
  denied: Denied,
  response: ServerResponse,
): Promise<void> {
  await entry.deny(denied.reason);
  const { destination } = entry;
  refuse(response, { ...denied, code: denied.reason, destination }, lease.request.patterns);
}
