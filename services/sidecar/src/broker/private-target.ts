/** Reads what the operator listed as private targets, as the settings hold it. Pure. */
import type { PrivateTarget } from "./address-rule.ts";
import { DEFAULT_PORT } from "./destination.ts";

/** Of an origin in its normal form, with `=` and a range of addresses behind it or without. */
export function toPrivateTarget(text: string): PrivateTarget {
  const [origin = "", cidr] = text.split("=", 2);
  const { protocol, hostname, port } = new URL(origin);
  const scheme = protocol === "http:" ? "http" : "https";
  return {
    scheme,
    host: hostname.replace(/^\[|\]$/g, ""),
    port: port === "" ? DEFAULT_PORT[scheme] : Number(port),
    cidr: cidr ?? null,
  };
}
