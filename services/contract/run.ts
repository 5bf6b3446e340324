/** A run as it is requested and as it is reported. */
import { z } from "zod";
import { AgentRequest, CredentialRequest, ModelRequest } from "./agent.ts";
import { EgressPattern, EgressSummary } from "./egress.ts";
import { Problem } from "./failure.ts";
import { HarnessId, RunHarness } from "./harness.ts";
import { Receipt, SandboxRequest } from "./sandbox.ts";

export const RunId = z.string().regex(/^run_[0-9a-hjkmnp-tv-z]{26}$/);
export type RunId = z.infer<typeof RunId>;

export const RunState = z.enum(["queued", "preparing", "running", "waiting", "stopping", "ended"]);
export type RunState = z.infer<typeof RunState>;

export const RunOutcome = z.enum(["succeeded", "failed", "cancelled", "timed_out", "limit_exceeded", "lost"]);
export type RunOutcome = z.infer<typeof RunOutcome>;

export const PROMPT_MAX_CHARS = 1_000_000;

const relativePath = z
  .string()
  .min(1)
  .max(4096)
  .refine(
    (path) =>
      !path.startsWith("/") &&
      !path.includes("\0") &&
      path.split("/").every((part) => part !== "" && part !== "." && part !== ".."),
    "must be a relative path inside the workspace, without empty, . or .. parts",
  );

export const InlineFile = z.strictObject({
  path: relativePath,
  content: z.string().describe("Text, or base64 when `encoding` says so."),
  encoding: z.enum(["utf8", "base64"]).default("utf8"),
  executable: z.boolean().default(false),
});
export type InlineFile = z.infer<typeof InlineFile>;

export const WorkspaceRequest = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("empty") }),
  z.strictObject({
    kind: z.literal("path"),
    path: z.string().startsWith("/").max(4096).describe("An absolute directory under an allowed root."),
  }),
  z.strictObject({ kind: z.literal("files"), files: z.array(InlineFile).max(10_000) }),
]);
export type WorkspaceRequest = z.infer<typeof WorkspaceRequest>;

export const ReferenceRequest = z
  .strictObject({
    name: z
      .string()
      .regex(
        /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/,
        "must be 1 to 64 letters, digits, dots, dashes or underscores",
      )
      .describe("What it is called under `/refs/`."),
    path: z
      .string()
      .startsWith("/")
      .max(4096)
      .optional()
      .describe("An absolute directory under an allowed root."),
    content: z.string().optional().describe("A file's text, or base64 when `encoding` says so."),
    encoding: z.enum(["utf8", "base64"]).optional().describe("Of `content`; `utf8` by default."),
  })
  .refine(
    ({ path, content }) => (path === undefined) !== (content === undefined),
    "needs either `path` or `content`",
  )
  .refine(({ path, encoding }) => path === undefined || encoding === undefined, "a `path` has no `encoding`");
export type ReferenceRequest = z.infer<typeof ReferenceRequest>;

const references = z
  .array(ReferenceRequest)
  .max(64)
  .refine(
    (list) => new Set(list.map(({ name }) => name)).size === list.length,
    "two references have one name",
  );

const ContentBlock = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("text"), text: z.string().max(PROMPT_MAX_CHARS) }),
]);

export const Message = z.strictObject({
  role: z.enum(["user"]),
  content: z.union([z.string().min(1).max(PROMPT_MAX_CHARS), z.array(ContentBlock).min(1).max(256)]),
});
export type Message = z.infer<typeof Message>;

export const Limits = z.strictObject({
  wallMs: z.int().min(1).optional().describe("Milliseconds from the run's start to its end."),
  idleMs: z.int().min(1).optional().describe("Most milliseconds without any event."),
  steps: z.int().min(1).optional().describe("Most model calls."),
  requests: z.int().min(1).optional().describe("Most requests through the door, model calls included."),
  tokens: z.int().min(1).optional().describe("Most tokens, of input and output together."),
  costUsd: z
    .number()
    .positive()
    .optional()
    .describe("Most US dollars; refused where the model has no price."),
});
export type Limits = z.infer<typeof Limits>;

const metadata = z
  .record(z.string().min(1).max(64), z.string().max(512))
  .refine((map) => Object.keys(map).length <= 32, "at most 32 entries");

/** Fields of the contract that this version refuses by name. */
export const NOT_IMPLEMENTED = ["session", "tools", "mcpServers", "telemetry"] as const;

export const RunRequest = z.strictObject({
  harness: HarnessId.default("pi"),
  prompt: z
    .string()
    .min(1)
    .max(PROMPT_MAX_CHARS)
    .optional()
    .describe("What to do. Either this or `messages`."),
  messages: z.array(Message).min(1).max(1).optional().describe("One user message with text blocks."),
  model: ModelRequest.optional().describe("`provider/name`, or an object with the endpoint."),
  agent: AgentRequest.optional(),
  workspace: WorkspaceRequest.default({ kind: "empty" }),
  references: references.optional().describe("What the run may read and never write, at `/refs/<name>`."),
  sandbox: SandboxRequest.default({ kind: "auto", network: "none" }),
  execution: z
    .strictObject({ allowedPrograms: z.array(z.string().min(1).max(256)).max(64) })
    .optional()
    .describe("Programs the run may start; never more than the operator allows."),
  role: z.enum(["worker", "reader"]).default("worker").describe("A reader can never write."),
  credentials: z
    .array(CredentialRequest)
    .max(16)
    .optional()
    .describe("Secrets; held in memory, never stored, and never inside the sandbox."),
  egress: z
    .array(EgressPattern)
    .max(256)
    .optional()
    .describe(
      "Hosts that the run may reach besides its model: none unless named, and never more than the operator allows.",
    ),
  limits: Limits.optional(),
  metadata: metadata.optional(),
});
export type RunRequest = z.infer<typeof RunRequest>;

export const Usage = z.object({
  inputTokens: z.int(),
  outputTokens: z.int(),
  cacheReadTokens: z.int(),
  costUsd: z.number().nullable().describe("Null when the price is unknown."),
  modelCalls: z.int(),
});
export type Usage = z.infer<typeof Usage>;

export const Exit = z.object({
  code: z.int().nullable(),
  signal: z.string().nullable(),
  oom: z.boolean().describe("The kernel killed the harness for want of memory."),
  pidsLimit: z
    .literal(true)
    .optional()
    .describe("Set where a process could not be started, because the run had as many as it may."),
});
export type Exit = z.infer<typeof Exit>;

export const Stop = z.object({
  method: z.enum(["graceful", "killed"]).describe("`graceful`: the harness ended when asked."),
  verified: z.boolean().describe("True when it was seen that nothing of the run is left alive."),
  ms: z.number().describe("Milliseconds from the request to stop until nothing was left."),
});
export type Stop = z.infer<typeof Stop>;

export const Timings = z.object({
  createdAt: z.iso.datetime(),
  startedAt: z.iso.datetime().nullable(),
  endedAt: z.iso.datetime().nullable(),
  queuedMs: z.number().nullable(),
  sandboxMs: z
    .number()
    .nullable()
    .default(null) // runs that were written down before it was told
    .describe("From the start to the sandbox standing, its guard heard and its receipt made."),
  preparingMs: z.number().nullable().describe("From the start to the prompt being sent."),
  firstOutputMs: z.number().nullable().describe("From the start to the first text of the model."),
  totalMs: z.number().nullable(),
});
export type Timings = z.infer<typeof Timings>;

/** Also of runs that were written down before it was told. */
export const NO_EGRESS: EgressSummary = { allowed: 0, denied: 0, bytesSent: 0, bytesReceived: 0, hosts: [] };

export const Run = z
  .object({
    id: RunId,
    state: RunState,
    outcome: RunOutcome.nullable(),
    output: z.string().nullable().describe("The model's final text."),
    model: z.string(),
    demo: z.boolean().describe("True when the embedded demo model answered: no real AI."),
    usage: Usage,
    egress: EgressSummary.default(NO_EGRESS).describe("Where the run talked to, summed up."),
    stopReason: z.string().nullable(),
    exit: Exit.nullable(),
    stop: Stop.nullable(),
    receipt: Receipt.nullable(),
    harness: RunHarness.nullable(),
    timings: Timings,
    failure: Problem.nullable(),
    metadata: z.record(z.string(), z.string()),
    lastSeq: z.int().describe("Number of the last event written."),
  })
  .describe("A run with its result.");
export type Run = z.infer<typeof Run>;

export const ChangedFile = z.object({
  path: relativePath,
  change: z.enum(["added", "modified", "deleted"]),
  kind: z.enum(["file", "directory", "symlink", "other"]),
  size: z.int(),
  executable: z.boolean(),
  sha256: z.string().optional(),
  kept: z.literal(false).optional().describe("Set where the content was too large to be kept after the run."),
});
export type ChangedFile = z.infer<typeof ChangedFile>;

export const ChangedFiles = z.object({
  runId: RunId,
  files: z.array(ChangedFile),
  truncated: z.boolean(),
});
export type ChangedFiles = z.infer<typeof ChangedFiles>;
