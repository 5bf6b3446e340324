/** Where a run's processes live: what may be asked for, and the receipt of what was achieved. */
import { z } from "zod";

export const SandboxKind = z.enum(["local", "docker"]);
export type SandboxKind = z.infer<typeof SandboxKind>;

/** Where references lie in every sandbox, each by its name. */
export const REFERENCES_DIR = "/refs";

/** An image by digest: `name@sha256:…`, or its id `sha256:…` where it was built on the engine. */
export const ImageDigest = z
  .string()
  .max(512)
  .regex(
    /^([a-z0-9][\w.:/-]*@)?sha256:[0-9a-f]{64}$/,
    "must name its digest: `name@sha256:…`, or `sha256:…` for an image that was built on the engine",
  );
export type ImageDigest = z.infer<typeof ImageDigest>;

/** Node does not start in less; and to an engine, 0 means that there is no limit. */
const LEAST_MEMORY_BYTES = 64 * 1024 ** 2;
const MEMORY_UNITS: Record<string, number> = { "": 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3 };

/** `text` as `sandbox.memory` has it; NaN where it has another form. */
export function toMemoryBytes(text: string): number {
  const [, digits, unit = ""] = /^(\d{1,15})([kmg]?)$/i.exec(text) ?? [];
  return digits === undefined
    ? Number.NaN
    : Number(digits) * (MEMORY_UNITS[unit.toLowerCase()] ?? Number.NaN);
}

export const SandboxRequest = z.strictObject({
  kind: z.enum(["auto", "local", "docker"]).default("auto").describe("`auto` takes the strongest present."),
  image: ImageDigest.optional().describe(
    "An image that the operator allows, written as in the operator's list.",
  ),
  cpus: z.number().min(0.01).max(1024).optional(),
  memory: z
    .string()
    .regex(/^\d{1,15}[kmgKMG]?$/)
    .refine((text) => toMemoryBytes(text) >= LEAST_MEMORY_BYTES, "must be at least 64m")
    .optional()
    .describe("Bytes, or with k, m, g; at least 64m."),
  pids: z.int().min(16).max(65_536).optional().describe("Most processes and threads of the run."),
  network: z
    .enum(["none", "open"])
    .default("none")
    .describe("`open`: a network of the engine's, only where the operator allows it."),
});
export type SandboxRequest = z.infer<typeof SandboxRequest>;

export const Receipt = z
  .object({
    kind: SandboxKind,
    isolated: z.boolean().describe("False only where the operator allowed unisolated runs."),
    requested: z.object({ kind: z.string(), network: z.string() }),
    namespaces: z.array(z.string()).describe("Kernel namespaces of the run's own."),
    network: z
      .enum(["none", "open", "host"])
      .describe("`none`: loopback only, the door is the only way out. `open`: a network of the engine's."),
    egressEnforced: z.boolean(),
    user: z.object({ uid: z.int(), gid: z.int() }),
    capabilities: z.array(z.string()).describe("Capabilities left to the run; empty is best."),
    noNewPrivileges: z.boolean(),
    readOnlySystem: z.boolean(),
    workspace: z.enum(["read-write", "read-only"]),
    references: z
      .array(z.string())
      .optional()
      .describe("Paths that are there to read and cannot be written."),
    limits: z.record(z.string(), z.union([z.number(), z.string()])).describe("Limits in force."),
    missing: z.array(z.string()).describe("Protections that are not in force, in words."),
    harness: z.object({ extensionSha256: z.string() }).optional(),
  })
  .describe("What isolation was asked for and what was really achieved.");
export type Receipt = z.infer<typeof Receipt>;
