/** What a tool call looks like in events; a caller's own tools join here in a later version. */
import { z } from "zod";

export const ToolCall = z.object({
  callId: z.string(),
  tool: z.string(),
  arguments: z.record(z.string(), z.unknown()),
});
export type ToolCall = z.infer<typeof ToolCall>;

export const ToolResult = z.object({
  callId: z.string(),
  tool: z.string(),
  isError: z.boolean(),
  text: z.string().describe("What the model was told, cut at 64 KiB."),
  truncated: z.boolean(),
  durationMs: z.number().nullable(),
});
export type ToolResult = z.infer<typeof ToolResult>;
