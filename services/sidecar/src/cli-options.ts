/** The command line as data: what was asked for, or the text to show instead. Nothing here prints, reads or exits. */
import { Command, CommanderError, Option } from "commander";
import { type AuditCommand, type AuditFlags, addAudit, toAudit } from "./cli-audit.ts";
import { addRun, type RunCommand, type RunFlags, type Terminal, toRun } from "./cli-run.ts";
import { toFlagKey } from "./setting-sources.ts";
import { CONFIG_ENTRY, SETTINGS, type SettingEntry } from "./setting-table.ts";

export type CommandLine =
  | { readonly command: "serve"; readonly flags: Readonly<Record<string, string>> }
  | RunCommand
  | AuditCommand
  /** Help or version, for stdout; exit code 0. */
  | { readonly command: "show"; readonly text: string }
  /** For stderr; exit code 2. */
  | { readonly command: "usage-error"; readonly text: string };

/** Understands the arguments after the program's name. */
export function parseCommandLine(argv: readonly string[], terminal: Terminal): CommandLine {
  let parsed: CommandLine | undefined;
  let shown = "";
  const program = toProgram(terminal.version, (text) => (shown += text));
  addServe(program).action((flags: Record<string, string | true>) => {
    // A switch that stands alone is on.
    parsed = { command: "serve", flags: mapValues(flags, (value) => (value === true ? "true" : value)) };
  });
  addRun(program).action((prompt: string | undefined, flags: RunFlags) => {
    const run = toRun(prompt, flags, terminal);
    parsed = "misuse" in run ? toUsageError(`error: ${run.misuse}\n\nTry: pillion run --help`) : run;
  });
  addAudit(program).action((name: string | undefined, flags: AuditFlags) => {
    const audit = toAudit(name, flags, terminal);
    parsed =
      "misuse" in audit ? toUsageError(`error: ${audit.misuse}\n\nTry: pillion audit-image --help`) : audit;
  });
  try {
    program.parse([...argv], { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return error.exitCode === 0
      ? { command: "show", text: `${shown.trimEnd()}\n` }
      : toUsageError(shown || error.message);
  }
  return parsed ?? toUsageError(program.helpInformation());
}

function toUsageError(text: string): CommandLine {
  return { command: "usage-error", text: `${text.trimEnd()}\n` };
}

function toProgram(version: string, show: (text: string) => void): Command {
  return new Command("pillion")
    .description("Runs coding agents: one request in, a sandboxed agent run out.")
    .version(version, "-V, --version")
    .exitOverride()
    .showHelpAfterError("Try: pillion --help")
    .configureOutput({
      writeOut: show,
      writeErr: show,
      getOutHelpWidth: () => 100,
      getErrHelpWidth: () => 100,
    })
    .addHelpText("after", MAIN_EXAMPLES);
}

const MAIN_EXAMPLES = `
Examples:
  pillion serve                           serve on http://127.0.0.1:8765
  pillion run --demo                      see a whole run; needs no key
  pillion run "Explain this" --file README.md --model openai/gpt-5
  pillion audit-image pillion-agent:base  show what is in an image
`;

function addServe(program: Command): Command {
  const serve = program.command("serve").description("Serve runs over HTTP until stopped.");
  for (const entry of [CONFIG_ENTRY, ...SETTINGS]) serve.addOption(toSettingOption(entry));
  return serve
    .allowExcessArguments(false)
    .showHelpAfterError("Try: pillion serve --help")
    .addHelpText("after", SERVE_EXAMPLES);
}

const SERVE_EXAMPLES = `
Every flag has an environment twin: --wall-ms is PILLION_WALL_MS. A flag beats the environment.
Secrets are given as files (--token-file) or by the environment, never on the command line.

Examples:
  pillion serve --port 9000 --log-level debug
  pillion serve --host 0.0.0.0 --token-file /run/secrets/token --allowed-hosts pillion.example
  PILLION_ALLOWED_PROGRAMS=bash pillion serve --workspace-roots /srv/projects
`;

function toSettingOption(entry: SettingEntry): Option {
  const value = entry.secret ? "<file>" : entry.kind === "boolean" ? "[yes]" : `<${toPlaceholder(entry)}>`;
  const known = entry.default === undefined || entry.default === "" ? "" : ` (default: ${entry.default})`;
  const option = new Option(`${entry.flag} ${value}`, entry.description.replaceAll("`", "") + known);
  option.attributeName = () => toFlagKey(entry);
  if (entry.list) {
    option.argParser((item: string, before: string | undefined) =>
      before === undefined ? item : `${before},${item}`,
    );
  }
  return option;
}

function toPlaceholder({ kind, list }: SettingEntry): string {
  const name = {
    text: "text",
    number: "n",
    boolean: "yes",
    bytes: "size",
    duration: "time",
    path: "path",
    choice: "word",
  };
  return list ? `${name[kind]},…` : name[kind];
}

function mapValues<T>(record: Record<string, T>, map: (value: T) => string): Record<string, string> {
  return Object.fromEntries(Object.entries(record).map(([name, value]) => [name, map(value)]));
}
