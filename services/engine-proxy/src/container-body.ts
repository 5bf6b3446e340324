/** What a container may be made with: one strict table, equal to what the service asks for; every other word is refused. */
import { z } from "zod";
import type { ProxyOptions } from "./options.ts";

/** Set by the proxy alone, on everything that is made through it. */
export const SCOPE_LABEL = "org.pillion.proxy.scope";
/** Set by the proxy alone: this container only carries files into a volume and is never started. */
export const FILLER_LABEL = "org.pillion.proxy.filler";

/** Of our image: who may read Node there. No other group may be had, and this one only where execution needs it. */
const READERS_GID = "64220";
const GVISOR = "runsc";

const MiB = 1024 * 1024;
const ID = /^[\w-]{1,80}$/;

/** Where a directory may come into a container, and where of that it may be written to. */
const BIND_TARGET = /^(\/workspace|\/refs\/[A-Za-z0-9][\w.-]{0,63})$/;
const WRITABLE = "/workspace";

const Labels = z.strictObject({
  "org.pillion.instance": z.string().regex(ID).optional(),
  "org.pillion.product": z.string().regex(ID).optional(),
  "org.pillion.run": z.string().regex(ID).optional(),
  "org.pillion.version": z.string().max(64).optional(),
  "org.pillion.expires": z
    .string()
    .regex(/^\d{1,12}$/)
    .optional(),
});

/** Writable, which a container that is never started makes no use of: the engine itself puts the files in. */
const FillerMount = z.strictObject({
  Type: z.literal("volume"),
  Source: z.string().regex(/^pillion-[\w.-]{1,120}$/),
  Target: z.enum(["/workspace", "/refs", "/opt/pillion"]),
});

/** What is in a volume was put there before. */
const VolumeMount = FillerMount.extend({
  ReadOnly: z.literal(true),
  VolumeOptions: z.strictObject({ NoCopy: z.literal(true) }),
});

const BindMount = z.strictObject({
  Type: z.literal("bind"),
  Source: z.string().regex(/^(\/(?!\.{1,2}(\/|$))[^/\0]+)+$/),
  Target: z.string().regex(BIND_TARGET),
  ReadOnly: z.boolean(),
  BindOptions: z.strictObject({
    Propagation: z.literal("rprivate"),
    NonRecursive: z.literal(true),
  }),
});

export type Mount = z.infer<typeof FillerMount> | z.infer<typeof VolumeMount> | z.infer<typeof BindMount>;

const RunMount = z.union([
  VolumeMount,
  BindMount.refine(({ Target, ReadOnly }) => ReadOnly || Target === WRITABLE),
]);

const TmpfsOptions = z
  .string()
  .regex(/^rw,nosuid,nodev,(no)?exec,size=\d{1,15},mode=0700,uid=\d{1,10},gid=\d{1,10}$/);
const Tmpfs = z.strictObject({
  "/tmp": TmpfsOptions,
  "/home/agent": TmpfsOptions,
  "/workspace": TmpfsOptions.optional(),
});

const Ulimit = z
  .strictObject({
    Name: z.enum(["nofile", "nproc", "core", "fsize"]),
    Soft: z.int().min(0),
    Hard: z.int().min(0),
  })
  .refine(({ Name, Soft, Hard }) => (Name === "core" ? Soft + Hard === 0 : true))
  .refine(({ Name, Hard }) => (Name === "nofile" ? Hard <= 65_536 : true));

/** Texts of our seccomp profiles, as JSON without blanks. */
export type Profiles = {
  readonly usual: string;
  /** Opens what Chromium needs; only for the images that were named for it. */
  readonly browser: string;
};

export const toSecurityOption = (profile: string): string => `seccomp=${profile}`;

function toHostConfig(options: ProxyOptions, { usual, browser }: Profiles) {
  const network = options.network === undefined ? ["none"] : ["none", options.network];
  return z
    .strictObject({
      NetworkMode: z.enum(network),
      Runtime: z.enum(options.runtimes),
      Init: z.literal(true),
      ReadonlyRootfs: z.literal(true),
      CapDrop: z.tuple([z.literal("ALL")]),
      GroupAdd: z.array(z.literal(READERS_GID)).max(1),
      SecurityOpt: z.tuple([
        z.literal("no-new-privileges:true"),
        z.enum([usual, browser].map(toSecurityOption)),
      ]),
      Privileged: z.literal(false),
      PublishAllPorts: z.literal(false),
      IpcMode: z.literal("private"),
      ShmSize: z
        .int()
        .min(0)
        .max(1024 * MiB),
      NanoCpus: z
        .int()
        .min(1)
        .max(options.cpus * 1e9),
      Memory: z.int().min(MiB).max(options.memoryBytes),
      MemorySwap: z.int(),
      PidsLimit: z.int().min(1).max(options.pids),
      OomScoreAdj: z.int().min(0).max(1000),
      Ulimits: z.array(Ulimit).max(4),
      Tmpfs,
      Mounts: z.array(RunMount).max(64),
      LogConfig: z.strictObject({ Type: z.literal("none"), Config: z.strictObject({}) }),
      RestartPolicy: z.strictObject({ Name: z.literal("no") }),
      AutoRemove: z.literal(false),
    })
    .refine(({ Memory, MemorySwap }) => Memory === MemorySwap)
    .refine(({ Runtime, GroupAdd }) => GroupAdd.length === 0 || Runtime === GVISOR, { path: ["GroupAdd"] });
}

/** A run's container. */
export function toRunBody(options: ProxyOptions, profiles: Profiles) {
  return z
    .strictObject({
      name: z.string().optional(), // the client puts it into the query too, which is what counts
      Image: z.string(),
      Entrypoint: z.array(z.string()).max(0),
      Cmd: z.array(z.string().max(16_384)).min(1).max(64),
      Env: z.array(z.string().max(4_096)).max(64),
      User: z.string().regex(/^[1-9]\d{0,9}:[1-9]\d{0,9}$/),
      WorkingDir: z.string().max(256),
      Hostname: z.literal("sandbox"),
      Labels: Labels.required({
        "org.pillion.instance": true,
        "org.pillion.run": true,
        "org.pillion.expires": true,
      }),
      AttachStdin: z.literal(true),
      AttachStdout: z.literal(true),
      AttachStderr: z.literal(true),
      OpenStdin: z.literal(true),
      StdinOnce: z.literal(true),
      Tty: z.literal(false),
      NetworkDisabled: z.boolean(),
      StopSignal: z.literal("SIGKILL"),
      Healthcheck: z.strictObject({ Test: z.tuple([z.literal("NONE")]) }),
      HostConfig: toHostConfig(options, profiles),
    })
    .refine(({ NetworkDisabled, HostConfig }) => NetworkDisabled === (HostConfig.NetworkMode === "none"));
}

/** A container that only carries files into one volume. It is never started, so it needs no lock. */
export const FillerBody = z.strictObject({
  name: z.string().optional(),
  Image: z.string(),
  Labels,
  HostConfig: z.strictObject({
    NetworkMode: z.literal("none"),
    Mounts: z.tuple([FillerMount]),
  }),
});

export const VolumeBody = z.strictObject({
  Name: z.string().regex(/^pillion-[\w.-]{1,120}$/),
  Labels,
});
