/** The records of Pi's RPC that we read (Pi 1.5.2, docs/rpc.md and docs/json.md); what we do not read may be anything. */
import { z } from "zod";

const TextBlock = z.object({ type: z.literal("text"), text: z.string() });
const ThinkingBlock = z.object({ type: z.literal("thinking"), thinking: z.string() });
const OtherBlock = z.object({ type: z.string() });
const Block = z.union([TextBlock, ThinkingBlock, OtherBlock]);

const AssistantMessage = z.object({
  role: z.literal("assistant"),
  content: z.array(Block),
  stopReason: z.string(),
  errorMessage: z.string().optional(),
});
const UserMessage = z.object({ role: z.literal("user"), content: z.union([z.string(), z.array(Block)]) });
const OtherMessage = z.object({ role: z.string() });
export const PiMessage = z.union([AssistantMessage, UserMessage, OtherMessage]);
export type PiMessage = z.infer<typeof PiMessage>;
export type PiBlock = z.infer<typeof Block>;

const toolOutput = z
  .object({ content: z.array(Block).optional() })
  .optional()
  .catch(undefined);

export const PiResponse = z.object({
  type: z.literal("response"),
  id: z.string().optional(),
  command: z.string(),
  success: z.boolean(),
  error: z.string().optional(),
  data: z.unknown().optional(),
});
export type PiResponse = z.infer<typeof PiResponse>;

const known = [
  z.object({
    type: z.literal("message_update"),
    assistantMessageEvent: z.object({ type: z.string(), delta: z.string().optional() }),
  }),
  z.object({ type: z.literal("message_end"), message: PiMessage }),
  z.object({
    type: z.literal("tool_execution_start"),
    toolCallId: z.string(),
    toolName: z.string(),
    args: z.record(z.string(), z.unknown()).catch({}),
  }),
  z.object({
    type: z.literal("tool_execution_update"),
    toolCallId: z.string(),
    toolName: z.string(),
    partialResult: toolOutput,
  }),
  z.object({
    type: z.literal("tool_execution_end"),
    toolCallId: z.string(),
    toolName: z.string(),
    result: toolOutput,
    isError: z.boolean(),
    durationMs: z.number().optional(),
  }),
  z.object({
    type: z.literal("extension_ui_request"),
    method: z.string(),
    statusKey: z.string().optional(),
    statusText: z.string().optional(),
  }),
  z.object({ type: z.literal("extension_error"), event: z.string(), error: z.string() }),
  z.object({ type: z.literal("auto_retry_start"), attempt: z.number(), delayMs: z.number() }),
  z.object({ type: z.literal("compaction_start"), reason: z.string() }),
  z.object({ type: z.literal("agent_settled"), aborted: z.boolean().optional() }),
] as const;

export const PiRecord = z.discriminatedUnion("type", [PiResponse, ...known]);
export type PiRecord = z.infer<typeof PiRecord>;

const KNOWN_TYPES: ReadonlySet<string> = new Set([
  "response",
  ...known.map((schema) => schema.shape.type.value),
]);
const Envelope = z.object({ type: z.string() });

/** Parses one line; null for a record that we do not read. Throws on what is not a record, or a known one in a wrong shape. */
export function toPiRecord(line: string): PiRecord | null {
  const value: unknown = JSON.parse(line);
  const { type } = Envelope.parse(value);
  return KNOWN_TYPES.has(type) ? PiRecord.parse(value) : null;
}

export const PiCommands = z.object({
  commands: z.array(
    z.object({ name: z.string(), source: z.string(), sourceInfo: z.object({ path: z.string() }) }),
  ),
});

export const PiState = z.object({
  model: z.object({ id: z.string(), provider: z.string(), baseUrl: z.string() }).optional(),
});
