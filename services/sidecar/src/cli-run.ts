/** `pillion run` as data: its flags, and the request and options they make. */
import { basename, resolve } from "node:path";
import type { Command } from "commander";
import type { ZodError } from "zod";
import type { InlineFile } from "#contract/run";
import { decimal, durationMs, wholeNumber } from "./setting-kinds.ts";

export type RunCommand = {
  readonly command: "run";
  readonly request: RequestDraft;
  readonly options: RunOptions;
};

/** A request as far as flags tell it; the contract has not looked at it yet. */
export type RequestDraft = Readonly<Record<string, unknown>>;

export type RunOptions = {
  /** The rest of the request stands as JSON on stdin. */
  readonly requestFromStdin: boolean;
  /** Events as NDJSON on stdout. */
  readonly stream: boolean;
  /** The ended run as JSON on stdout, instead of its text; with `stream` it is the last line. */
  readonly json: boolean;
  /** Absolute directory that gets the changed files. */
  readonly outputDir: string | undefined;
  /** Local files to put into the workspace: `from` is absolute, `path` is relative to the workspace. */
  readonly files: readonly { readonly path: string; readonly from: string }[];
  /** Absolute config file of the settings; all other settings of `run` come from the environment. */
  readonly config: string | undefined;
};

export type Terminal = { readonly version: string; readonly stdinIsTerminal: boolean; readonly cwd: string };

export const DEMO_MODEL = "demo/tour";
export const DEMO_PROMPT = "Show me what a run looks like.";

export type RunFlags = {
  readonly prompt?: string;
  readonly model?: string;
  readonly harness?: string;
  readonly workspace?: string;
  readonly file?: readonly string[];
  readonly instructions?: string;
  readonly tool?: readonly string[];
  readonly skill?: readonly string[];
  readonly allowProgram?: readonly string[];
  readonly egress?: readonly string[];
  readonly sandbox?: string;
  readonly role?: string;
  readonly limitWall?: string;
  readonly limitIdle?: string;
  readonly limitSteps?: string;
  readonly limitRequests?: string;
  readonly limitTokens?: string;
  readonly limitCost?: string;
  readonly metadata?: readonly string[];
  readonly demo?: boolean;
  readonly stream?: boolean;
  readonly json?: boolean;
  readonly outputDir?: string;
  readonly config?: string;
};

/** Adds `run` with its flags to the program. */
export function addRun(program: Command): Command {
  const collect = (item: string, before: readonly string[] = []): string[] => [...before, item];
  return program
    .command("run")
    .description("Do one run here and give its result on stdout.")
    .argument("[prompt]", "what to do; `-` reads the whole request as JSON from stdin")
    .option("--prompt <text>", "what to do, as a flag")
    .option("--model <provider/name>", "model to use")
    .option("--harness <id>", "agent program to use (default: pi)")
    .option("--workspace <dir>", "directory to work in, under an allowed root (default: an empty one)")
    .option(
      "--file <[path=]local>",
      "put a copy of a local file into the workspace; may be repeated",
      collect,
    )
    .option("--instructions <text>", "added to the agent's own instructions")
    .option("--tool <name>", "allow this tool and no other; may be repeated", collect)
    .option("--skill <name>", "give this skill; may be repeated", collect)
    .option("--allow-program <name>", "allow this program, if the operator does; may be repeated", collect)
    .option("--egress <host>", "let the run reach this host, if the operator does; may be repeated", collect)
    .option("--sandbox <kind>", "auto, local or docker")
    .option("--role <role>", "worker, or reader: can never write")
    .option("--limit-wall <time>", "most time for the run, like 90s or 10m")
    .option("--limit-idle <time>", "most time without any event")
    .option("--limit-steps <n>", "most model calls")
    .option("--limit-requests <n>", "most requests through the door, model calls included")
    .option("--limit-tokens <n>", "most tokens, of input and output together")
    .option("--limit-cost <dollars>", "most US dollars; refused for a model without a known price")
    .option("--metadata <key=value>", "label the run; may be repeated", collect)
    .option("--demo", "use the built-in demo model: no key, no real AI")
    .option("--stream", "print every event as a JSON line")
    .option("--json", "print the ended run as JSON")
    .option("--output-dir <dir>", "copy changed files to this directory")
    .option("--config <file>", "JSON file of settings; the other settings come from PILLION_… variables")
    .allowExcessArguments(false)
    .showHelpAfterError("Try: pillion run --help")
    .addHelpText("after", RUN_EXAMPLES);
}

const RUN_EXAMPLES = `
Without a prompt the request is read as JSON from stdin, if stdin is not a terminal. It may hold
everything that the HTTP interface takes (docs/api.md); flags go before it. What has no flag goes
there: credentials, a model's own baseUrl, api and price, references, files with their contents.

Exit codes:
  0 succeeded, 1 failed, or ended by a limit of calls, requests, tokens or cost, 2 bad usage,
  124 timed out, 125 sandbox could not be set up, 126 harness not executable,
  127 harness not found, 130 cancelled, 137 killed or out of memory

Examples:
  pillion run --demo
  pillion run "Fix the typos" --file README.md --model openai/gpt-5 --output-dir fixed
  pillion run "Sort these notes" --file notes.md --limit-tokens 200000 --limit-cost 0.50
  PILLION_EGRESS=api.example.com PILLION_ALLOWED_PROGRAMS=bash pillion run \\
    "What is new at api.example.com?" --egress api.example.com --allow-program bash
  pillion run --role reader --workspace /srv/projects/shop "Where are orders validated?"
  echo '{"prompt": "Say hello", "model": "demo/tour"}' | pillion run --stream
  pillion run - <<'JSON'
  {"prompt": "Say hello", "model": {"name": "acme/large", "baseUrl": "https://models.acme.example/v1",
   "api": "openai-completions"}, "credentials": [{"host": "models.acme.example",
   "header": "authorization", "value": "Bearer 0123456789"}]}
  JSON
`;

/** A request and options out of the flags, or what is wrong with them in words. */
export function toRun(
  argument: string | undefined,
  flags: RunFlags,
  terminal: Terminal,
): RunCommand | { readonly misuse: string } {
  const misuse = findMisuse(argument, flags, terminal);
  if (misuse !== undefined) return { misuse };
  const limits = toLimits(flags);
  if (typeof limits === "string") return { misuse: limits };
  const prompt = argument === "-" ? undefined : (argument ?? flags.prompt);
  const requestFromStdin = argument === "-" || (prompt === undefined && flags.demo !== true);
  const own = prompt ?? (requestFromStdin ? undefined : DEMO_PROMPT);
  const request = toRequest(own, flags, limits, terminal.cwd);
  return { command: "run", request, options: toOptions(requestFromStdin, flags, terminal.cwd) };
}

function toRequest(
  prompt: string | undefined,
  flags: RunFlags,
  limits: Record<string, number>,
  cwd: string,
): RequestDraft {
  return withoutGaps({
    harness: flags.harness,
    prompt,
    model: flags.demo ? DEMO_MODEL : flags.model,
    agent: orNothing({
      instructions: flags.instructions,
      tools: flags.tool,
      skills: flags.skill?.map((name) => ({ name })),
    }),
    workspace: flags.workspace && { kind: "path", path: resolve(cwd, flags.workspace) },
    sandbox: orNothing({ kind: flags.sandbox }),
    execution: orNothing({ allowedPrograms: flags.allowProgram }),
    egress: flags.egress,
    role: flags.role,
    limits: orNothing(limits),
    metadata: flags.metadata && Object.fromEntries(flags.metadata.map(toPair)),
  });
}

function toOptions(requestFromStdin: boolean, flags: RunFlags, cwd: string): RunOptions {
  return {
    requestFromStdin,
    stream: flags.stream === true,
    json: flags.json === true,
    outputDir: flags.outputDir && resolve(cwd, flags.outputDir),
    files: (flags.file ?? []).map((text) => toFile(text, cwd)),
    config: flags.config && resolve(cwd, flags.config),
  };
}

/** What is wrong with the flags as a whole, in words. */
function findMisuse(argument: string | undefined, flags: RunFlags, terminal: Terminal): string | undefined {
  if (argument !== undefined && flags.prompt !== undefined)
    return "give the prompt once: as an argument or with --prompt";
  if (argument === "" || flags.prompt === "") return "the prompt is empty";
  if (flags.demo && flags.model !== undefined) return "--demo chooses the model; leave --model out";
  if (flags.workspace !== undefined && flags.file !== undefined)
    return "--workspace and --file exclude each other";
  if (flags.metadata?.some((text) => text.indexOf("=") < 1)) return "--metadata must be key=value";
  const lacksRequest = argument === undefined && flags.prompt === undefined && !flags.demo;
  if (lacksRequest && terminal.stdinIsTerminal)
    return "there is no prompt; give one, or a request as JSON on stdin";
  return undefined;
}

function toFile(text: string, cwd: string): { path: string; from: string } {
  const at = text.indexOf("=");
  const local = at === -1 ? text : text.slice(at + 1);
  return { path: at === -1 ? basename(local) : text.slice(0, at), from: resolve(cwd, local) };
}

/** How each limit is written; in the order in which mistakes are told. */
const LIMITS = [
  { name: "wallMs", flag: "--limit-wall", key: "limitWall", kind: durationMs("1ms", "168h") },
  { name: "idleMs", flag: "--limit-idle", key: "limitIdle", kind: durationMs("1ms", "168h") },
  { name: "steps", flag: "--limit-steps", key: "limitSteps", kind: wholeNumber(1, 1_000_000) },
  { name: "requests", flag: "--limit-requests", key: "limitRequests", kind: wholeNumber(1, 10_000_000) },
  { name: "tokens", flag: "--limit-tokens", key: "limitTokens", kind: wholeNumber(1, 1_000_000_000_000) },
  { name: "costUsd", flag: "--limit-cost", key: "limitCost", kind: decimal(0.000001, 1_000_000) },
] as const;

/** Milliseconds, counts and dollars; a string is what is wrong. */
function toLimits(flags: RunFlags): Record<string, number> | string {
  const limits: Record<string, number> = {};
  for (const { name, flag, key, kind } of LIMITS) {
    const given = flags[key];
    if (given === undefined) continue;
    const read = kind.safeParse(given);
    if (!read.success) return `${flag} ${toMessage(read.error)}`;
    limits[name] = read.data;
  }
  return limits;
}

function toMessage(error: ZodError): string {
  return error.issues[0]?.message ?? "is not valid";
}

function toPair(text: string): [string, string] {
  const at = text.indexOf("=");
  return [text.slice(0, at), text.slice(at + 1)];
}

/** The object without what was not given. */
function withoutGaps(fields: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}

function orNothing(fields: Record<string, unknown>): Record<string, unknown> | undefined {
  const given = withoutGaps(fields);
  return Object.keys(given).length === 0 ? undefined : given;
}

/** Puts together what flags, stdin and local files say; flags win, and inner fields of objects are kept. */
export function completeRequest(
  draft: RequestDraft,
  fromStdin: unknown,
  files: readonly InlineFile[],
): unknown {
  const withFiles = files.length === 0 ? draft : { ...draft, workspace: { kind: "files", files } };
  if (fromStdin === undefined) return withFiles;
  if (!isRecord(fromStdin)) return fromStdin; // the contract says what is wrong with it
  const merged: Record<string, unknown> = { ...fromStdin };
  for (const [name, value] of Object.entries(withFiles)) {
    const given = merged[name];
    const isPart = MERGED.includes(name) && isRecord(given) && isRecord(value);
    merged[name] = isPart ? { ...given, ...value } : value;
  }
  return merged;
}

const MERGED = ["agent", "execution", "limits", "metadata", "sandbox"];

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
