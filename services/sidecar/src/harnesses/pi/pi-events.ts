/** From Pi's records to our events: a pure fold, tested on recorded traffic. */
import type { EventBody } from "#contract/event";
import { UsageReport } from "#contract/extension";
import { USAGE_STATUS_KEY } from "#contract/extension-words";
import type { Usage } from "#contract/run";
import { toMoney } from "../../model-price.ts";
import type { PiBlock, PiMessage, PiRecord } from "./pi-records.ts";

const MAX_TEXT_CHARS = 65_536;
/** What the model says is the run's output, so it has more room; no model's answer is that long. */
const MAX_SAID_CHARS = 1_048_576;

export type PiFold = {
  /** Text of the last assistant message that had any. */
  readonly output: string | null;
  /** Of the last assistant message. */
  readonly stopReason: string | null;
  readonly errorMessage: string | null;
  /** HTTP status of the last model call, null when no answer came. */
  readonly httpStatus: number | null;
  readonly usage: Usage;
  /** Set when a handler of our extension threw: the policy can no longer be relied on. */
  readonly extensionError: string | null;
  readonly settled: boolean;
};

export const NO_USAGE: Usage = {
  inputTokens: 0,
  outputTokens: 0,
  cacheReadTokens: 0,
  costUsd: 0,
  modelCalls: 0,
};

export const EMPTY_FOLD: PiFold = {
  output: null,
  stopReason: null,
  errorMessage: null,
  httpStatus: null,
  usage: NO_USAGE,
  extensionError: null,
  settled: false,
};

export type PiStep = { readonly fold: PiFold; readonly events: readonly EventBody[] };

/** One record: the new fold and the events that it makes. */
export function foldPiRecord(fold: PiFold, record: PiRecord): PiStep {
  switch (record.type) {
    case "message_update":
      return { fold, events: toDelta(record.assistantMessageEvent) };
    case "message_end":
      return foldMessage(fold, record.message);
    case "tool_execution_start":
      return {
        fold,
        events: [
          {
            type: "tool.call",
            callId: record.toolCallId,
            tool: record.toolName,
            arguments: boundArguments(record.args),
          },
        ],
      };
    case "tool_execution_update": {
      const { text } = bound(toText(record.partialResult?.content ?? []));
      return {
        fold,
        events: [{ type: "tool.update", callId: record.toolCallId, tool: record.toolName, text }],
      };
    }
    case "tool_execution_end":
      return { fold, events: [toToolResult(record)] };
    case "extension_ui_request":
      return record.statusKey === USAGE_STATUS_KEY
        ? foldUsage(fold, record.statusText ?? "")
        : { fold, events: [] };
    case "extension_error":
      return { fold: { ...fold, extensionError: `${record.event}: ${record.error}` }, events: [] };
    case "auto_retry_start":
      return {
        fold,
        events: [
          {
            type: "notice",
            level: "info",
            topic: "retry",
            text: `The model call failed for a passing reason; retry ${record.attempt} in ${record.delayMs} ms.`,
          },
        ],
      };
    case "compaction_start":
      return {
        fold,
        events: [
          {
            type: "notice",
            level: "info",
            topic: "compaction",
            text: "The conversation is being shortened.",
          },
        ],
      };
    case "agent_settled":
      return { fold: { ...fold, settled: true }, events: [] };
    case "response":
      return { fold, events: [] };
  }
}

function toDelta(event: { type: string; delta?: string | undefined }): EventBody[] {
  if (event.delta === undefined || event.delta === "") return [];
  if (event.type === "text_delta") return [{ type: "message.delta", text: boundSaid(event.delta) }];
  if (event.type === "thinking_delta") return [{ type: "thought.delta", text: boundSaid(event.delta) }];
  return [];
}

function foldMessage(fold: PiFold, message: PiMessage): PiStep {
  if (message.role === "user" && "content" in message) {
    const text = typeof message.content === "string" ? message.content : toText(message.content);
    return { fold, events: [{ type: "message", role: "user", text: boundSaid(text) }] };
  }
  if (message.role !== "assistant" || !("stopReason" in message)) return { fold, events: [] };
  const text = boundSaid(toText(message.content));
  const thought = boundSaid(
    message.content.flatMap((block) => ("thinking" in block ? [block.thinking] : [])).join("\n"),
  );
  return {
    fold: {
      ...fold,
      output: text === "" ? fold.output : text,
      stopReason: message.stopReason,
      errorMessage: message.stopReason === "error" ? (message.errorMessage ?? "") : null,
    },
    events: [
      ...(thought === "" ? [] : [{ type: "thought" as const, text: thought }]),
      ...(text === "" ? [] : [{ type: "message" as const, role: "assistant" as const, text }]),
    ],
  };
}

function foldUsage(fold: PiFold, statusText: string): PiStep {
  const report = UsageReport.parse(JSON.parse(statusText));
  const call: Usage = {
    inputTokens: report.inputTokens,
    outputTokens: report.outputTokens,
    cacheReadTokens: report.cacheReadTokens,
    costUsd: report.costUsd === null ? null : toMoney(report.costUsd),
    modelCalls: 1,
  };
  const usage = addUsage(fold.usage, call);
  const { httpStatus, stopReason } = report;
  return {
    fold: { ...fold, usage, httpStatus },
    events: [{ type: "usage", call: usage.modelCalls, httpStatus, stopReason, usage: call, total: usage }],
  };
}

/** Sums; the cost of a sum with an unknown price is unknown. */
export function addUsage(a: Usage, b: Usage): Usage {
  return {
    inputTokens: a.inputTokens + b.inputTokens,
    outputTokens: a.outputTokens + b.outputTokens,
    cacheReadTokens: a.cacheReadTokens + b.cacheReadTokens,
    costUsd: a.costUsd === null || b.costUsd === null ? null : toMoney(a.costUsd + b.costUsd),
    modelCalls: a.modelCalls + b.modelCalls,
  };
}

/** Without the noise of binary fractions: a millionth of a cent is exact enough. */
function toToolResult(record: Extract<PiRecord, { type: "tool_execution_end" }>): EventBody {
  return {
    type: "tool.result",
    callId: record.toolCallId,
    tool: record.toolName,
    isError: record.isError,
    ...bound(toText(record.result?.content ?? [])),
    durationMs: record.durationMs ?? null,
  };
}

function toText(blocks: readonly PiBlock[]): string {
  return blocks.flatMap((block) => ("text" in block ? [block.text] : [])).join("\n");
}

function bound(text: string, maxChars = MAX_TEXT_CHARS): { text: string; truncated: boolean } {
  if (text.length <= maxChars) return { text, truncated: false };
  return { text: `${text.slice(0, maxChars)}\n[truncated]`, truncated: true };
}

function boundSaid(text: string): string {
  return bound(text, MAX_SAID_CHARS).text;
}

/** A write of a large file would otherwise stand in the journal whole; nor may many or deep arguments. */
function boundArguments(args: Record<string, unknown>): Record<string, unknown> {
  const bounded = Object.fromEntries(
    Object.entries(args).map(([name, value]) => [
      name,
      typeof value === "string" ? bound(value).text : value,
    ]),
  );
  const text = JSON.stringify(bounded);
  return text.length <= MAX_SAID_CHARS ? bounded : { truncated: bound(text).text };
}
