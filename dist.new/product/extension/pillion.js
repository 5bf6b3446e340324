// services/contract/extension-words.ts
var CLAIM_PREFIX = "pillion-claim:";
var PROOF_COMMAND_PREFIX = "pillion-";
var USAGE_STATUS_KEY = "pillion-usage";
var CLOSED_COMMAND = "pillion-closed";

// services/pi-extension/src/claim.ts
function readClaim(text) {
  if (!text.startsWith(CLAIM_PREFIX)) return "none";
  try {
    const value = JSON.parse(text.slice(CLAIM_PREFIX.length));
    return isClaim(value) ? value : "broken";
  } catch {
    return "broken";
  }
}
function isClaim(value) {
  if (typeof value !== "object" || value === null) return false;
  const claim = value;
  const isText = (key) => typeof claim[key] === "string";
  return ["nonce", "provider", "model", "api", "baseUrl", "placeholder", "thinking", "instructions"].every(
    isText
  ) && Array.isArray(claim.tools) && claim.tools.every((tool) => typeof tool === "string") && Array.isArray(claim.skills);
}

// services/pi-extension/src/find-tool.ts
import { access, glob } from "node:fs/promises";
import { join } from "node:path";
import { createFindToolDefinition } from "@earendil-works/pi-coding-agent";
function findTool() {
  return createFindToolDefinition(process.cwd(), {
    operations: {
      exists: (path) => access(path).then(
        () => true,
        () => false
      ),
      glob: findMatches
    }
  });
}
async function findMatches(pattern, root, options) {
  const anywhere = pattern.includes("/") ? pattern : `**/${pattern}`;
  const found = [];
  for await (const path of glob(anywhere, { cwd: root, exclude: options.ignore })) {
    found.push(join(root, path));
    if (found.length >= options.limit) break;
  }
  return found;
}

// services/pi-extension/src/pillion.ts
function pillion(pi) {
  let claim;
  let isTaken = false;
  let httpStatus = null;
  pi.registerTool(findTool());
  pi.registerCommand(CLOSED_COMMAND, {
    description: "Tells that this Pi is kept closed until its claim.",
    handler: async () => {
    }
  });
  pi.on("session_start", () => pi.setActiveTools([]));
  pi.on("input", async (event, ctx) => {
    const offered = readClaim(event.text);
    if (claim !== void 0 && offered === "none") return { action: "continue" };
    if (isTaken || typeof offered === "string") return { action: "handled" };
    isTaken = true;
    claim = await openWith(pi, ctx, offered).catch(() => void 0);
    return { action: "handled" };
  });
  pi.on("before_agent_start", (event) => {
    if (claim === void 0) throw new Error("no claim");
    const options = event.systemPromptOptions;
    options.selectedTools = [...claim.tools];
    if (claim.instructions !== "") options.appendSystemPrompt = claim.instructions;
    options.skills = claim.skills.map((skill) => ({
      name: skill.name,
      description: skill.description,
      filePath: skill.path,
      baseDir: skill.path.slice(0, skill.path.lastIndexOf("/")),
      sourceInfo: { path: skill.path, source: "pillion", scope: "temporary", origin: "top-level" },
      disableModelInvocation: false
    }));
  });
  pi.on("tool_call", (event) => {
    if (claim?.tools.includes(event.toolName)) return void 0;
    return { block: true, reason: `The tool ${event.toolName} is not allowed in this run.` };
  });
  pi.on("user_bash", () => ({
    result: { output: "refused", exitCode: 126, cancelled: false, truncated: false }
  }));
  pi.on("after_provider_response", (event) => {
    httpStatus = event.status;
  });
  pi.on("message_end", (event, ctx) => {
    const message = event.message;
    if (message.role !== "assistant") return;
    const usage = message.usage;
    const report = {
      httpStatus,
      stopReason: message.stopReason,
      inputTokens: usage.input,
      outputTokens: usage.output,
      cacheReadTokens: usage.cacheRead,
      costUsd: claim?.price === null ? null : usage.cost.total
    };
    httpStatus = null;
    ctx.ui.setStatus(USAGE_STATUS_KEY, JSON.stringify(report));
  });
}
async function openWith(pi, ctx, claim) {
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
        maxTokens: claim.maxTokens
      }
    ]
  });
  const model = ctx.modelRegistry.find(claim.provider, claim.model);
  if (model === void 0 || !await pi.setModel(model)) throw new Error("the claimed model was not taken");
  pi.setThinkingLevel(claim.thinking);
  pi.setActiveTools(claim.tools);
  pi.registerCommand(`${PROOF_COMMAND_PREFIX}${claim.nonce}`, {
    description: "Proof that this Pi was opened by its claim.",
    handler: async () => {
    }
  });
  return claim;
}
export {
  pillion as default
};
