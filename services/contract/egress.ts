/** What a run may reach, and what is told of each of its ways out. */
import { z } from "zod";

/**
 * A host, or all hosts below a suffix. Letters, digits and hyphens only: a name with anything else is refused before any
 * rule is asked. Port 443 unless named; plain HTTP (port 80 unless named) only where `http://` says so.
 */
export const EgressPattern = z
  .string()
  .max(300)
  .regex(
    /^(https?:\/\/)?(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(:[1-9]\d{0,4})?$|^(https?:\/\/)?\[[0-9a-f:]+\](:[1-9]\d{0,4})?$/,
    "must be a lower-case host like `api.example.com`, all below one like `*.example.com`, with `:port` if not 443, or `http://` before it for plain HTTP",
  )
  .refine(isReachable, "must have a port up to 65535, and an address in its usual form if it is one");
export type EgressPattern = z.infer<typeof EgressPattern>;

/** A name that ends in a number would be read as an IPv4 address by some programs, as `127.1` is. */
function isReachable(pattern: string): boolean {
  const parts = /^(?:https?:\/\/)?(?:\[(.*)\]|([^:]*))(?::(\d+))?$/.exec(pattern) ?? [];
  const [, address, name = "", port = "443"] = parts;
  if (Number(port) > 65_535) return false;
  if (address !== undefined) return z.ipv6().safeParse(address).success;
  const endsInNumber = /(^|\.)(\d+|0x[0-9a-f]*)$/.test(name);
  return name.length <= 253 && (!endsInNumber || z.ipv4().safeParse(name).success);
}

/** Why a way out was refused. */
export const EgressDenial = z.enum([
  "host_not_allowed",
  "bad_host",
  "address_not_allowed",
  "credential_needs_base_url",
  "name_mismatch",
  "not_tls",
  "bad_request",
  "no_placeholder",
  "call_not_allowed",
  "limit",
]);
export type EgressDenial = z.infer<typeof EgressDenial>;

/** Why one that was allowed did not come to its end. */
export const EgressFailure = z.enum(["unreachable", "timed_out", "too_large", "unreadable", "cut"]);
export type EgressFailure = z.infer<typeof EgressFailure>;

/** Why one could not be reached. */
export const EgressCause = z
  .enum(["dns", "refused", "no_route", "closed", "certificate", "not_tls", "tls"])
  .describe(
    "`dns`: the name has no address. `refused`: nothing listens there. `no_route`: no way to the address. `closed`: it hung up before it answered. `certificate`: it is not trusted for this name. `not_tls`: plain text where TLS was asked for. `tls`: no TLS that both sides speak.",
  );
export type EgressCause = z.infer<typeof EgressCause>;

export const EgressBody = {
  way: z
    .enum(["model", "base-url", "proxy", "connect"])
    .describe(
      "`model`: a call of the run's own model. `base-url`: through the door's `/to/…`. `proxy`: an absolute address. `connect`: a tunnel, of whose content nothing can be seen.",
    ),
  allowed: z.boolean(),
  reason: EgressDenial.nullable().describe("Why it was refused; null where it was allowed."),
  failure: EgressFailure.nullable().describe("Why an allowed one did not come to its end."),
  cause: EgressCause.nullable().describe("Of `unreachable`: why; null where that is not known."),
  scheme: z.enum(["http", "https"]).nullable(),
  host: z.string().nullable().describe("Null where none could be read."),
  port: z.int().nullable(),
  address: z
    .string()
    .nullable()
    .describe("The address that was dialled, or that was refused; null where there was none."),
  serverName: z.string().nullable().describe("Of a tunnel: the server name that its TLS asked for."),
  method: z.string().nullable(),
  path: z.string().nullable().describe("Without the query; null for a tunnel."),
  status: z.int().nullable().describe("Of the answer from outside; null for a tunnel, and where none came."),
  bytesSent: z.int(),
  bytesReceived: z.int(),
  durationMs: z.number(),
  credential: z.string().nullable().describe("Name of the credential that was put in, never its value."),
};

/** All ways out of a run, summed up. */
export const EgressSummary = z.object({
  allowed: z.int(),
  denied: z.int(),
  bytesSent: z.int(),
  bytesReceived: z.int(),
  hosts: z
    .array(
      z.object({
        host: z.string(),
        port: z.int(),
        allowed: z.int(),
        denied: z.int(),
        bytesSent: z.int(),
        bytesReceived: z.int(),
      }),
    )
    .describe("By host and port, in the order of their first request; the first 100."),
});
export type EgressSummary = z.infer<typeof EgressSummary>;

/** What a refused program inside a sandbox reads, as JSON under `error`. Clients of models read `message`. */
export const EgressRefusal = z.object({
  type: z.literal("pillion_refused"),
  code: z.union([EgressDenial, EgressFailure]),
  cause: EgressCause.nullable().describe("Of `unreachable`: why; null where that is not known."),
  message: z.string().describe("What was refused and what may be done instead."),
  host: z.string().nullable(),
  port: z.int().nullable(),
  allowed: z.array(z.string()).describe("What the run may reach, as patterns."),
  hint: z.string().nullable(),
});
export type EgressRefusal = z.infer<typeof EgressRefusal>;
