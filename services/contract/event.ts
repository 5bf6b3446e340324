/** What a run tells, numbered from 1 without gaps; `run.ended` is always the last. */
import { z } from "zod";
import { EgressBody, EgressSummary } from "./egress.ts";
import { Problem } from "./failure.ts";
import { RunHarness } from "./harness.ts";
import { Exit, NO_EGRESS, RunId, RunOutcome, Stop, Usage } from "./run.ts";
import { Receipt } from "./sandbox.ts";
import { ToolCall, ToolResult } from "./tool.ts";

const bodies = {
  "run.started": {
    runId: RunId,
    state: z.literal("queued"),
    model: z.string(),
    demo: z.boolean(),
  },
  "message.delta": { text: z.string() },
  message: { role: z.enum(["user", "assistant"]), text: z.string() },
  "thought.delta": { text: z.string() },
  thought: { text: z.string() },
  "tool.call": ToolCall.shape,
  "tool.update": { callId: z.string(), tool: z.string(), text: z.string() },
  "tool.result": ToolResult.shape,
  usage: {
    call: z.int(),
    httpStatus: z.int().nullable(),
    stopReason: z.string(),
    usage: Usage.describe("This call only."),
    total: Usage,
  },
  egress: EgressBody,
  notice: {
    level: z.enum(["info", "warning"]),
    topic: z.enum(["sandbox", "harness", "retry", "limit", "compaction", "results", "usage"]),
    text: z.string(),
    receipt: Receipt.optional(),
    harness: RunHarness.optional(),
  },
  "run.ended": {
    runId: RunId,
    outcome: RunOutcome,
    output: z.string().nullable(),
    stopReason: z.string().nullable(),
    usage: Usage,
    egress: EgressSummary.default(NO_EGRESS),
    exit: Exit.nullable(),
    stop: Stop.nullable(),
    failure: Problem.nullable(),
  },
} as const;

const envelope = {
  seq: z.int().min(1).describe("Counts from 1 within a run, without gaps; it is the SSE id."),
  at: z.iso.datetime(),
};

function eventOf<T extends keyof typeof bodies>(type: T) {
  return z.object({ ...envelope, type: z.literal(type), ...bodies[type] });
}

function bodyOf<T extends keyof typeof bodies>(type: T) {
  return z.object({ type: z.literal(type), ...bodies[type] });
}

export const RunEvent = z
  .discriminatedUnion("type", [
    eventOf("run.started"),
    eventOf("message.delta"),
    eventOf("message"),
    eventOf("thought.delta"),
    eventOf("thought"),
    eventOf("tool.call"),
    eventOf("tool.update"),
    eventOf("tool.result"),
    eventOf("usage"),
    eventOf("egress"),
    eventOf("notice"),
    eventOf("run.ended"),
  ])
  .describe("One event of a run.");
export type RunEvent = z.infer<typeof RunEvent>;

/** An event before it is numbered and dated. */
export const EventBody = z.discriminatedUnion("type", [
  bodyOf("run.started"),
  bodyOf("message.delta"),
  bodyOf("message"),
  bodyOf("thought.delta"),
  bodyOf("thought"),
  bodyOf("tool.call"),
  bodyOf("tool.update"),
  bodyOf("tool.result"),
  bodyOf("usage"),
  bodyOf("egress"),
  bodyOf("notice"),
  bodyOf("run.ended"),
]);
export type EventBody = z.infer<typeof EventBody>;
