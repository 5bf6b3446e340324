/** What the sidecar's Pi driver and the extension inside Pi must agree on: the claim that opens a closed Pi. */
import { z } from "zod";

export const ModelApi = z.enum(["openai-completions", "openai-responses", "anthropic-messages"]);
export type ModelApi = z.infer<typeof ModelApi>;

export const ClaimSkill = z.strictObject({
  name: z.string(),
  description: z.string(),
  /** Absolute path of SKILL.md inside the sandbox. */
  path: z.string(),
});
export type ClaimSkill = z.infer<typeof ClaimSkill>;

/** Opens one closed Pi, once. It holds a placeholder, never a real key. */
export const Claim = z.strictObject({
  nonce: z.string().regex(/^[0-9a-f]{32}$/),
  provider: z.string(),
  model: z.string(),
  api: ModelApi,
  /** The door inside the sandbox, plain HTTP on loopback. */
  baseUrl: z.string(),
  placeholder: z.string(),
  reasoning: z.boolean(),
  contextWindow: z.int().positive(),
  maxTokens: z.int().positive(),
  /** US dollars per million tokens; null when the price is unknown. */
  price: z
    .strictObject({ input: z.number(), output: z.number(), cacheRead: z.number(), cacheWrite: z.number() })
    .nullable(),
  thinking: z.enum(["off", "minimal", "low", "medium", "high"]),
  /** The only tools that may be declared or executed. */
  tools: z.array(z.string()),
  instructions: z.string(),
  skills: z.array(ClaimSkill),
});
export type Claim = z.infer<typeof Claim>;

/** One model call as the extension saw it end; the sidecar parses this from the status line. */
export const UsageReport = z.object({
  /** HTTP status of the provider's answer, null when none came. */
  httpStatus: z.int().nullable(),
  stopReason: z.string(),
  inputTokens: z.int().nonnegative(),
  outputTokens: z.int().nonnegative(),
  cacheReadTokens: z.int().nonnegative(),
  costUsd: z.number().nullable(),
});
export type UsageReport = z.infer<typeof UsageReport>;
