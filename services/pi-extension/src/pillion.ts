/** The extension inside every Pi: keeps it closed until one claim opens it, then holds the claim's policy. */
import type { ExtensionAPI, ExtensionContext } from "@earendil-works/pi-coding-agent";
import type { Claim, UsageReport } from "#contract/extension";
import { CLOSED_COMMAND, PROOF_COMMAND_PREFIX, USAGE_STATUS_KEY } from "#contract/extension-words";
import { readClaim } from "./claim.ts";
import { findTool } from "./find-tool.ts";

export default function pillion(pi: ExtensionAPI): void {
  let claim: Claim | undefined;
  let isTaken = false;
  let httpStatus: number | null = null;

  pi.registerTool(findTool());
  pi.registerCommand(CLOSED_COMMAND, {
    description: "Tells that this Pi is kept closed until its claim.",
    handler: async () => {},
  });

  pi.on("session_start", () => pi.setActiveTools([]));

  // Closed: every input is swallowed, and only the first claim has an effect; one that fails leaves Pi closed for good,
  // and the driver, which looks for the proof, ends it. Open: a second claim is swallowed.
  pi.on("input", async (event, ctx) => {
    const offered = readClaim(event.text);
    if (claim !== undefined && offered === "none") return { action: "continue" };
    if (isTaken || typeof offered === "string") return { action: "handled" };
    isTaken = true;
    // What is thrown here Pi would take for leave to go on with the claim as a prompt.
    claim = await openWith(pi, ctx, offered).catch(() => undefined);
    return { action: "handled" };
  });

  pi.on("before_agent_start", (event) => {
    if (claim === undefined) throw new Error("no claim");
    const options = event.systemPromptOptions;
    options.selectedTools = [...claim.tools];
    if (claim.instructions !== "") options.appendSystemPrompt = claim.instructions;
    options.skills = claim.skills.map((skill) => ({
      name: skill.name,
      description: skill.description,
      filePath: skill.path,
      baseDir: skill.path.slice(0, skill.path.lastIndexOf("/")),
      sourceInfo: { path: skill.path, source: "pillion", scope: "temporary", origin: "top-level" },
      disableModelInvocation: false,
    }));
  });

  // The last of three layers: --tools at spawn, the active set at the claim, and this.
  pi.on("tool_call", (event) => {
    if (claim?.tools.includes(event.toolName)) return undefined;
    return { block: true, reason: `The tool ${event.toolName} is not allowed in this run.` };
  });

  pi.on("user_bash", () => ({
    result: { output: "refused", exitCode: 126, cancelled: false, truncated: false },
  }));

  pi.on("after_provider_response", (event) => {
    httpStatus = event.status;
  });

  pi.on("message_end", (event, ctx) => {
    const message = event.message;
    if (message.role !== "assistant") return;
    const usage = message.usage;
    const report: UsageReport = {
      httpStatus,
      stopReason: message.stopReason,
      inputTokens: usage.input,
      outputTokens: usage.output,
      cacheReadTokens: usage.cacheRead,
      costUsd: claim?.price === null ? null : usage.cost.total,
    };
    httpStatus = null;
    ctx.ui.setStatus(USAGE_STATUS_KEY, JSON.stringify(report));
  });
}

async function openWith(pi: ExtensionAPI, ctx: ExtensionContext, claim: Claim): Promise<Claim> {
  pi.registerProvider(claim.provider, {
    baseUrl: claim.baseUrl,
    // Pi expands $NAME and !command in keys; a placeholder is letters, digits and underscores only.
    apiKey: claim.placeholder,
    api: claim.api,
    models: [
      {
        id: claim.model,
        name: claim.model,
        reasoning: claim.reasoning,
        input: ["text", "image"],
        cost: claim.price ?? { input: 0, output: 0, cacheRead: 0, cacheWrite: 0 },
        contextWindow: claim.contextWindow,
        maxTokens: claim.maxTokens,
      },
    ],
  });
  const model = ctx.modelRegistry.find(claim.provider, claim.model);
  if (model === undefined || !(await pi.setModel(model))) throw new Error("the claimed model was not taken");
  pi.setThinkingLevel(claim.thinking);
  pi.setActiveTools(claim.tools);
  pi.registerCommand(`${PROOF_COMMAND_PREFIX}${claim.nonce}`, {
    description: "Proof that this Pi was opened by its claim.",
    handler: async () => {},
  });
  return claim;
}
