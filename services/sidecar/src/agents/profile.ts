/** Resolves a request into an agent: model, instructions, tools, skills. Refuses what the operator does not allow. */
import { z } from "zod";
import { type Credential, type ModelRequest, ToolName, WRITING_TOOLS } from "#contract/agent";
import type { ModelApi } from "#contract/extension";
import type { RunRequest } from "#contract/run";
import { Fault } from "../kernel/fault.ts";
import type { ModelEndpoint } from "../model-endpoint.ts";
import type { ListedPrice } from "../model-price.ts";
import { readDefaultsFile } from "../setting-files.ts";
import { resolveCredential } from "./credential-list.ts";
import type { Provider, ProviderList } from "./provider-list.ts";
import { type ResolvedSkill, resolveSkill } from "./skill-library.ts";

export const DEMO_MODEL = "demo/tour";

export type ProfileModel = {
  readonly provider: string;
  readonly name: string;
  readonly api: ModelApi;
  readonly reasoning: boolean;
  readonly contextWindow: number;
  readonly maxTokens: number;
  readonly price: ListedPrice | null;
};

export type Profile = {
  readonly model: ProfileModel;
  readonly endpoint: ModelEndpoint;
  readonly tools: readonly ToolName[];
  readonly instructions: string;
  readonly skills: readonly ResolvedSkill[];
  readonly thinking: "off" | "minimal" | "low" | "medium" | "high";
  /** True when a shell is among the tools. */
  readonly hasShell: boolean;
};

export const AgentDefaults = z.strictObject({
  instructions: z.string(),
  tools: z.array(ToolName),
  skills: z.array(z.string()),
  reasoning: z.enum(["off", "minimal", "low", "medium", "high"]),
});
export type AgentDefaults = z.infer<typeof AgentDefaults>;

export type ProfileContext = {
  readonly defaults: AgentDefaults;
  readonly providers: ProviderList;
  readonly skillsDir: string;
  readonly defaultModel: string | undefined;
  readonly demoModel: boolean;
  readonly allowedPrograms: readonly string[];
  /** Origins that a request may name although they are private. */
  readonly privateTargets: readonly string[];
  readonly credentials: readonly Credential[];
  /** Operator's keys by provider id. */
  readonly providerKeys: Readonly<Record<string, string>>;
  /** By `provider/name`. */
  readonly prices: ReadonlyMap<string, ListedPrice>;
  /** The operator set a ceiling of cost. */
  readonly isCostLimited: boolean;
};

/** Throws a SettingsError that names the file. */
export function readAgentDefaults(configDir: string): AgentDefaults {
  return readDefaultsFile(configDir, "agent.json", AgentDefaults);
}

/** Throws invalid_request, forbidden, execution_disabled. */
export function resolveProfile(request: RunRequest, context: ProfileContext): Profile {
  const hasShell = mayRunShell(request, context);
  const { model, endpoint } = resolveModel(request, context);
  const tools = resolveTools(request, context, hasShell);
  const wanted = request.agent?.skills ?? context.defaults.skills.map((name) => ({ name }));
  const skills = wanted.map((skill, index) =>
    resolveSkill(skill, `/agent/skills/${index}`, context.skillsDir),
  );
  refuseDoubles(skills);
  return {
    model,
    endpoint,
    tools,
    skills,
    instructions: [context.defaults.instructions, request.agent?.instructions ?? ""]
      .filter(Boolean)
      .join("\n\n"),
    thinking: request.agent?.reasoning ?? context.defaults.reasoning,
    hasShell: tools.includes("bash"),
  };
}

/** The shell is there only when the operator and the request both name it. */
function mayRunShell(request: RunRequest, context: ProfileContext): boolean {
  const wanted = request.execution?.allowedPrograms ?? [];
  wanted.forEach((program, index) => {
    const path = `/execution/allowedPrograms/${index}`;
    if (program !== "bash") {
      const message = "only `bash` is implemented yet";
      throw new Fault("invalid_request", `"${program}" cannot be used: ${message}.`, {
        errors: [{ path, message }],
      });
    }
    if (!context.allowedPrograms.includes(program)) {
      const message = "the operator does not allow this program (PILLION_ALLOWED_PROGRAMS)";
      throw new Fault("execution_disabled", `"${program}" may not be run: ${message}.`, {
        errors: [{ path, message }],
      });
    }
  });
  return wanted.includes("bash");
}

function resolveTools(request: RunRequest, context: ProfileContext, hasShell: boolean): ToolName[] {
  const asked = request.agent?.tools;
  const isReader = request.role === "reader";
  if (asked === undefined) {
    const usual = [...context.defaults.tools, ...(hasShell ? (["bash"] as const) : [])];
    return usual.filter(
      (tool) => !(isReader && WRITING_TOOLS.includes(tool)) && (tool !== "bash" || hasShell),
    );
  }
  asked.forEach((tool, index) => {
    const path = `/agent/tools/${index}`;
    if (isReader && WRITING_TOOLS.includes(tool)) {
      const message = "a reader has no tool that writes";
      throw new Fault("invalid_request", `"${tool}" cannot be given: ${message}.`, {
        errors: [{ path, message }],
      });
    }
    if (tool === "bash" && !hasShell) {
      const message = "bash must be named in execution.allowedPrograms and allowed by the operator";
      throw new Fault("execution_disabled", `The shell is off: ${message}.`, { errors: [{ path, message }] });
    }
  });
  return [...new Set(asked)];
}

function resolveModel(request: RunRequest, context: ProfileContext): Pick<Profile, "model" | "endpoint"> {
  const asked: ModelRequest | undefined = request.model ?? context.defaultModel;
  if (asked === undefined) throw badField("/model", "a model is needed; this service has no default");
  const wanted = typeof asked === "string" ? { name: asked } : asked;
  const slash = wanted.name.indexOf("/");
  const [id, name] = [wanted.name.slice(0, slash), wanted.name.slice(slash + 1)];
  if (id === "demo") return resolveDemo(wanted, context);
  const provider = context.providers[id];
  const baseUrl = wanted.baseUrl ?? provider?.baseUrl;
  const api = wanted.api ?? provider?.api;
  if (baseUrl !== undefined && api === undefined) {
    throw badField(
      "/model/api",
      "an endpoint of your own needs its dialect: openai-completions, openai-responses or anthropic-messages",
    );
  }
  if (baseUrl === undefined || api === undefined) {
    const known = [...Object.keys(context.providers), ...(context.demoModel ? ["demo"] : [])].join(", ");
    throw badField(
      "/model",
      `the provider "${id}" is not configured; known: ${known}; or give baseUrl and api`,
    );
  }
  const facts = provider?.models?.[name];
  const url = new URL(baseUrl);
  return {
    model: {
      provider: id,
      name,
      api,
      reasoning: wanted.reasoning ?? facts?.reasoning ?? false,
      contextWindow: wanted.contextWindow ?? facts?.contextWindow ?? 128_000,
      maxTokens: wanted.maxTokens ?? facts?.maxTokens ?? 16_384,
      price: toPrice(wanted, facts?.price, context),
    },
    endpoint: {
      kind: "http",
      baseUrl: url,
      header: resolveHeader(request, context, {
        id,
        provider,
        url,
        api,
        isOwn: wanted.baseUrl !== undefined,
      }),
      privateAllowed: mayReach(url, wanted.baseUrl !== undefined, context),
    },
  };
}

function resolveDemo(
  wanted: Exclude<ModelRequest, string>,
  context: ProfileContext,
): Pick<Profile, "model" | "endpoint"> {
  if (wanted.name !== DEMO_MODEL) throw badField("/model", `the demo model is called ${DEMO_MODEL}`);
  if (!context.demoModel) throw badField("/model", "the demo model is switched off here");
  if (wanted.baseUrl !== undefined) throw badField("/model/baseUrl", "the demo model has no endpoint");
  const price = { input: 0, output: 0, cacheRead: 0, cacheWrite: 0 };
  return {
    model: {
      provider: "demo",
      name: "tour",
      api: "openai-completions",
      reasoning: false,
      contextWindow: 128_000,
      maxTokens: 4_096,
      price,
    },
    endpoint: { kind: "demo" },
  };
}

/** A request's own URL must be https on a public address, unless the operator listed the origin; answers whether private is meant. */
function mayReach(url: URL, isRequestsOwn: boolean, context: ProfileContext): boolean {
  if (url.username !== "" || url.password !== "" || url.search !== "" || url.hash !== "") {
    throw badField("/model/baseUrl", "must be a plain URL without user, query or fragment");
  }
  if (!isRequestsOwn || context.privateTargets.includes(url.origin)) return true;
  if (url.protocol !== "https:") {
    const message = `must be https, unless the operator lists its origin \`${url.origin}\` in PILLION_PRIVATE_TARGETS`;
    throw new Fault("forbidden", `The model's base URL ${message}.`, {
      errors: [{ path: "/model/baseUrl", message }],
    });
  }
  return false;
}

/**
 * An operator's price goes before a caller's, but for an endpoint of the caller's own, which the caller pays. A ceiling of
 * the operator's is never kept by a price that a caller named: one of nothing would lift it.
 */
function toPrice(
  { name, baseUrl, price }: Exclude<ModelRequest, string>,
  configured: ListedPrice | undefined,
  { prices, isCostLimited }: ProfileContext,
): ListedPrice | null {
  if (baseUrl !== undefined) return price ?? configured ?? null;
  return configured ?? prices.get(name) ?? (isCostLimited ? null : (price ?? null));
}

type ModelHeader = NonNullable<Extract<ModelEndpoint, { kind: "http" }>["header"]>;

/** One that goes with everything that is sent to its host, and so with the model's calls, whatever their path is. */
function isForAll({ pathPrefix, methods }: Credential): boolean {
  return pathPrefix === undefined && methods === undefined;
}

function toHeader({ name, host, header, value }: Credential): ModelHeader {
  return { name: header.toLowerCase(), value, credential: name ?? host };
}

type HeaderQuestion = { id: string; provider: Provider | undefined; url: URL; api: ModelApi; isOwn: boolean };

/** A request's own credential goes before the operator's; the operator's never go to a host that a request chose. */
function resolveHeader(
  request: RunRequest,
  context: ProfileContext,
  { id, provider, url, api, isOwn }: HeaderQuestion,
): ModelHeader | null {
  const index = request.credentials?.findLastIndex(({ host }) => host === url.host) ?? -1;
  const asked = request.credentials?.[index];
  const path = `/credentials/${index}`;
  const own =
    asked === undefined ? undefined : resolveCredential(asked, isOwn ? [] : context.credentials, path);
  if (own !== undefined && (!isForAll(own) || own.env !== undefined)) {
    throw badField(
      path,
      "goes with the model's own calls only: it can have no pathPrefix, methods or env, nor be one that the operator bound to some",
    );
  }
  const operators = isOwn ? [] : context.credentials.filter(isForAll);
  const kept = own ?? operators.find(({ host }) => host === url.host);
  if (kept !== undefined) return toHeader(kept);
  const key = isOwn ? undefined : context.providerKeys[id];
  if (key !== undefined) return { ...toKeyHeader(api, key), credential: toKeySetting(id) };
  if (provider === undefined || isOwn) return null;
  throw badField(
    "/credentials",
    `there is no key for ${provider.title}: send credentials [{host: "${url.host}", ${KEY_HEADER[api]}}] or set ${toKeySetting(id)} where Pillion is started`,
  );
}

const KEY_HEADER: Record<ModelApi, string> = {
  "openai-completions": 'header: "authorization", value: "Bearer …"',
  "openai-responses": 'header: "authorization", value: "Bearer …"',
  "anthropic-messages": 'header: "x-api-key", value: "…"',
};

/** Providers that an operator added have no variable of their own. */
function toKeySetting(id: string): string {
  const own = ["openai", "anthropic", "openrouter"].includes(id);
  return own ? `PILLION_${id.toUpperCase()}_API_KEY` : "PILLION_CREDENTIALS";
}

function toKeyHeader(api: ModelApi, key: string): { name: string; value: string } {
  if (api === "anthropic-messages") return { name: "x-api-key", value: key };
  return { name: "authorization", value: `Bearer ${key}` };
}

function refuseDoubles(skills: readonly ResolvedSkill[]): void {
  const names = new Set<string>();
  skills.forEach(({ name }, index) => {
    if (names.has(name)) throw badField(`/agent/skills/${index}/name`, "this skill is named twice");
    names.add(name);
  });
}

function badField(path: string, message: string): Fault {
  return new Fault("invalid_request", `The request is not valid: ${message}.`, {
    errors: [{ path, message }],
  });
}
