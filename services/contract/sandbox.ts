/** Where a run's processes live: what may be asked for, and the receipt of what was achieved. */
import { z } from "zod";

export const SandboxKind = z.enum(["local", "docker"]);
export type SandboxKind = z.infer<typeof SandboxKind>;

export const SandboxRequest = z.strictObject({
  kind: z.enum(["auto", "local", "docker"]).default("auto").describe("`auto` takes the strongest present."),
  image: z.string().min(1).max(512).optional(),
  cpus: z.number().positive().max(1024).optional(),
  memory: z
    .string()
    .regex(/^\d+[kmgKMG]?$/)
    .optional()
    .describe("Bytes, or with k, m, g."),
  pids: z.int().min(16).max(65_536).optional().describe("Most processes and threads of the run."),
  network: z.enum(["none", "open"]).default("none"),
});
export type SandboxRequest = z.infer<typeof SandboxRequest>;

export const Receipt = z
  .object({
    kind: SandboxKind,
    isolated: z.boolean().describe("False only where the operator allowed unisolated runs."),
    requested: z.object({ kind: z.string(), network: z.string() }),
    namespaces: z.array(z.string()).describe("Kernel namespaces of the run's own."),
    network: z.enum(["none", "host"]).describe("`none`: loopback only, the door is the only way out."),
    egressEnforced: z.boolean(),
    user: z.object({ uid: z.int(), gid: z.int() }),
    capabilities: z.array(z.string()).describe("Capabilities left to the run; empty is best."),
    noNewPrivileges: z.boolean(),
    readOnlySystem: z.boolean(),
    workspace: z.enum(["read-write", "read-only"]),
    limits: z.record(z.string(), z.union([z.number(), z.string()])).describe("Limits in force."),
    missing: z.array(z.string()).describe("Protections that are not in force, in words."),
    harness: z.object({ extensionSha256: z.string() }).optional(),
  })
  .describe("What isolation was asked for and what was really achieved.");
export type Receipt = z.infer<typeof Receipt>;
