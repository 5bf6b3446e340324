/** Keeps browsers out: a page can reach loopback, but it cannot choose the Host header nor hide its Origin. */
import { Fault } from "../kernel/fault.ts";
import type { CallerMiddleware } from "./caller-env.ts";
import type { HttpSettings } from "./http-settings.ts";

/** Stands in for a missing Host header, which no name on the list can equal (RFC 2606). */
export const NO_HOST = "no-host.invalid";

const LOOPBACK_NAMES: readonly string[] = ["localhost", "127.0.0.1", "[::1]"];

/** Refuses host names that are not on the list (`misdirected_request`) and requests of other sites (`forbidden`). */
export function hostRule(settings: Pick<HttpSettings, "allowedHosts">): CallerMiddleware {
  const allowed = new Set([...LOOPBACK_NAMES, ...settings.allowedHosts.map((name) => name.toLowerCase())]);
  return async (context, next) => {
    const target = new URL(context.req.url).host;
    if (target === NO_HOST) throw new Fault("invalid_request", "The Host header is missing.");
    // An absolute request target carries a host of its own, so both must be allowed.
    const host = context.req.header("host") ?? target;
    if (!isAllowed(host, allowed) || !isAllowed(target, allowed)) {
      throw new Fault(
        "misdirected_request",
        "This host name is not served here; the operator can add it to PILLION_ALLOWED_HOSTS.",
      );
    }
    refuseOtherSites(context.req.header("origin"), context.req.header("sec-fetch-site"), host);
    await next();
  };
}

function isAllowed(host: string, allowed: ReadonlySet<string>): boolean {
  const lower = host.toLowerCase();
  if (allowed.has(lower)) return true; // an operator may also list a name with its port
  const name = /^(\[[0-9a-f:.]+\]|[^:[\]@/\s]+)(:\d{1,5})?$/.exec(lower)?.[1];
  return name !== undefined && allowed.has(name);
}

function refuseOtherSites(origin: string | undefined, site: string | undefined, host: string): void {
  if (site !== undefined && site !== "same-origin" && site !== "none") {
    throw new Fault("forbidden", "Requests from other sites are refused.");
  }
  if (origin === undefined) return;
  const from = URL.canParse(origin) ? new URL(origin) : undefined;
  const isSameOrigin =
    (from?.protocol === "http:" || from?.protocol === "https:") && from.host === host.toLowerCase();
  if (!isSameOrigin) throw new Fault("forbidden", "Requests from other origins are refused.");
}
