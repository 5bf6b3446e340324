/** What this host can really enforce, as `GET /v1/capabilities` tells it. */
import { z } from "zod";

export const Capabilities = z.object({
  version: z.string(),
  sandboxes: z.array(
    z.object({
      kind: z.enum(["local", "docker"]),
      available: z.boolean(),
      isolated: z.boolean(),
      detail: z.string(),
      missing: z.array(z.string()),
    }),
  ),
  sandboxInForce: z
    .enum(["local", "docker"])
    .nullable()
    .describe("What `auto` takes now; null when no run can start."),
  networkModes: z.array(z.enum(["none", "open"])),
  allowedImages: z.array(z.string()).describe("What `sandbox.image` may be."),
  allowedPrograms: z.array(z.string()),
  workspaceRoots: z.int().describe("How many roots for `path` workspaces the operator allows."),
  limits: z.object({
    concurrency: z.int(),
    queue: z.int(),
    wallMs: z.int(),
    idleMs: z.int(),
    steps: z.int(),
    requests: z.int(),
    egressBytes: z.int(),
    tokens: z.int().nullable(),
    costUsd: z.number().nullable(),
    requestBytes: z.int(),
  }),
  egress: z.array(z.string()).describe("Hosts that `egress` may name."),
  credentials: z
    .array(
      z.object({
        name: z.string(),
        host: z.string(),
        header: z.string(),
        pathPrefix: z.string().nullable(),
        methods: z.array(z.string()).nullable(),
      }),
    )
    .describe("The operator's that `valueFrom` may name, with what they are bound to; never a value."),
  providers: z.array(z.object({ id: z.string(), api: z.string(), keyConfigured: z.boolean() })),
  defaultModel: z
    .string()
    .nullable()
    .describe("What a request without a model gets; null: it has to name one."),
  demoModel: z.boolean(),
});
export type Capabilities = z.infer<typeof Capabilities>;
