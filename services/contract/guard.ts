/** What the sidecar and the guard say to each other on the pipe: HTTP/2, the guard is the client. */
import { z } from "zod";

/** How the guard is told its place, as JSON in its first argument. */
export const GuardConfig = z.strictObject({
  workspace: z.string(),
  home: z.string(),
  /** The references that the run is to find, by their names in that directory. */
  references: z.strictObject({ directory: z.string(), names: z.array(z.string()) }),
  /** Private directory for the baseline that diffs are made against. */
  baseline: z.string(),
  /** True only where the guard stands in a PID namespace of its own, so that "every process" means the run's. */
  ownsPidNamespace: z.boolean(),
  /** Environment variable that marks every process of the run, where there is no PID namespace. */
  marker: z.string(),
});
export type GuardConfig = z.infer<typeof GuardConfig>;

const id = z.int().min(1);

export const FillTarget = z.enum(["workspace", "home", "references"]);
export type FillTarget = z.infer<typeof FillTarget>;

export const GuardCommand = z.discriminatedUnion("op", [
  z.strictObject({ id, op: z.literal("fill"), target: FillTarget }),
  z.strictObject({ id, op: z.literal("snapshot") }),
  z.strictObject({ id, op: z.literal("inspect") }),
  z.strictObject({
    id,
    op: z.literal("start"),
    program: z.string(),
    args: z.array(z.string()),
    env: z.record(z.string(), z.string()),
  }),
  z.strictObject({ id, op: z.literal("signal"), signal: z.enum(["SIGTERM", "SIGKILL", "SIGCONT"]) }),
  z.strictObject({ id, op: z.literal("clear") }),
  z.strictObject({ id, op: z.literal("changes") }),
  z.strictObject({ id, op: z.literal("diff") }),
  z.strictObject({ id, op: z.literal("file"), path: z.string() }),
  z.strictObject({ id, op: z.literal("tar"), maxBytes: z.int().min(1) }),
]);
export type GuardCommand = z.infer<typeof GuardCommand>;

/** What the guard sees around itself before anything untrusted has run. */
export const GuardView = z.object({
  pid: z.int(),
  uid: z.int(),
  gid: z.int(),
  /** Effective, permitted and bounding capability sets, hexadecimal. */
  capEff: z.string(),
  capPrm: z.string(),
  capBnd: z.string(),
  /** Null where the kernel does not tell. */
  noNewPrivs: z.boolean().nullable(),
  /** A seccomp filter is in force. */
  seccomp: z.boolean(),
  /** Namespace name to its identity, for example `pid:[4026531836]`. */
  namespaces: z.record(z.string(), z.string()),
  interfaces: z.array(z.string()),
  /** Of the extension that harnesses in this sandbox are given. */
  extensionSha256: z.string(),
  systemWritable: z.boolean(),
  /** The guard may read its own program; then other processes of its user may look into it, and into the harness. */
  programReadable: z.boolean(),
  workspaceWritable: z.boolean(),
  /** Device and inode of the workspace, as `dev:ino`. */
  workspaceId: z.string(),
  /** The references that are there: path, device and inode, whether the guard may read them, and write to them or make others. */
  references: z.array(
    z.object({ path: z.string(), id: z.string(), readable: z.boolean(), writable: z.boolean() }),
  ),
  /** Digests of the harnesses in the product, as its build wrote them down. */
  harnessSha256: z.record(z.string(), z.string()),
});
export type GuardView = z.infer<typeof GuardView>;

export const GuardNotice = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("hello"), doorPort: z.int().min(1).max(65_535), view: GuardView }),
  z.object({ kind: z.literal("done"), id, value: z.unknown().optional() }),
  z.object({ kind: z.literal("failed"), id, code: z.string().max(64), message: z.string().max(2000) }),
  z.object({
    kind: z.literal("exited"),
    code: z.int().nullable(),
    signal: z.string().max(16).nullable(),
    /** The kernel killed it for want of memory. */
    oom: z.boolean(),
    /** A process could not be started for the limit on their number. */
    pidsLimit: z.boolean().optional(),
  }),
]);
export type GuardNotice = z.infer<typeof GuardNotice>;

export const StartedProcess = z.object({ pid: z.int() });

/** Answer to `clear`: how many processes were killed, and those that are still there. */
export const Cleared = z.object({ killed: z.int(), left: z.int() });
