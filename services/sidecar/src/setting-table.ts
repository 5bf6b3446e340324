/** The one table of settings: names, kinds, defaults and what each is for; flags, docs and reading come from it. */
import { z } from "zod";
import { ModelName } from "#contract/agent";
import { EgressPattern } from "#contract/egress";
import { ImageDigest } from "#contract/sandbox";
import {
  absolutePath,
  addressToBind,
  bytes,
  choice,
  credentialsJson,
  decimal,
  durationMs,
  hostName,
  list,
  privateTarget,
  secretText,
  wholeNumber,
  yesOrNo,
} from "./setting-kinds.ts";

export type SettingKind = "text" | "number" | "boolean" | "bytes" | "duration" | "path" | "choice";

export type SettingMeta = {
  readonly kind: SettingKind;
  /** As it would be written in the environment; absent when there is none or when it has to be found out. */
  readonly default?: string;
  /** What the docs say where the default is not a fixed text. */
  readonly defaultNote?: string;
  /** One sentence. */
  readonly description: string;
  readonly secret?: true;
  readonly list?: true;
};

const metas = z.registry<SettingMeta>();

const secret = { kind: "text", secret: true } as const;

export const SettingTable = z.object({
  host: addressToBind().register(metas, {
    kind: "text",
    default: "127.0.0.1",
    description: "Address to listen on; beyond loopback a token is needed.",
  }),
  port: wholeNumber(0, 65_535).register(metas, {
    kind: "number",
    default: "8765",
    description: "Port to listen on; 0 takes a free one.",
  }),
  home: absolutePath().register(metas, {
    kind: "path",
    defaultNote: "`$XDG_DATA_HOME/pillion`, else `~/.local/share/pillion`",
    description: "Data directory: journal, store and what runs leave behind.",
  }),
  token: secretText()
    .optional()
    .register(metas, { ...secret, description: "Bearer token that opens every route but the probes." }),
  allowAnonymous: yesOrNo().register(metas, {
    kind: "boolean",
    default: "false",
    description: "Serves everybody who can reach the port, without a token; logged at every start.",
  }),
  allowedHosts: list(hostName()).register(metas, {
    kind: "text",
    list: true,
    default: "",
    description: "Host names served besides loopback, as a Host header has them.",
  }),
  sandbox: choice(["auto", "local", "docker"]).register(metas, {
    kind: "choice",
    default: "auto",
    description: "Where runs live: `auto` (the strongest present), `local` or `docker`.",
  }),
  allowUnisolated: yesOrNo().register(metas, {
    kind: "boolean",
    default: "false",
    description: "Lets runs start where isolation cannot be had; every receipt then says what is missing.",
  }),
  dockerHost: z
    .string()
    .regex(
      /^(unix:\/\/\/|tcp:\/\/)[^\s]+$/,
      "must look like `unix:///var/run/docker.sock` or `tcp://host:port`",
    )
    .register(metas, {
      kind: "text",
      defaultNote: "`DOCKER_HOST`, else `unix:///var/run/docker.sock`",
      description: "Container engine for docker sandboxes.",
    }),
  image: z.string().min(1).max(512).register(metas, {
    kind: "text",
    default: "pillion-agent:base",
    description: "Image of docker sandboxes, as the engine knows it.",
  }),
  allowedImages: list(ImageDigest).register(metas, {
    kind: "text",
    list: true,
    default: "",
    description:
      "Other images that a request may name, each by digest (`name@sha256:…`, or `sha256:…` for one built on the engine).",
  }),
  browserImages: list(z.string().max(512)).register(metas, {
    kind: "text",
    list: true,
    default: "",
    description:
      "Of the images above, those whose runs may make the namespaces that Chromium's own sandbox needs; the receipt says so.",
  }),
  openNetwork: z
    .string()
    .regex(
      /^(?!host$|none$|default$)[a-zA-Z0-9][\w.-]{0,127}$/,
      "must be the name of a network of the engine, not the host's",
    )
    .optional()
    .register(metas, {
      kind: "text",
      description:
        "Network of the engine that `network: open` means, for example `bridge`; without it such requests are refused. Egress is not enforced on it.",
    }),
  runtime: z
    .string()
    .regex(/^[\w.-]{1,64}$/, "must be the name of a runtime of the engine")
    .register(metas, {
      kind: "text",
      default: "runc",
      description: "Runtime of docker sandboxes, for example `runsc` for gVisor.",
    }),
  cpus: wholeNumber(1, 1024).register(metas, {
    kind: "number",
    default: "4",
    description: "Most processors of a docker sandbox; never more than the engine has.",
  }),
  memory: bytes("64m", "4096g").register(metas, {
    kind: "bytes",
    default: "8g",
    description: "Most memory of a docker sandbox, its workspace included; there is no swap beyond it.",
  }),
  pids: wholeNumber(16, 65_536).register(metas, {
    kind: "number",
    default: "512",
    description: "Most processes and threads of a run.",
  }),
  allowedPrograms: list(z.string().max(256, "must have at most 256 characters each")).register(metas, {
    kind: "text",
    list: true,
    default: "",
    description: "Programs that a run may be given, for example `bash`; none by default.",
  }),
  workspaceRoots: list(z.string().max(4096, "must have at most 4096 characters each")).register(metas, {
    kind: "path",
    list: true,
    default: "",
    description: "Existing directories under which a request may name its workspace.",
  }),
  referenceRoots: list(z.string().max(4096, "must have at most 4096 characters each")).register(metas, {
    kind: "path",
    list: true,
    default: "",
    description:
      "Existing directories under which a request may name references, beside the workspaces' roots.",
  }),
  concurrency: wholeNumber(1, 256).register(metas, {
    kind: "number",
    default: "4",
    description: "Most runs that go on at the same time.",
  }),
  queue: wholeNumber(0, 10_000).register(metas, {
    kind: "number",
    default: "16",
    description: "Most runs that wait for their turn; beyond it requests get a 429.",
  }),
  wallMs: durationMs("1ms", "168h").register(metas, {
    kind: "duration",
    default: "30m",
    description: "Most time a run may take.",
  }),
  idleMs: durationMs("1ms", "168h").register(metas, {
    kind: "duration",
    default: "5m",
    description: "Most time a run may be silent.",
  }),
  steps: wholeNumber(1, 100_000).register(metas, {
    kind: "number",
    default: "200",
    description: "Most model calls of a run.",
  }),
  requests: wholeNumber(1, 10_000_000).register(metas, {
    kind: "number",
    default: "10000",
    description: "Most requests of a run through its door, model calls and refused ones included.",
  }),
  egressBytes: bytes("1k", "4096g").register(metas, {
    kind: "bytes",
    default: "1g",
    description: "Most bytes that a run may send and receive through its door, model calls included.",
  }),
  tokens: wholeNumber(1, 1_000_000_000_000)
    .optional()
    .register(metas, { kind: "number", description: "Most tokens of a run, of input and output together." }),
  costUsd: decimal(0.000001, 1_000_000).optional().register(metas, {
    kind: "number",
    description:
      "Most US dollars that a run may cost; runs of models without a known price are refused then.",
  }),
  prepareMs: durationMs("1ms", "1h").register(metas, {
    kind: "duration",
    default: "30s",
    description: "Most time to set a run up.",
  }),
  requestBytes: bytes("1k", "256m").register(metas, {
    kind: "bytes",
    default: "8m",
    description: "Largest request body.",
  }),
  workspaceBytes: bytes("1m", "1024g").register(metas, {
    kind: "bytes",
    default: "1g",
    description: "Most bytes that a run's workspace may hold.",
  }),
  modelRetries: wholeNumber(0, 10).register(metas, {
    kind: "number",
    default: "2",
    description:
      "How often a model call that failed for a passing reason (429, 5xx, a cut line) is made again.",
  }),
  demoModel: yesOrNo().register(metas, {
    kind: "boolean",
    default: "true",
    description: "Offers the built-in `demo/tour` model, which is no real AI and needs no key.",
  }),
  model: ModelName.optional().register(metas, {
    kind: "text",
    defaultNote: "`demo/tour` while the demo model is offered and no key is set, else none",
    description: "Model of a request that names none, as `provider/name`.",
  }),
  logLevel: choice(["trace", "debug", "info", "warn", "error", "fatal", "silent"]).register(metas, {
    kind: "choice",
    default: "info",
    description: "Least severity that is logged: trace, debug, info, warn, error, fatal or silent.",
  }),
  drainMs: durationMs("0ms", "1h").register(metas, {
    kind: "duration",
    default: "8s",
    description: "How long runs may go on after a stop was asked for, before they are ended.",
  }),
  sweepMs: durationMs("100ms", "1h").register(metas, {
    kind: "duration",
    default: "1m",
    description: "How often the container engine is searched for what ended runs have left there.",
  }),
  egress: list(EgressPattern).optional().register(metas, {
    kind: "text",
    list: true,
    defaultNote: "`egress.json` in the directory of the product's defaults, which names none",
    description:
      "Hosts that runs may reach where their requests name them, like `api.example.com`, `*.example.com`, `host:8443` or `http://host`; a single `,` means none.",
  }),
  privateTargets: list(privateTarget()).register(metas, {
    kind: "text",
    list: true,
    default: "",
    description:
      "Exact origins that may be reached although private, like `http://127.0.0.1:9000`, or `http://models.internal:8080=10.1.0.0/16` for one that must lie in a range; a cloud's metadata never.",
  }),
  openaiApiKey: secretText()
    .optional()
    .register(metas, { ...secret, description: "Key for models of the provider `openai`." }),
  anthropicApiKey: secretText()
    .optional()
    .register(metas, { ...secret, description: "Key for models of the provider `anthropic`." }),
  openrouterApiKey: secretText()
    .optional()
    .register(metas, { ...secret, description: "Key for models of the provider `openrouter`." }),
  credentials: credentialsJson()
    .optional()
    .register(metas, {
      ...secret,
      description:
        "Credentials that the service holds, as a JSON array of `{name, host, header, value}`: one for a model's host is used by itself, others where a request names them.",
    }),
  configDir: absolutePath().register(metas, {
    kind: "path",
    defaultNote: "`config` next to the program",
    description: "Directory of the product's defaults.",
  }),
  skillsDir: absolutePath().register(metas, {
    kind: "path",
    defaultNote: "`skills` next to the program",
    description: "Directory of the skills that requests may name.",
  }),
  uidBase: wholeNumber(1000, 4_000_000_000).register(metas, {
    kind: "number",
    default: "240000",
    description: "First of the unprivileged user ids that a sidecar run as root gives to runs.",
  }),
});

export type SettingEntry = SettingMeta & {
  /** As code and the config file spell it. */
  readonly name: string;
  readonly env: string;
  /** A secret's flag names a file: an argument list can be read by everybody on the machine. */
  readonly flag: string;
};

/** Names the config file itself; it cannot stand inside one. */
export const CONFIG_ENTRY: SettingEntry = {
  name: "config",
  env: "PILLION_CONFIG",
  flag: "--config",
  kind: "path",
  description: "JSON file of settings by their names in camelCase.",
};

/** Every setting in the order of the table, with its names. */
export const SETTINGS: readonly SettingEntry[] = Object.entries(SettingTable.shape).map(([name, schema]) => {
  const meta = metas.get(schema);
  if (meta === undefined) throw new Error(`the setting ${name} has no description`);
  return {
    ...meta,
    name,
    env: `PILLION_${toWords(name, "_").toUpperCase()}`,
    flag: `--${toWords(name, "-")}${meta.secret ? "-file" : ""}`,
  };
});

function toWords(name: string, separator: string): string {
  return name.replace(/[A-Z]/g, (letter) => separator + letter.toLowerCase());
}
