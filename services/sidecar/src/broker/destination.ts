/** Reads where a request from a sandbox wants to go, and refuses every spelling that two programs could read differently. Pure. */
import { isIPv4, isIPv6 } from "node:net";

export type Scheme = "http" | "https";

/** `host` is a lower-case name without a last dot, or an address in its canonical form without brackets. */
export type Destination = { readonly scheme: Scheme; readonly host: string; readonly port: number };

export type BadHost = { readonly refused: "bad_host"; readonly message: string };

export const DEFAULT_PORT: Readonly<Record<Scheme, number>> = { http: 80, https: 443 };

const MAX_NAME = 253;
const LABEL = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
/** A name that ends so is read as an IPv4 address by some: `127.1`, `2130706433`, `0x7f.1`, `0177.0.0.1`. */
const NUMBER_LABEL = /^(\d+|0x[0-9a-f]*)$/;

/** Reads an authority exactly as it was sent: `host`, `host:port` or `[v6]:port`. */
export function toDestination(scheme: Scheme, authority: string): Destination | BadHost {
  const parts = /^(\[[^\]]*\]|[^:[\]]*)(?::(.*))?$/s.exec(authority);
  if (parts === null) return refuse("It must be a host, with `:port` if need be.");
  const [, written = "", digits] = parts;
  const port = digits === undefined ? DEFAULT_PORT[scheme] : toPort(digits);
  if (port === undefined)
    return refuse("The port must be a number from 1 to 65535, without zeros before it.");
  const host = toHost(written);
  return typeof host === "string" ? { scheme, host, port } : host;
}

/** As an egress pattern has it: `host`, `host:8443`, `http://host`, `[v6]:8443`. */
export function toText({ scheme, host, port }: Destination): string {
  const name = host.includes(":") ? `[${host}]` : host;
  return `${scheme === "http" ? "http://" : ""}${name}${port === DEFAULT_PORT[scheme] ? "" : `:${port}`}`;
}

/** One spelling for each address; undefined for what the system itself would not read as one, and for zones. */
export function toCanonicalAddress(text: string): string | undefined {
  if (isIPv4(text)) return text;
  if (!isIPv6(text) || text.includes("%")) return undefined;
  return new URL(`http://[${text}]`).hostname.slice(1, -1); // groups in hexadecimal, never with dots
}

export function toPort(digits: string): number | undefined {
  return /^[1-9]\d{0,4}$/.test(digits) && Number(digits) <= 65_535 ? Number(digits) : undefined;
}

function toHost(written: string): string | BadHost {
  if (written.startsWith("[")) return toAddressInBrackets(written.slice(1, -1));
  if (written === "") return refuse("There is no host.");
  // Checked before the case is changed: `K` (the Kelvin sign) in lower case is a plain `k`.
  if (!/^[A-Za-z0-9.-]*$/.test(written)) {
    return refuse("A host has letters, digits, hyphens and dots only; no user, no escape, no other script.");
  }
  if (isIPv4(written)) return written;
  const name = written.toLowerCase();
  const labels = name.split(".");
  if (NUMBER_LABEL.test(labels.at(-1) ?? "")) {
    return refuse("An IPv4 address is written as four decimal numbers without zeros before them.");
  }
  if (name.length > MAX_NAME) return refuse(`A host has at most ${MAX_NAME} characters.`);
  if (labels.every((label) => LABEL.test(label))) return name;
  return refuse(
    "Each part of a host has 1 to 63 letters, digits and hyphens, no hyphen at its ends; no dot follows the last.",
  );
}

function toAddressInBrackets(text: string): string | BadHost {
  const isPlain = /^[0-9A-Fa-f:]*$/.test(text);
  const address = isPlain ? toCanonicalAddress(text) : undefined;
  return address ?? refuse("In brackets stands an IPv6 address in hexadecimal groups, without a zone.");
}

function refuse(message: string): BadHost {
  return { refused: "bad_host", message: `The host cannot be read. ${message}` };
}
