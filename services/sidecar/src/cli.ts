/** The commands: `serve` until told to stop, `run` once, `audit-image`. Only here and in main.ts are exits, prints and signals. */
import { readFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { text } from "node:stream/consumers";
import type { Run } from "#contract/run";
import type { AuditCommand } from "./cli-audit.ts";
import { openRunHome, type RunHome, sweepRunHomes } from "./cli-home.ts";
import { completeRequest, type RequestDraft, type RunOptions } from "./cli-run.ts";
import { EXIT, toExitCode, toFailureExitCode } from "./exit-code.ts";
import { toRunRequest } from "./http/run-request.ts";
import { unlessAborted } from "./kernel/deadline.ts";
import { Fault, toFault, toProblem } from "./kernel/fault.ts";
import { createLiveView, toFailureText, toSummary, wantsColours } from "./live-view.ts";
import { PROGRAM_DIR, readVersion } from "./product.ts";

import { readSettings, type Settings, SettingsError, toPublicSettings, toSecrets } from "./settings.ts";
import { reviewSettings } from "./settings-review.ts";
import { isLoopback, openSidecar, type Sidecar } from "./sidecar.ts";
import { createLog, type Log } from "./telemetry/log.ts";
import { createRedactor, type Redactor } from "./telemetry/redaction.ts";

const CLOSE_MS = 1_000;

type Base = {
  readonly settings: Settings;
  readonly log: Log;
  readonly redactor: Redactor;
  reread(): Settings;
};

/** Serves until SIGTERM or SIGINT; a second signal ends at once. */
export async function serve(flags: Readonly<Record<string, string | undefined>>): Promise<void> {
  const base = readBase({ flags, review: reviewSettings });
  if (base === undefined) return exit(EXIT.usage);
  const { settings, log } = base;
  try {
    const sidecar = await openSidecar({ ...base, onFatal: (err) => endAtOnce(log, err) });
    const listening = await sidecar.listen();
    warnOfWeakSettings(settings, sidecar, log);
    log.info(
      { address: listening.address.url, sandbox: sidecar.sandbox, settings: toPublicSettings(settings) },
      "ready",
    );
    if (process.stderr.isTTY || settings.logLevel !== "silent")
      process.stderr.write(toWelcome(listening.address.url, settings, sidecar));
    stopOnSignals(async () => {
      log.info("stopping");
      await sidecar.drain(settings.drainMs);
      await listening.close(CLOSE_MS);
      await sidecar[Symbol.asyncDispose]();
      log.info("stopped");
    }, log);
  } catch (error) {
    const message = toStartMessage(error, settings);
    if (message === undefined) log.fatal({ err: error }, "could not start");
    process.stderr.write(`pillion: ${message ?? (error instanceof Error ? error.message : String(error))}\n`);
    exit(EXIT.failed);
  }
}

/** Does one run in this process, without a listener; its data directory vanishes with it. Resolves to the exit code. */
export async function runOnce(draft: RequestDraft, options: RunOptions): Promise<number> {
  await using home = openRunHome(tmpdir());
  const env = { PILLION_LOG_LEVEL: "warn", ...process.env, PILLION_HOME: home.path };
  const flags = options.config === undefined ? {} : { config: options.config };
  const base = readBase({ env, flags, review: reviewSettings });
  if (base === undefined) return EXIT.usage;
  const stopped = new AbortController();
  const onSignal = (): void => {
    if (stopped.signal.aborted) {
      home.leave();
      exit(EXIT.cancelled); // asked twice: the sandbox ends with this process
    }
    stopped.abort(new Fault("cancelled", "The run was cancelled before it began."));
  };
  const onInterrupt = debounce(onSignal);
  process.on("SIGTERM", onSignal).on("SIGINT", onInterrupt);
  // A reader that has seen enough (`| head -1`) is no failure of ours; nobody is left to read the rest, so the run stops.
  process.stdout.on("error", () =>
    stopped.abort(new Fault("cancelled", "Nobody reads the output any more.")),
  );
  const sweeping = sweepRunHomes(tmpdir()); // beside the run, which need not wait for an engine of another's
  const code = await runIn(base, home, draft, options, stopped.signal);
  await sweeping;
  return code;
}

async function runIn(
  base: Base,
  home: RunHome,
  draft: RequestDraft,
  options: RunOptions,
  stopped: AbortSignal,
): Promise<number> {
  try {
    const stdin: unknown = options.requestFromStdin
      ? JSON.parse(await unlessAborted(text(process.stdin), stopped))
      : undefined;
    const files = options.files.map(({ path, from }) => ({
      path,
      content: readFileSync(from).toString("base64"),
      encoding: "base64" as const,
      executable: false,
    }));
    const request = toRunRequest(completeRequest(draft, stdin, files));
    await using sidecar = await openSidecar({ ...base, onFatal: (err) => endAtOnce(base.log, err) });
    if (sidecar.probes.some(({ kind, available }) => kind === "docker" && available))
      home.noteEngine(base.settings.dockerHost);
    stopped.throwIfAborted();
    const { id } = await sidecar.runs.create(request);
    const stop = (): void => void sidecar.runs.cancel(id);
    if (stopped.aborted) stop();
    else stopped.addEventListener("abort", stop, { once: true });
    await showEvents(sidecar, id, options);
    const run = await sidecar.runs.waitForEnd(id, new AbortController().signal);
    await showResult(sidecar, run, options);
    return toExitCode(run);
  } catch (error) {
    const fault = toRunFault(error);
    process.stderr.write(toFailureText(fault));
    if (options.json) process.stdout.write(`${JSON.stringify(toProblem(fault))}\n`);
    return toFailureExitCode(fault.code);
  } finally {
    process.stdin.destroy(); // an open one would keep the process
  }
}

/** Reads a saved image and says what is in it; its part of the program is loaded here only. Resolves to the exit code. */
export async function auditImage(options: AuditCommand["options"]): Promise<number> {
  const { PILLION_DOCKER_HOST, DOCKER_HOST, PILLION_CONFIG_DIR, HOME } = process.env;
  // What else is set, rightly or wrongly, is no business of an audit.
  const env = { PILLION_DOCKER_HOST, DOCKER_HOST, PILLION_CONFIG_DIR, HOME, PILLION_LOG_LEVEL: "silent" };
  const base = readBase({ env, flags: { dockerHost: options.engine, configDir: options.configDir } });
  if (base === undefined) return EXIT.usage;
  const { dockerHost: engine, configDir } = base.settings;
  const { runAudit } = await import("../../image-audit/src/audit-command.ts");
  return await runAudit(
    { ...options, engine, configDir, version: readVersion() },
    {
      stdin: process.stdin,
      print: (report) => process.stdout.write(report),
      progress: (line) => process.stderr.write(`${line}\n`),
    },
  );
}

/** What a person at the command line got wrong is their request's fault, not ours. */
function toRunFault(error: unknown): Fault {
  if (error instanceof SyntaxError) return new Fault("invalid_request", "The request on stdin is not JSON.");
  const isFileError =
    error instanceof Error && "code" in error && ["ENOENT", "EISDIR", "EACCES"].includes(String(error.code));
  return isFileError
    ? new Fault("invalid_request", `A file cannot be read: ${error.message}`)
    : toFault(error);
}

async function showEvents(sidecar: Sidecar, id: string, options: RunOptions): Promise<void> {
  const isLive = process.stderr.isTTY && !options.stream && !options.json;
  const render = createLiveView({ colours: wantsColours(process.env, process.stderr.isTTY) });
  for await (const event of sidecar.runs.watch(id, 0, new AbortController().signal)) {
    if (options.stream) process.stdout.write(`${JSON.stringify(event)}\n`);
    else if (isLive) process.stderr.write(render(event));
  }
}

async function showResult(sidecar: Sidecar, run: Run, options: RunOptions): Promise<void> {
  const changes = await sidecar.runs.readChanges(run.id).catch(() => undefined);
  if (options.outputDir !== undefined) {
    for (const { path, change, kind } of changes?.files ?? []) {
      if (change !== "deleted" && kind === "file") await copyOut(sidecar, run.id, path, options.outputDir);
    }
  }
  if (options.json) process.stdout.write(`${JSON.stringify(run)}\n`);
  else if (!options.stream) process.stdout.write(`${run.output ?? ""}\n`);
  if (!options.json)
    process.stderr.write(
      toSummary(run, changes, { colours: wantsColours(process.env, process.stderr.isTTY) }),
    );
}

/** The path was checked where the list was made: relative, without `..`. */
async function copyOut(sidecar: Sidecar, runId: string, path: string, directory: string): Promise<void> {
  const { stream } = await sidecar.runs.openFile(runId, path);
  const target = join(directory, path);
  await mkdir(dirname(target), { recursive: true });
  await writeFile(target, stream, { flag: "w" });
}

function readBase(sources: Parameters<typeof readSettings>[0]): Base | undefined {
  try {
    const reread = (): Settings => readSettings({ programDir: PROGRAM_DIR, ...sources });
    const settings = reread();
    const redactor = createRedactor(toSecrets(settings));
    return { settings, redactor, reread, log: createLog({ level: settings.logLevel, redactor }) };
  } catch (error) {
    if (!(error instanceof SettingsError)) throw error;
    process.stderr.write(`${error.message}\n`);
    return undefined;
  }
}

function warnOfWeakSettings(settings: Settings, sidecar: Sidecar, log: Log): void {
  if (settings.allowAnonymous) log.warn("PILLION_ALLOW_ANONYMOUS: everybody who reaches the port is served");
  if (settings.token === undefined && !isLoopback(settings.host) && !settings.allowAnonymous) {
    log.warn("no PILLION_TOKEN beyond loopback: only the probes are answered");
  }
  if (settings.dockerHost.startsWith("tcp:") && settings.sandbox !== "local")
    log.warn("PILLION_DOCKER_HOST: the container engine is spoken to without encryption");
  if (settings.openNetwork !== undefined)
    log.warn(
      { network: settings.openNetwork },
      "PILLION_OPEN_NETWORK: runs that ask for it have that network, and their egress is not enforced",
    );
  if (settings.browserImages.length > 0)
    log.warn(
      { images: settings.browserImages },
      "PILLION_BROWSER_IMAGES: runs of these images may make user, PID and network namespaces",
    );
  for (const warning of sidecar.warnings) log.warn(warning);
  if (sidecar.sandbox === null)
    log.error(
      { probes: sidecar.probes },
      "no sandbox can be had: every run will be refused (isolation_unavailable)",
    );
  else if (!sidecar.sandbox.isolated)
    log.warn({ missing: sidecar.sandbox.missing }, "runs are NOT isolated, by setting");
}

function toWelcome(url: string, settings: Settings, sidecar: Sidecar): string {
  const place = sidecar.sandbox;
  const sandbox =
    place === null
      ? "none: runs are refused"
      : `${place.kind}${place.isolated ? "" : " WITHOUT isolation"} (${place.detail})`;
  // An address that stands for all of them is none that a client may name.
  const here = url.replace(/^http:\/\/(0\.0\.0\.0|\[::\])/, "http://127.0.0.1");
  const auth = settings.token === undefined ? "" : ' -H "authorization: Bearer $PILLION_TOKEN"';
  const body = JSON.stringify({ model: "demo/tour", prompt: "Show me around" });
  const isOpen = settings.token !== undefined || settings.allowAnonymous || isLoopback(settings.host);
  const attempt =
    settings.demoModel && place !== null && isOpen
      ? `\n  Try it, no key needed:\n\n    curl -sS ${here}/run${auth} -H 'content-type: application/json' -d '${body}'\n`
      : "";
  return `\n  Pillion listens on ${url}\n  Sandbox: ${sandbox}\n${attempt}\n`;
}

function stopOnSignals(stop: () => Promise<void>, log: Log): void {
  let stopping = false;
  const onSignal = (): void => {
    if (stopping) return exit(EXIT.failed);
    stopping = true;
    stop().then(
      () => exit(EXIT.succeeded),
      (err: unknown) => {
        log.error({ err }, "stopping failed");
        exit(EXIT.failed);
      },
    );
  };
  // npm passes a terminal's SIGINT on once more; it must not count as a second wish within the same moment.
  const onInterrupt = debounce(onSignal);
  process.on("SIGTERM", onSignal).on("SIGINT", onInterrupt);
  for (const name of ["uncaughtException", "unhandledRejection"] as const) {
    process.on(name, (err) => {
      log.fatal({ err }, "an unforeseen failure: ending all runs");
      const forced = setTimeout(() => exit(EXIT.failed), 10_000);
      void stop().finally(() => {
        clearTimeout(forced);
        exit(EXIT.failed);
      });
    });
  }
}

const SAME_MOMENT_MS = 300;

function debounce(act: () => void): () => void {
  let last = Number.NEGATIVE_INFINITY;
  return () => {
    const now = performance.now();
    if (now - last > SAME_MOMENT_MS) act();
    last = now;
  };
}

/** What an operator can act on; undefined for what nobody foresaw. */
function toStartMessage(error: unknown, settings: Settings): string | undefined {
  if (error instanceof Fault) return `${error.message} (data directory: ${settings.home})`;
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  if (code === "EADDRINUSE") return `port ${settings.port} is taken; set PILLION_PORT to another one`;
  if (["EACCES", "EPERM", "EROFS"].includes(code) && isUnder(settings.home, error))
    return toHomeMessage(settings.home);
  if (code === "EACCES") return `not allowed: ${error instanceof Error ? error.message : code}`;
  return undefined;
}

function isUnder(home: string, error: unknown): boolean {
  const path = error instanceof Error && "path" in error ? String(error.path) : "";
  return path === home || path.startsWith(`${home}/`) || home.startsWith(`${path}/`);
}

function toHomeMessage(home: string): string {
  const [uid, gid] = [process.getuid?.(), process.getgid?.()];
  return (
    `the data directory ${home} cannot be written to by uid ${uid}. Give it to that user (chown ${uid}:${gid}), start ` +
    "Pillion as its owner (in a container: --user), or name another one with PILLION_HOME; a container needs a volume there"
  );
}

function endAtOnce(log: Log, err: unknown): never {
  log.fatal({ err }, "the journal is gone: ending");
  process.exit(EXIT.failed);
}

function exit(code: number): void {
  process.exit(code);
}
