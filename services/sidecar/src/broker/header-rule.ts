/** Which headers pass between a run and the outside, in either direction. Pure. */
import type { IncomingHttpHeaders, OutgoingHttpHeaders } from "node:http";
import type { HeldCredential } from "./vault.ts";

/** RFC 9110, 7.6.1, and what older clients send: they speak of one connection only. */
const HOP_BY_HOP: ReadonlySet<string> = new Set([
  ...["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"],
  ...["http2-settings", "expect"],
]);

/** The run's own: it has no account anywhere but through the broker, and the placeholder says nothing outside. */
const CLIENT_AUTH: ReadonlySet<string> = new Set([
  ...["authorization", "x-api-key", "api-key", "x-goog-api-key", "x-auth-token", "private-token"],
]);

/** They would lead a client around the door, or tell of the sidecar's own connection. */
const NOT_FOR_INSIDE: ReadonlySet<string> = new Set([
  ...["alt-svc", "strict-transport-security", "public-key-pins", "clear-site-data"],
]);

/** Names that several requests would be read from, where two parties read the same bytes. */
export const SINGLE_HEADERS = ["host", "content-length", "transfer-encoding", "authorization"];

/**
 * The request's headers as they go out: without hop-by-hop and named connection headers, without what the client
 * authenticated with, and with the credential's own in place of whatever was there.
 */
export function toOutgoingHeaders(
  headers: IncomingHttpHeaders,
  options: {
    readonly placeholder: string;
    readonly credential: HeldCredential | undefined;
    readonly identity: boolean;
  },
): OutgoingHttpHeaders {
  const { placeholder, credential, identity } = options;
  const named = toNamed(headers.connection);
  const kept = Object.entries(headers).filter(
    ([name, value]) =>
      value !== undefined &&
      name !== "host" &&
      !HOP_BY_HOP.has(name) &&
      !named.has(name) &&
      !name.startsWith("proxy-") &&
      !CLIENT_AUTH.has(name) &&
      name !== credential?.header &&
      // A part of an answer could hold a part of a secret, which could not be seen.
      !(identity && (name === "range" || name === "if-range")) &&
      !String(value).includes(placeholder),
  );
  return {
    ...Object.fromEntries(kept),
    ...(identity ? { "accept-encoding": "identity" } : {}),
    ...(credential === undefined ? {} : { [credential.header]: credential.value }),
  };
}

/** The answer's headers as they go in. `resized`: its body will have another length and encoding. */
export function toIncomingHeaders(
  headers: IncomingHttpHeaders,
  options: { readonly resized: boolean; readonly scrub: (text: string) => string },
): OutgoingHttpHeaders {
  const named = toNamed(headers.connection);
  const kept = Object.entries(headers).filter(
    ([name, value]) =>
      value !== undefined &&
      !HOP_BY_HOP.has(name) &&
      !named.has(name) &&
      !name.startsWith("proxy-") &&
      !NOT_FOR_INSIDE.has(name) &&
      !(options.resized && ["content-length", "content-encoding", "content-md5", "digest"].includes(name)),
  );
  return Object.fromEntries(
    kept.map(([name, value]) => [
      options.scrub(name),
      Array.isArray(value) ? value.map(options.scrub) : options.scrub(String(value)),
    ]),
  );
}

function toNamed(connection: string | undefined): ReadonlySet<string> {
  return new Set(
    (connection ?? "")
      .toLowerCase()
      .split(",")
      .map((name) => name.trim()),
  );
}
