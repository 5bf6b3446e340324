/** Why a host cannot be reached, read from what the system and the TLS library say, and how a run is told. Pure. */
import type { EgressCause } from "#contract/egress";

const NETWORK: ReadonlyMap<string, EgressCause> = new Map([
  ["ECONNREFUSED", "refused"],
  ["EHOSTUNREACH", "no_route"],
  ["ENETUNREACH", "no_route"],
  ["EADDRNOTAVAIL", "no_route"],
  ["ECONNRESET", "closed"],
  ["EPIPE", "closed"],
]);

/** What TLS makes of an answer that is none: the words of OpenSSL. */
const NOT_TLS: readonly string[] = ["ERR_SSL_WRONG_VERSION_NUMBER", "ERR_SSL_PACKET_LENGTH_TOO_LONG"];

/** Null for what says nothing of the other side. */
export function toNetworkCause(error: Error): EgressCause | null {
  return NETWORK.get(toCode(error)) ?? null;
}

/** Of a handshake that failed for another reason than the certificate. */
export function toTlsCause(error: Error): EgressCause | null {
  if (NOT_TLS.includes(toCode(error))) return "not_tls";
  return toNetworkCause(error) ?? (/^(ERR_SSL_|EPROTO)/.test(toCode(error)) ? "tls" : null);
}

function toCode(error: Error): string {
  return "code" in error && typeof error.code === "string" ? error.code : "";
}

const WORDS: Readonly<Record<EgressCause, string>> = {
  dns: "its name has no address",
  refused: "nothing listens there",
  no_route: "there is no way to its address",
  closed: "it hung up before it answered",
  certificate: "its certificate is not trusted for this name",
  not_tls: "it does not speak TLS",
  tls: "it speaks no TLS that could be agreed on",
};

/** The end of a sentence about the host. */
export function toUnreachable(cause: EgressCause | null): string {
  return `cannot be reached${cause === null ? "" : `: ${WORDS[cause]}`}`;
}

/** What can be done, where it is more than to look at the host itself. */
export function toCauseHint(cause: EgressCause | null): string | null {
  if (cause === "certificate")
    return "If an authority of the operator's own has signed it, the operator can let Pillion trust that one (NODE_EXTRA_CA_CERTS).";
  if (cause === "not_tls")
    return "If it speaks plain HTTP, whoever names it has to write `http://` before it.";
  return null;
}
