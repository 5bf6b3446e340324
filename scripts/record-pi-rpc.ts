// Records what the real Pi says over RPC, run by run, into services/sidecar/test/fixtures/pi-rpc/<name>.jsonl.
// Run it again after a new Pi: node scripts/record-pi-rpc.ts
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as z from "zod";
import { openScriptedModel, type Turn } from "../services/sidecar/test/fakes/scripted-model.ts";

/** One line of Pi's stdout; events and responses share it. */
const PiRecord = z.looseObject({
  type: z.string(),
  id: z.string().optional(),
  success: z.boolean().optional(),
});
export type PiRecord = z.infer<typeof PiRecord>;

/** The three dialects as Pi names them, with the path Pi wants in front of its own. */
export const piDialects = [
  { api: "openai-completions", basePath: "/v1" },
  { api: "openai-responses", basePath: "/v1" },
  { api: "anthropic-messages", basePath: "" },
] as const;

export interface RealPi extends AsyncDisposable {
  readonly workspace: string;
  /** stdout so far, with this machine's paths replaced by /workspace, /agent and /pi. */
  readonly lines: string[];
  readonly stderr: () => string;
  /** Sends a command and waits for its response. */
  command(type: string, fields?: object): Promise<PiRecord>;
  /** The next record from now on that the test accepts; rejects when Pi ends before. */
  next(accepts: (record: PiRecord) => boolean): Promise<PiRecord>;
  /** Prompts and collects the records up to `agent_settled`. */
  run(message: string): Promise<PiRecord[]>;
}

// The real path, since Pi names it in its own system prompt.
const piFolder = await realpath(
  fileURLToPath(new URL("../node_modules/@earendil-works/pi-coding-agent", import.meta.url)),
);

/** Starts the real Pi in a temporary home, with one provider `scripted` and automatic retries off. */
export async function openRealPi(options: {
  baseUrl: string;
  api: string;
  models: string[];
  tools?: string;
}): Promise<RealPi> {
  await using undo = new AsyncDisposableStack();
  const root = await realpath(await mkdtemp(join(tmpdir(), "pi-rpc-")));
  undo.defer(() => rm(root, { recursive: true, force: true }));
  const [workspace, agentDir] = [join(root, "workspace"), join(root, "agent")];
  await mkdir(workspace);
  await mkdir(agentDir);
  const models = options.models.map((id) => ({ id, reasoning: true, cost }));
  const { baseUrl, api } = options;
  const provider = { baseUrl, api, apiKey: "scripted-key", models };
  await writeFile(join(agentDir, "models.json"), JSON.stringify({ providers: { scripted: provider } }));

  const tools = options.tools ?? "read,grep,find,ls,edit,write";
  const flags = "-ne -ns -np -nc --no-themes --no-session --offline --thinking low".split(" ");
  const model = ["--provider", "scripted", "--model", options.models[0] ?? ""];
  const cli = join(piFolder, "dist/bundle/cli.js");
  const child = spawn(process.execPath, [cli, "--mode", "rpc", ...flags, "--tools", tools, ...model], {
    cwd: workspace,
    env: { PATH: process.env.PATH, HOME: root, PI_CODING_AGENT_DIR: agentDir },
  });
  undo.defer(() => endChild(child));
  const pi = toRealPi(child, workspace, (line) =>
    line.replaceAll(workspace, "/workspace").replaceAll(agentDir, "/agent").replaceAll(piFolder, "/pi"),
  );
  await pi.command("set_auto_retry", { enabled: false });
  const taken = undo.move();
  return { ...pi, [Symbol.asyncDispose]: () => taken.disposeAsync() };
}

const cost = { input: 3, output: 15, cacheRead: 0.3, cacheWrite: 3.75 };

function toRealPi(
  child: ChildProcessWithoutNullStreams,
  workspace: string,
  scrub: (line: string) => string,
): Omit<RealPi, typeof Symbol.asyncDispose> {
  const lines: string[] = [];
  const listeners = new Set<(record: PiRecord) => void>();
  let [pending, complaints, commands] = ["", "", 0];
  child.stderr.setEncoding("utf8").on("data", (text: string) => (complaints += text));
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    // Split on \n only: readline would also split on U+2028.
    const parts = (pending + text).split("\n");
    pending = parts.pop() ?? "";
    for (const line of parts) {
      lines.push(scrub(line));
      const record = PiRecord.parse(JSON.parse(line));
      for (const listener of [...listeners]) listener(record);
    }
  });
  const ended = once(child, "close").then(() => {
    throw new Error(`Pi ended: ${complaints}`);
  });
  ended.catch(() => undefined);

  const next: RealPi["next"] = (accepts) => {
    const found = new Promise<PiRecord>((resolve) => {
      const listener = (record: PiRecord): void => {
        if (!accepts(record)) return;
        listeners.delete(listener);
        resolve(record);
      };
      listeners.add(listener);
    });
    return Promise.race([found, ended]);
  };
  const command: RealPi["command"] = async (type, fields = {}) => {
    commands += 1;
    const id = `command-${commands}`;
    const answered = next((record) => record.type === "response" && record.id === id);
    child.stdin.write(`${JSON.stringify({ id, type, ...fields })}\n`);
    const response = await answered;
    if (response.success !== true) throw new Error(`Pi refused ${type}: ${JSON.stringify(response)}`);
    return response;
  };
  const run: RealPi["run"] = async (message) => {
    const first = lines.length;
    const settled = next(({ type }) => type === "agent_settled");
    await command("prompt", { message });
    await settled;
    const records = lines.slice(first).map((line) => PiRecord.parse(JSON.parse(line)));
    return records.slice(0, records.findIndex(({ type }) => type === "agent_settled") + 1);
  };
  return { workspace, lines, stderr: () => complaints, command, next, run };
}

async function endChild(child: ChildProcessWithoutNullStreams): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const closed = once(child, "close");
  child.stdin.end();
  const overdue = setTimeout(() => child.kill("SIGKILL"), 5_000);
  await closed;
  clearTimeout(overdue);
}

const recordings: Record<string, Turn[]> = {
  tools: [
    {
      thinking: "A file first, then a look at it.",
      text: "I write a greeting.",
      toolCalls: [{ name: "write", arguments: { path: "hello.txt", content: "hello\n" } }],
      usage: { input: 120, output: 30, cacheRead: 0 },
    },
    {
      thinking: "Both can be looked at together.",
      toolCalls: [
        { name: "read", arguments: { path: "hello.txt" } },
        { name: "read", arguments: { path: "missing.txt" } },
      ],
      usage: { input: 40, output: 20, cacheRead: 110 },
    },
    { text: ["The file ", "says ", "hello."], usage: { input: 25, output: 8, cacheRead: 150 } },
  ],
  "status-401": [{ fail: { status: 401 } }],
  "status-429": [{ fail: { status: 429, headers: { "retry-after": "1" } } }],
  "status-500": [{ fail: { status: 500 } }],
  dropped: [{ text: "This answer breaks off in the middle of its stream.", fail: "drop" }],
  garbage: [{ fail: "garbage" }],
  abort: [{ text: "A long answer that is never heard to its end. ".repeat(10), chunkDelayMs: 200 }],
};

async function record(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  for (const [name, script] of Object.entries(recordings)) {
    await using model = await openScriptedModel({ script });
    const baseUrl = `${model.url}/v1`;
    await using pi = await openRealPi({ baseUrl, api: "openai-completions", models: ["scripted-1"] });
    if (name === "abort") {
      const settled = pi.next(({ type }) => type === "agent_settled");
      const talking = pi.next(
        ({ assistantMessageEvent }) => TextDelta.safeParse(assistantMessageEvent).success,
      );
      await pi.command("prompt", { message: "Say hello" });
      await talking;
      await Promise.all([settled, pi.command("abort")]);
    } else {
      await pi.run("Say hello");
    }
    await writeFile(join(folder, `${name}.jsonl`), `${pi.lines.join("\n")}\n`);
    process.stdout.write(`${name}: ${pi.lines.length} lines\n`);
  }
}

const TextDelta = z.looseObject({ type: z.literal("text_delta") });

if (import.meta.main) {
  await record(fileURLToPath(new URL("../services/sidecar/test/fixtures/pi-rpc", import.meta.url)));
}
