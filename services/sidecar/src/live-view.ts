/** A run's events as a person at a terminal reads them; the model's text cannot control the terminal. */
import type { RunEvent } from "#contract/event";
import type { ChangedFiles, Run } from "#contract/run";
import type { Fault } from "./kernel/fault.ts";
import { stripUnsafe } from "./telemetry/unsafe-characters.ts";

export type LiveViewOptions = { readonly colours: boolean };

type EventOf<T extends RunEvent["type"]> = Extract<RunEvent, { type: T }>;
type Colour = "dim" | "bold" | "red" | "green" | "yellow" | "cyan";
type Paint = (colour: Colour, text: string) => string;

const MAX_LINE_CHARS = 160;
const MAX_FILES = 10;
const MAX_HOSTS = 3;
const CODES = { dim: 2, bold: 1, red: 31, green: 32, yellow: 33, cyan: 36 } as const;
const SIGNS = { added: "+", modified: "~", deleted: "-" } as const;

/** Colours only on a terminal that has them and whose owner has not said no (no-color.org). */
export function wantsColours(
  env: { readonly NO_COLOR?: string | undefined; readonly TERM?: string | undefined },
  isTerminal: boolean,
): boolean {
  return isTerminal && (env.NO_COLOR ?? "") === "" && env.TERM !== "dumb";
}

/** Gives for each event, in order, the text to write next; often none. */
export function createLiveView(options: LiveViewOptions): (event: RunEvent) => string {
  const paint = toPaint(options);
  /** Kinds whose deltas were shown, so that the whole that follows them is not shown again. */
  const streamed = new Set<"message" | "thought">();
  let last: RunEvent["type"] | undefined;
  let isMidLine = false;

  const streamPart = (
    kind: "message" | "thought",
    event: EventOf<"message.delta" | "thought.delta">,
  ): string => {
    const text = stripUnsafe(event.text);
    if (text === "") return "";
    const gap = isMidLine && last !== event.type ? "\n" : "";
    streamed.add(kind);
    last = event.type;
    isMidLine = !text.endsWith("\n");
    return gap + (kind === "thought" ? paint("dim", text) : text);
  };

  return (event) => {
    if (event.type === "message.delta") return streamPart("message", event);
    if (event.type === "thought.delta") return streamPart("thought", event);
    const isKnown = (event.type === "message" || event.type === "thought") && streamed.delete(event.type);
    const lines = isKnown ? [] : toLines(event, paint);
    if (lines.length === 0 && !isKnown && event.type !== "run.ended") return "";
    const gap = isMidLine ? "\n" : "";
    last = event.type;
    isMidLine = false;
    return gap + lines.map((line) => `${line}\n`).join("");
  };
}

/** What to show once a run has ended: outcome, duration, files, tokens, ways out, sandbox. */
export function toSummary(run: Run, changes: ChangedFiles | undefined, options: LiveViewOptions): string {
  const paint = toPaint(options);
  const isGood = run.outcome === "succeeded";
  const sign = isGood ? paint("green", "✓") : paint("red", "✗");
  const outcome = paint("bold", (run.outcome ?? run.state).replace("_", " "));
  const { totalMs } = run.timings;
  const lines = [
    `${sign} ${outcome}${totalMs === null ? "" : ` in ${toDuration(totalMs)}`}${run.demo ? " (demo model: no real AI)" : ""}`,
    ...(run.failure === null
      ? []
      : [`  ${paint("red", run.failure.code)}: ${toOneLine(run.failure.detail)}`]),
    ...(changes === undefined ? [] : [`  ${toFileSummary(changes, paint)}`]),
    `  ${toUsageSummary(run)}`,
    ...toEgressSummary(run),
    ...(run.receipt === null ? [] : [`  sandbox ${run.receipt.kind}, ${toIsolation(run.receipt.missing)}`]),
    paint("dim", `  ${run.id}`),
  ];
  return `${lines.join("\n")}\n`;
}

/** Why there was no run, or no end of one: each bad field once. */
export function toFailureText({ message, errors = [] }: Fault): string {
  const rest = errors.filter((error) => !message.includes(error.message));
  const told = errors.find((error) => message.includes(error.message));
  const where = told === undefined || message.includes(told.path) ? "" : ` (${told.path})`;
  return [
    `pillion: ${message}${where}`,
    ...rest.map((error) => `  ${error.path}: ${error.message}`),
    "",
  ].join("\n");
}

function toLines(event: RunEvent, paint: Paint): string[] {
  switch (event.type) {
    case "run.started":
      return [
        paint(
          "dim",
          `${event.runId}, model ${toOneLine(event.model)}${event.demo ? " (demo: no real AI)" : ""}`,
        ),
      ];
    case "message":
      if (event.role === "user") return [paint("bold", `> ${toOneLine(event.text)}`)];
      return event.text === "" ? [] : [stripUnsafe(event.text)];
    case "thought":
      return event.text === "" ? [] : [paint("dim", stripUnsafe(event.text))];
    case "tool.call":
      return [`${paint("cyan", `→ ${toOneLine(event.tool)}`)} ${toArguments(event)}`.trimEnd()];
    case "tool.result":
      return [toResult(event, paint)];
    case "egress":
      return event.allowed ? [] : [paint("yellow", `! ${toDenial(event)}`)];
    case "notice":
      return [paint(event.level === "warning" ? "yellow" : "dim", `! ${toOneLine(event.text)}`)];
    default:
      return []; // updates and usage are in what follows them, the end is in the summary
  }
}

function toArguments(event: EventOf<"tool.call">): string {
  const parts = Object.entries(event.arguments).map(([name, value]) => {
    const text = typeof value === "string" ? value : JSON.stringify(value);
    return `${name}=${toOneLine(text ?? "", 60)}`;
  });
  return toOneLine(parts.join(" "));
}

function toResult(event: EventOf<"tool.result">, paint: Paint): string {
  const took = event.durationMs === null ? "" : `, ${toDuration(event.durationMs)}`;
  const size = `${event.text.length} characters${event.truncated ? ", cut" : ""}`;
  return event.isError
    ? `  ${paint("red", "✗")} ${toOneLine(event.text)}${took}`
    : `  ${paint("green", "✓")} ${paint("dim", size + took)}`;
}

/** Method, host and path are what the run wrote. */
function toDenial({ method, host, port, path, reason }: EventOf<"egress">): string {
  const where = host === null ? (path ?? "") : `${host}${port === null ? "" : `:${port}`}`;
  const what = toOneLine(`${method ?? ""} ${where}`, 80);
  return ["egress denied:", ...(what === "" ? [] : [what]), `(${reason})`].join(" ");
}

function toFileSummary({ files, truncated }: ChangedFiles, paint: Paint): string {
  if (files.length === 0) return "no files changed";
  const shown = files.slice(0, MAX_FILES).map(({ change, path }) => `${SIGNS[change]}${toOneLine(path, 80)}`);
  const more = files.length > MAX_FILES ? [`and ${files.length - MAX_FILES} more`] : [];
  const count = `${truncated ? "more than " : ""}${files.length} ${files.length === 1 ? "file" : "files"} changed`;
  return `${count}: ${paint("cyan", [...shown, ...more].join(" "))}`;
}

function toUsageSummary({ usage }: Run): string {
  const cost = usage.costUsd === null ? "cost unknown" : `$${usage.costUsd.toFixed(4)}`;
  const cached = usage.cacheReadTokens === 0 ? "" : ` (${usage.cacheReadTokens} cached)`;
  const calls = `${usage.modelCalls} model ${usage.modelCalls === 1 ? "call" : "calls"}`;
  return `tokens ${usage.inputTokens} in${cached}, ${usage.outputTokens} out, ${calls}, ${cost}`;
}

/** Calls of the run's own model are among them. */
function toEgressSummary({ egress: { allowed, denied, hosts } }: Run): string[] {
  if (allowed + denied === 0) return [];
  const names = [...new Set(hosts.filter((one) => one.denied > 0).map(({ host }) => toOneLine(host, 80)))];
  const more = names.length > MAX_HOSTS ? ` and ${names.length - MAX_HOSTS} more` : "";
  const which = names.length === 0 ? "" : ` (${names.slice(0, MAX_HOSTS).join(", ")}${more})`;
  return [`  egress: ${allowed} allowed, ${denied} denied${which}`];
}

function toIsolation(missing: readonly string[]): string {
  return missing.length === 0 ? "nothing missing" : `missing: ${toOneLine(missing.join("; "))}`;
}

function toDuration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

/** One line, and not a long one. */
function toOneLine(text: string, maxChars: number = MAX_LINE_CHARS): string {
  const line = stripUnsafe(text.slice(0, maxChars * 8))
    .replace(/\s+/g, " ")
    .trim();
  return line.length > maxChars
    ? `${line
        .slice(0, maxChars)
        .toWellFormed()
        .replace(/\ufffd$/, "")}…`
    : line;
}

function toPaint({ colours }: LiveViewOptions): Paint {
  return (colour, text) => (colours ? `\u001b[${CODES[colour]}m${text}\u001b[0m` : text);
}
