/** Which headers pass between a run and the outside, in either direction. Pure. */
import type { IncomingHttpHeaders, OutgoingHttpHeaders } from "node:http";
import type { SecretFinder } from "./secret-scrubber.ts";
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

/** By these some servers take another method or path than the request's own, and so than the credential is bound to. */
const OVERRIDES: ReadonlySet<string> = new Set([
  ...["x-http-method-override", "x-http-method", "x-method-override"],
  ...["x-original-url", "x-rewrite-url", "x-original-uri"],
]);

/** They would lead a client around the door, or tell of the sidecar's own connection. */
const NOT_FOR_INSIDE: ReadonlySet<string> = new Set([
  ...["alt-svc", "strict-transport-security", "public-key-pins", "clear-site-data"],
]);

/** Names that several requests would be read from, where two parties read the same bytes. */
export const SINGLE_HEADERS = ["host", "content-length", "transfer-encoding", "authorization"];

/** Say where a body ends, which no list of a connection's headers may take away. */
const FRAMING: ReadonlySet<string> = new Set(["content-length"]);

/**
 * The request's headers as they go out: without hop-by-hop and named connection headers, without what the client
 * authenticated with, and with the credential's own in place of whatever was there.
 */
export function toOutgoingHeaders(
  headers: IncomingHttpHeaders,
  options: {
    /** The placeholder, in every form in which it may be written. */
    readonly placeholders: readonly string[];
    readonly credential: HeldCredential | undefined;
    readonly identity: boolean;
  },
): OutgoingHttpHeaders {
  const { placeholders, credential, identity } = options;
  const named = toNamed(headers.connection);
  const kept = Object.entries(headers).filter(
    ([name, value]) =>
      value !== undefined &&
      name !== "host" &&
      !HOP_BY_HOP.has(name) &&
      (!named.has(name) || FRAMING.has(name)) &&
      !name.startsWith("proxy-") &&
      !CLIENT_AUTH.has(toDashed(name)) &&
      toDashed(name) !== credential?.header.replaceAll("_", "-") &&
      !(credential !== undefined && OVERRIDES.has(toDashed(name))) &&
      // A part of an answer could hold a part of a secret, which could not be seen.
      !(identity && (name === "range" || name === "if-range")) &&
      !placeholders.some((text) => name.includes(text) || String(value).includes(text)),
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
  options: { readonly resized: boolean; readonly secrets: SecretFinder; readonly lowerSecrets: SecretFinder },
): OutgoingHttpHeaders {
  const { resized, secrets, lowerSecrets } = options;
  const named = toNamed(headers.connection);
  const kept = Object.entries(headers).filter(
    ([name, value]) =>
      value !== undefined &&
      !HOP_BY_HOP.has(name) &&
      (!named.has(name) || FRAMING.has(name)) &&
      !name.startsWith("proxy-") &&
      lowerSecrets.find(name, 0) === null && // as names are
      !NOT_FOR_INSIDE.has(name) &&
      !(resized && ["content-length", "content-encoding", "content-md5", "digest"].includes(name)),
  );
  const scrub = (text: string): string => secrets.scrub(text);
  return Object.fromEntries(
    kept.map(([name, value]) => [name, Array.isArray(value) ? value.map(scrub) : scrub(String(value))]),
  );
}

/** Some servers read an underscore as a hyphen. */
function toDashed(name: string): string {
  return name.replaceAll("_", "-");
}

function toNamed(connection: string | undefined): ReadonlySet<string> {
  return new Set(
    (connection ?? "")
      .toLowerCase()
      .split(",")
      .map((name) => name.trim()),
  );
}
