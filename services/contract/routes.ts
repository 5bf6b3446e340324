/** Every route as data: what it takes, what it answers and which failures it can tell. The OpenAPI page is made of this. */
import { z } from "zod";
import { Capabilities } from "./capabilities.ts";
import { RunEvent } from "./event.ts";
import type { FailureCode } from "./failure.ts";
import { HarnessInfo } from "./harness.ts";
import { ChangedFiles, Run, RunId, RunRequest, RunState } from "./run.ts";

export const MEDIA = {
  json: "application/json",
  problem: "application/problem+json",
  sse: "text/event-stream",
  ndjson: "application/x-ndjson",
  tar: "application/x-tar",
  bytes: "application/octet-stream",
  diff: "text/x-diff",
  text: "text/plain",
} as const;

/** Longest `Prefer: wait`, in seconds; more is clamped. */
export const MAX_WAIT_S = 600;
/** Most runs on one page. */
export const MAX_PAGE = 200;
/** Runs on one page when the caller names no limit. */
export const PAGE = 50;
/** Query parameters with this prefix filter runs by their metadata. */
export const METADATA_PREFIX = "metadata.";

export type Reply = {
  readonly description: string;
  /** Media type to schema, in the server's order of preference. */
  readonly content?: Readonly<Record<string, z.ZodType>>;
  readonly headers?: Readonly<Record<string, string>>;
};

export type Route = {
  readonly method: "get" | "post" | "delete";
  /** OpenAPI template; a last `{path}` takes slashes too. */
  readonly path: string;
  readonly tag: "runs" | "catalogue" | "probes";
  readonly summary: string;
  readonly description?: string;
  /** Probes answer without token, host rule and query rule. */
  readonly probe?: true;
  readonly params?: z.ZodObject;
  /** Unknown query parameters are refused by name. */
  readonly query?: z.ZodObject;
  readonly headers?: z.ZodObject;
  readonly body?: { readonly schema: z.ZodType; readonly required: boolean };
  readonly replies: Readonly<Record<number, Reply>>;
  readonly failures: readonly FailureCode[];
};

const ofRun = z.object({ id: RunId.describe("The run's id.") });

/** Digits only: a query holds text, and `Number` alone would also take `0x10`, `1e2` and blanks. */
function wholeNumber(min: number, max: number): z.ZodType<number, string> {
  return z
    .string()
    .regex(/^\d{1,16}$/, "must be a whole number")
    .transform(Number)
    .pipe(z.int().min(min).max(max))
    .meta({ type: "integer", minimum: min, maximum: max });
}

const ListQuery = z.strictObject({
  limit: wholeNumber(1, MAX_PAGE).optional().describe(`Most runs to answer; ${PAGE} when not given.`),
  before: RunId.optional().describe("Only runs older than this id; the `next` of the page before."),
  state: RunState.optional(),
});

const cursor = wholeNumber(0, Number.MAX_SAFE_INTEGER);

export const EventsQuery = z.strictObject({
  after: cursor.optional().describe("Only events with a greater number."),
});
export const EventsHeaders = z.object({
  "last-event-id": cursor
    .optional()
    .describe("The same as `after`; an EventSource client sends it by itself."),
});

export const RunPage = z
  .object({
    runs: z.array(Run),
    next: RunId.nullable().describe("Give it as `before` for the next page; null on the last."),
  })
  .describe("Runs, newest first.");
export type RunPage = z.infer<typeof RunPage>;

/** One line of the NDJSON form of `POST /run`. */
export const RunLine = z
  .discriminatedUnion("kind", [
    z.object({ kind: z.literal("event"), event: RunEvent }),
    z.object({ kind: z.literal("result"), run: Run }),
  ])
  .describe("Any number of events, then exactly one result.");
export type RunLine = z.infer<typeof RunLine>;

export const HarnessList = z.object({ harnesses: z.array(HarnessInfo) });
export type HarnessList = z.infer<typeof HarnessList>;

export const Health = z.object({ status: z.literal("ok") });
export type Health = z.infer<typeof Health>;

export const ProbeReport = z.object({
  ready: z.boolean(),
  checks: z.record(z.string(), z.object({ ok: z.boolean(), detail: z.string() })),
});
export type ProbeReport = z.infer<typeof ProbeReport>;

const bytes = z.string().describe("Bytes.");
const location = { Location: "Address of the run." };
const streams = { [MEDIA.sse]: RunEvent, [MEDIA.ndjson]: RunEvent };
const framing =
  "As SSE a frame has the event's `seq` as `id` and the event as `data`, without an event name, and a comment is the heartbeat; as NDJSON an event is a line.";

const starting: readonly FailureCode[] = [
  "invalid_request",
  "forbidden",
  "execution_disabled",
  "not_acceptable",
  "too_large",
  "unsupported_media_type",
  "overloaded",
  "draining",
  "sandbox_unavailable",
  "isolation_unavailable",
  "image_missing",
  "harness_unavailable",
  "storage_full",
];

export const ROUTES = {
  getHealth: {
    method: "get",
    path: "/health",
    tag: "probes",
    summary: "The process lives",
    probe: true,
    replies: { 200: { description: "Always, while the process lives.", content: { [MEDIA.json]: Health } } },
    failures: [],
  },
  getLivez: {
    method: "get",
    path: "/livez",
    tag: "probes",
    summary: "Kubernetes liveness probe",
    description: "With `?verbose` the answer is JSON.",
    probe: true,
    replies: {
      200: { description: "Alive.", content: { [MEDIA.text]: z.string(), [MEDIA.json]: ProbeReport } },
    },
    failures: [],
  },
  getReadyz: {
    method: "get",
    path: "/readyz",
    tag: "probes",
    summary: "Kubernetes readiness probe",
    description: "Ready means: accepts runs now. With `?verbose` the answer is JSON with every check.",
    probe: true,
    replies: {
      200: { description: "Accepts runs.", content: { [MEDIA.text]: z.string(), [MEDIA.json]: ProbeReport } },
      503: {
        description: "Does not accept runs now.",
        content: { [MEDIA.text]: z.string(), [MEDIA.json]: ProbeReport },
      },
    },
    failures: [],
  },
  createRun: {
    method: "post",
    path: "/v1/runs",
    tag: "runs",
    summary: "Create a run",
    description: `Answers 202 at once; with \`Prefer: wait=N\` holds the answer for up to N seconds; with \`Accept: text/event-stream\` or \`application/x-ndjson\` streams the events from the first. Leaving never cancels the run. ${framing}`,
    headers: z.object({
      prefer: z
        .string()
        .optional()
        .describe(`\`wait=N\` (RFC 7240): seconds to wait for the end, at most ${MAX_WAIT_S}.`),
    }),
    body: { schema: RunRequest, required: true },
    replies: {
      200: {
        description: "The ended run (after `Prefer: wait`), or the stream of its events.",
        content: { [MEDIA.json]: Run, ...streams },
        headers: { ...location, "Preference-Applied": "`wait=N` where a wait was asked for." },
      },
      202: {
        description: "The run is accepted and goes on.",
        content: { [MEDIA.json]: Run },
        headers: { ...location, "Preference-Applied": "`wait=N` where a wait was asked for." },
      },
    },
    failures: starting,
  },
  runToEnd: {
    method: "post",
    path: "/run",
    tag: "runs",
    summary: "Run to the end in one call",
    description:
      "Answers 200 with the ended run, also when the run failed: `outcome` and `failure` tell. When the caller disconnects, the run is cancelled.",
    body: { schema: RunRequest, required: true },
    replies: {
      200: {
        description: "The ended run, or its events and then the run as lines.",
        content: { [MEDIA.json]: Run, [MEDIA.ndjson]: RunLine },
        headers: location,
      },
    },
    failures: starting,
  },
  listRuns: {
    method: "get",
    path: "/v1/runs",
    tag: "runs",
    summary: "List runs, newest first",
    description:
      "`metadata.KEY=VALUE` filters by metadata and may be given several times with different keys.",
    query: ListQuery,
    replies: { 200: { description: "A page of runs.", content: { [MEDIA.json]: RunPage } } },
    failures: ["invalid_request", "not_acceptable"],
  },
  getRun: {
    method: "get",
    path: "/v1/runs/{id}",
    tag: "runs",
    summary: "One run with its result",
    params: ofRun,
    replies: { 200: { description: "The run.", content: { [MEDIA.json]: Run } } },
    failures: ["invalid_request", "run_not_found", "not_acceptable"],
  },
  deleteRun: {
    method: "delete",
    path: "/v1/runs/{id}",
    tag: "runs",
    summary: "Forget an ended run and its files",
    params: ofRun,
    replies: { 204: { description: "The run is forgotten." } },
    failures: ["invalid_request", "run_not_found", "wrong_state"],
  },
  getRunEvents: {
    method: "get",
    path: "/v1/runs/{id}/events",
    tag: "runs",
    summary: "Events of a run, past and live",
    description: `Ends itself after \`run.ended\`. Resume with \`Last-Event-ID\` or \`after\`. Leaving never cancels the run. ${framing}`,
    params: ofRun,
    query: EventsQuery,
    headers: EventsHeaders,
    replies: {
      200: {
        description: "The events after the given number.",
        content: streams,
      },
      204: { description: "The run has ended and every event was seen; an EventSource client stops here." },
    },
    failures: ["invalid_request", "run_not_found", "not_acceptable", "cursor_expired"],
  },
  cancelRun: {
    method: "post",
    path: "/v1/runs/{id}/cancel",
    tag: "runs",
    summary: "Cancel a run",
    description: "May be repeated. The ended run says when and how it stopped.",
    params: ofRun,
    body: { schema: z.strictObject({}), required: false },
    replies: {
      200: { description: "The run has ended.", content: { [MEDIA.json]: Run } },
      202: { description: "The run is stopping.", content: { [MEDIA.json]: Run } },
    },
    failures: ["invalid_request", "run_not_found", "not_acceptable", "too_large", "unsupported_media_type"],
  },
  getRunFiles: {
    method: "get",
    path: "/v1/runs/{id}/files",
    tag: "runs",
    summary: "What the run changed in its workspace",
    params: ofRun,
    replies: {
      200: {
        description: "The changes as a list, or the changed files as tar.",
        content: { [MEDIA.json]: ChangedFiles, [MEDIA.tar]: bytes },
      },
    },
    failures: ["invalid_request", "run_not_found", "not_acceptable", "wrong_state"],
  },
  getRunFile: {
    method: "get",
    path: "/v1/runs/{id}/files/{path}",
    tag: "runs",
    summary: "One changed file",
    description: "The path may hold slashes.",
    params: ofRun.extend({ path: z.string().describe("Relative to the workspace.") }),
    replies: {
      200: {
        description: "The file's bytes.",
        content: { [MEDIA.bytes]: bytes },
        headers: { "Content-Disposition": "Always an attachment." },
      },
    },
    failures: ["invalid_request", "run_not_found", "not_found", "not_acceptable", "wrong_state"],
  },
  getRunDiff: {
    method: "get",
    path: "/v1/runs/{id}/diff",
    tag: "runs",
    summary: "Unified diff of what the run changed",
    params: ofRun,
    replies: { 200: { description: "The diff.", content: { [MEDIA.diff]: z.string() } } },
    failures: ["invalid_request", "run_not_found", "not_acceptable", "wrong_state"],
  },
  listHarnesses: {
    method: "get",
    path: "/v1/harnesses",
    tag: "catalogue",
    summary: "Which harnesses are here",
    replies: { 200: { description: "The catalogue.", content: { [MEDIA.json]: HarnessList } } },
    failures: ["invalid_request", "not_acceptable"],
  },
  getCapabilities: {
    method: "get",
    path: "/v1/capabilities",
    tag: "catalogue",
    summary: "What this host can really enforce",
    replies: { 200: { description: "The capabilities.", content: { [MEDIA.json]: Capabilities } } },
    failures: ["invalid_request", "not_acceptable"],
  },
  getOpenApi: {
    method: "get",
    path: "/openapi.json",
    tag: "catalogue",
    summary: "This description",
    replies: {
      200: { description: "OpenAPI 3.1.", content: { [MEDIA.json]: z.record(z.string(), z.unknown()) } },
    },
    failures: ["invalid_request", "not_acceptable"],
  },
} as const satisfies Record<string, Route>;

export type OperationId = keyof typeof ROUTES;

/** Failures that every route but the probes can tell. */
export const GUARD_FAILURES: readonly FailureCode[] = [
  "unauthenticated",
  "forbidden",
  "misdirected_request",
  "internal",
];
