/** Which credential goes with which request: bound to a host, and optionally to a path and methods. Pure. */
import type { Credential } from "#contract/agent";
import type { Destination, Scheme } from "./destination.ts";

export type HeldCredential = {
  readonly name: string;
  readonly host: string;
  readonly port: number;
  /** In lower case. */
  readonly header: string;
  readonly value: string;
  readonly pathPrefix: string | null;
  readonly methods: readonly string[] | null;
  /** `http` only where the operator listed that very origin: a secret is not sent in the clear otherwise. */
  readonly scheme: Scheme;
  readonly env: string | null;
};

/** `isPlain` answers whether the operator meant plain HTTP for this host and port; a host without a port never is. */
export function toHeldCredential(
  credential: Credential,
  isPlain: (host: string, port: number) => boolean,
): HeldCredential {
  const [, host = "", given] = /^(.*?)(?::(\d+))?$/.exec(credential.host) ?? [];
  const port = Number(given ?? 443);
  const scheme = given !== undefined && isPlain(host, port) ? "http" : "https";
  return {
    name: credential.name ?? credential.host,
    host,
    port,
    header: credential.header.toLowerCase(),
    value: credential.value,
    pathPrefix: credential.pathPrefix ?? null,
    methods: credential.methods ?? null,
    scheme,
    env: credential.env ?? null,
  };
}

/** Whether any credential is bound to the host and port; nothing of a tunnel to there could be seen. */
export function isBound(held: readonly HeldCredential[], { host, port }: Destination): boolean {
  return held.some((credential) => credential.host === host && credential.port === port);
}

/** The one to put in, or undefined: the longest path goes first, and of equals the last one given. */
export function findCredential(
  held: readonly HeldCredential[],
  destination: Destination,
  method: string,
  path: string,
): HeldCredential | undefined {
  const fitting = held.filter(
    ({ host, port, scheme, methods, pathPrefix }) =>
      host === destination.host &&
      port === destination.port &&
      scheme === destination.scheme &&
      (methods === null || methods.includes(method)) &&
      (pathPrefix === null || isBelow(path, pathPrefix)),
  );
  return fitting.toSorted((a, b) => toWeight(b) - toWeight(a)).at(0);

  function toWeight(credential: HeldCredential): number {
    return (credential.pathPrefix ?? "").length * 1_000 + held.indexOf(credential);
  }
}

/**
 * A path that servers may read in more than one way (dot segments, encoded slashes or dots, also in encodings that are
 * longer than need be, backslashes, empty segments, parameters) is below nothing.
 */
function isBelow(target: string, prefix: string): boolean {
  const [path = ""] = target.split(/[?#]/, 1);
  if (/%(2e|2f|5c|25|00|3b)|[\\;]|[^\x21-\x7e]|\/\/|\/\.{1,2}(\/|$)/i.test(path) || !isDecodable(path))
    return false;
  const bare = prefix.replace(/\/$/, "");
  return path === bare || path.startsWith(`${bare}/`);
}

function isDecodable(path: string): boolean {
  try {
    return decodeURIComponent(path) !== "";
  } catch {
    return false;
  }
}
