/** The agent of a run: instructions, tools, skills, model. */
import { z } from "zod";
import { ModelApi } from "./extension.ts";

/** Tools of Pi that a run may be given. `bash` needs the operator's and the request's consent as well. */
export const ToolName = z.enum(["read", "grep", "find", "ls", "edit", "write", "bash"]);
export type ToolName = z.infer<typeof ToolName>;

export const WRITING_TOOLS: readonly ToolName[] = ["edit", "write", "bash"];

const skillName = z
  .string()
  .regex(/^[a-z0-9]+(-[a-z0-9]+)*$/, "lower-case letters, digits and single hyphens")
  .max(64);

export const Skill = z.strictObject({
  name: skillName,
  description: z.string().min(1).max(1024).optional().describe("Needed with `content`."),
  content: z
    .string()
    .min(1)
    .max(262_144)
    .optional()
    .describe("SKILL.md's text; without it the name is looked up."),
});
export type Skill = z.infer<typeof Skill>;

export const AgentRequest = z.strictObject({
  instructions: z.string().max(262_144).optional().describe("Added to the harness's own system prompt."),
  tools: z.array(ToolName).max(16).optional().describe("The only tools the run may use; empty means none."),
  skills: z.array(Skill).max(32).optional(),
  reasoning: z.enum(["off", "minimal", "low", "medium", "high"]).optional(),
});
export type AgentRequest = z.infer<typeof AgentRequest>;

/** `provider/name`; the name may hold slashes. */
export const ModelName = z
  .string()
  .max(256)
  .regex(/^[a-z0-9][a-z0-9-]{0,63}\/[A-Za-z0-9][A-Za-z0-9._:/@-]*$/, "must be provider/name");

export const ModelPrice = z.strictObject({
  input: z.number().nonnegative(),
  output: z.number().nonnegative(),
  cacheRead: z.number().nonnegative(),
  cacheWrite: z.number().nonnegative(),
});
export type ModelPrice = z.infer<typeof ModelPrice>;

export const ModelRequest = z.union([
  ModelName,
  z
    .strictObject({
      name: ModelName,
      baseUrl: z
        .url({ protocol: /^https?$/ })
        .max(2048)
        .optional()
        .describe("The provider's base URL."),
      api: ModelApi.optional().describe("The provider's dialect."),
      reasoning: z.boolean().optional(),
      contextWindow: z.int().min(1024).max(10_000_000).optional().describe("Tokens."),
      maxTokens: z.int().min(16).max(1_000_000).optional().describe("Most output tokens of one call."),
      price: ModelPrice.optional().describe("US dollars per million tokens."),
    })
    .describe("A model with its endpoint, for providers the operator has not configured."),
]);
export type ModelRequest = z.infer<typeof ModelRequest>;

const headerName = z.string().regex(/^[A-Za-z0-9-]{1,64}$/, "must be a header name");

/** A shorter one could not be told from ordinary text where it must be taken out. */
export const SHORTEST_SECRET = 8;

export const Credential = z.strictObject({
  host: z
    .string()
    .regex(
      /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:\d{1,5})?$/,
      "must be a lower-case host name, with a port if not the usual one",
    )
    .max(253),
  header: headerName.describe(
    "The header that carries the secret, for example `authorization` or `x-api-key`.",
  ),
  value: z
    .string()
    .min(1)
    .max(16_384)
    .regex(/^[\x20-\x7e]+$/, "must be printable ASCII")
    .refine(
      (value) => value.replace(/^(Bearer|Basic)\s+/i, "").trim().length >= SHORTEST_SECRET,
      `must hold a secret of at least ${SHORTEST_SECRET} characters`,
    )
    .describe("The header's whole value, for example `Bearer …`."),
});
export type Credential = z.infer<typeof Credential>;
