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

/** Not those that say where a message goes or ends: they are the broker's. */
const headerName = z
  .string()
  .regex(/^[A-Za-z0-9-]{1,64}$/, "must be a header name")
  .refine(
    (name) =>
      !/^(host|connection|keep-alive|te|trailer|transfer-encoding|upgrade|expect|content-.*|proxy-.*)$/i.test(
        name,
      ),
    "must be a header that can carry a secret",
  );

/** A shorter one could not be told from ordinary text where it must be taken out. */
export const SHORTEST_SECRET = 8;

/** Only names that say what they are: a variable such as `LD_PRELOAD` would change programs. */
const secretVariable = z
  .string()
  .max(64)
  .regex(
    /^[A-Z][A-Z0-9_]*_(TOKEN|KEY|SECRET|PASSWORD|PAT)$/,
    "must be in upper case and end in _TOKEN, _KEY, _SECRET, _PASSWORD or _PAT",
  );

const boundFields = {
  name: z
    .string()
    .regex(/^[a-z0-9][a-z0-9._-]{0,63}$/, "must be lower-case letters, digits, dots, hyphens or underscores")
    .optional()
    .describe("What events call it; its host unless given."),
  host: z
    .string()
    .regex(
      /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:\d{1,5})?$/,
      "must be a lower-case host name, with a port if not the usual one",
    )
    .max(253)
    .describe("The only host that it is sent to."),
  header: headerName.describe(
    "The header that carries the secret, for example `authorization` or `x-api-key`.",
  ),
  pathPrefix: z
    .string()
    .max(1024)
    .regex(/^\/[\x21-\x7e]*$/, "must begin with a slash, without blanks")
    .refine((path) => !/[?#%\\]|\/\.{0,2}\/|\/\.{1,2}$/.test(path), "must be a plain path")
    .optional()
    .describe("It is sent only with requests at or below this path."),
  methods: z
    .array(z.enum(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]))
    .min(1)
    .max(7)
    .optional()
    .describe("It is sent only with these methods."),
  env: secretVariable
    .optional()
    .describe(
      "Environment variable inside the sandbox that holds the placeholder, for programs that ask for one.",
    ),
};

const secretValue = z
  .string()
  .min(1)
  .max(16_384)
  .regex(/^[\x20-\x7e]+$/, "must be printable ASCII")
  .refine(
    (value) => value.replace(/^(Bearer|Basic)\s+/i, "").trim().length >= SHORTEST_SECRET,
    `must hold a secret of at least ${SHORTEST_SECRET} characters`,
  )
  .describe("The header's whole value, for example `Bearer …`.");

/** A secret and the one place that it may be sent to. An operator's entries always have a value. */
export const Credential = z.strictObject({ ...boundFields, value: secretValue });
export type Credential = z.infer<typeof Credential>;

/** As a request gives it: with its value, or with the name of one that the operator holds. */
export const CredentialRequest = z
  .strictObject({
    ...boundFields,
    value: secretValue.optional(),
    valueFrom: z
      .string()
      .max(64)
      .optional()
      .describe("Name of a credential of the operator's, which has the same host and header."),
  })
  .refine(
    ({ value, valueFrom }) => (value === undefined) !== (valueFrom === undefined),
    "needs either `value` or `valueFrom`",
  );
export type CredentialRequest = z.infer<typeof CredentialRequest>;
