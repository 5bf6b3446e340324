/** Drives Pi: started closed with our extension only, opened by one claim, proved open before any prompt. */
import { createHash, randomBytes } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import type { EventBody } from "#contract/event";
import { Claim } from "#contract/extension";
import { CLAIM_PREFIX, CLOSED_COMMAND, PROOF_COMMAND_PREFIX } from "#contract/extension-words";
import type { HarnessInfo, RunHarness } from "#contract/harness";
import { within } from "../../kernel/deadline.ts";
import { Fault } from "../../kernel/fault.ts";
import { toBasePrice } from "../../model-price.ts";
import type { FillFile, Sandbox, SandboxProcess } from "../../sandboxes/sandbox.ts";
import type {
  Harness,
  HarnessClaim,
  HarnessStop,
  OpenHarness,
  PromptEnd,
  StartedHarness,
  StartOptions,
} from "../harness.ts";
import { EMPTY_FOLD, foldPiRecord, type PiFold, type PiStep } from "./pi-events.ts";
import { toCrash, toExtensionFault, toModelFault } from "./pi-faults.ts";
import { PiCommands, type PiRecord, PiState } from "./pi-records.ts";
import { PiRpc } from "./pi-rpc.ts";
import { stopPi } from "./pi-stop.ts";

const PACKAGE = "pi/node_modules/@earendil-works/pi-coding-agent";
const CLI = `${PACKAGE}/dist/bundle/cli.js`;
const EXTENSION = "extension/pillion.js";
/** Made by scripts/build.mjs, over all files of each harness. */
const DIGESTS = "harnesses.json";
/** Before the first retry; each later one waits twice as long. */
const RETRY_DELAY_MS = 1_000;
/** A program may close its output and live on. */
const EXIT_MS = 2_000;

export type PiDeadlines = {
  /** Most time until Pi's first answer. */
  readonly startMs: number;
  /** Most time for the claim and its proof. */
  readonly claimMs: number;
};

const DEADLINES: PiDeadlines = { startMs: 20_000, claimMs: 10_000 };

export class PiHarness implements Harness {
  readonly id = "pi";
  readonly #productDir: string;
  readonly #extension: Buffer;
  readonly #seed: readonly FillFile[];
  readonly #retries: number;
  readonly #deadlines: PiDeadlines;
  #described: Promise<RunHarness> | undefined;

  /**
   * `productDir` holds pi/ and extension/ as the build made them. `retries`: how often a model call that failed for a
   * passing reason is made again. Throws harness_unavailable when the parts are not there.
   */
  constructor(productDir: string, retries = 0, deadlines = DEADLINES) {
    this.#productDir = productDir;
    this.#retries = retries;
    this.#deadlines = deadlines;
    if (!existsSync(join(productDir, CLI)) || !existsSync(join(productDir, EXTENSION))) {
      throw new Fault(
        "harness_unavailable",
        "Pi or its extension is missing from this build; run `npm start` again.",
      );
    }
    this.#extension = readFileSync(join(productDir, EXTENSION));
    this.#seed = readJitiSeed(productDir);
  }

  async describe(): Promise<HarnessInfo> {
    const { id, version, sha256, source } = await this.#identify();
    return { id, title: "Pi", installed: true, version, sha256, licence: "MIT", source, drivenBy: "pi-rpc" };
  }

  async start(sandbox: Sandbox, options: StartOptions): Promise<StartedHarness> {
    const sha256 = toSha256(this.#extension);
    const known = await this.#identify();
    refuseOtherBuild(sandbox, sha256, known);
    const { paths } = sandbox;
    const extensionPath = `${paths.product}/${EXTENSION}`;
    const agentDir = `${paths.home}/.pi`;
    await sandbox.fill("home", this.#homeFiles());
    const process = await sandbox.start({
      program: paths.node,
      // A shell that Pi starts could signal it to open its debugger.
      args: ["--disable-sigusr1", `${paths.product}/${CLI}`, ...toArguments(extensionPath, options.tools)],
      env: {
        ...options.env,
        PATH: paths.path,
        HOME: paths.home,
        TMPDIR: `${paths.home}/tmp`,
        LANG: "C.UTF-8",
        PI_CODING_AGENT_DIR: agentDir,
        PI_OFFLINE: "1",
        PI_SKIP_VERSION_CHECK: "1",
        PI_TELEMETRY: "0",
        NO_COLOR: "1",
      },
    });
    const retries = this.#retries > 0;
    return new StartedPi(process, sandbox, known, sha256, extensionPath, retries, this.#deadlines);
  }

  /** The extension lies in the run's own agent directory, byte-identical to what Pi loads from the read-only product. */
  #homeFiles(): FillFile[] {
    return [
      { path: ".pi/extensions/pillion.js", content: this.#extension, executable: false },
      { path: ".pi/settings.json", content: toPiSettings(this.#retries), executable: false },
      ...this.#seed.map((file) => ({ ...file, path: `tmp/jiti/${file.path}` })),
    ];
  }

  #identify(): Promise<RunHarness> {
    this.#described ??= identify(this.#productDir);
    return this.#described;
  }
}

/** The receipt names our digests, so what Pi is made of there must have them: an image may be of another build. */
function refuseOtherBuild(sandbox: Sandbox, extensionSha256: string, pi: RunHarness): void {
  const other = [
    ...(sandbox.extensionSha256 === extensionSha256 ? [] : ["extension"]),
    ...(sandbox.harnessSha256[pi.id] === pi.sha256 ? [] : ["Pi"]),
  ];
  if (other.length === 0) return;
  throw new Fault(
    "harness_unavailable",
    `The sandbox holds another ${other.join(" and another ")} than this service: build the image again, or start the service again.`,
  );
}

function toSha256(bytes: Buffer): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Pi 1.5.2, docs/settings.md. */
function toPiSettings(retries: number): Buffer {
  const retry = { enabled: retries > 0, maxRetries: retries, baseDelayMs: RETRY_DELAY_MS };
  return Buffer.from(JSON.stringify({ retry }));
}

function toArguments(extensionPath: string, tools: readonly string[]): string[] {
  return [
    ...["--mode", "rpc", "--no-extensions", "-e", extensionPath, "--no-skills", "--no-prompt-templates"],
    ...["--no-context-files", "--no-themes", "--no-session", "--no-approve", "--offline"],
    ...(tools.length === 0 ? ["--no-tools"] : ["--tools", tools.join(",")]),
  ];
}

async function identify(productDir: string): Promise<RunHarness> {
  const { version } = z
    .object({ version: z.string() })
    .parse(JSON.parse(readFileSync(join(productDir, PACKAGE, "package.json"), "utf8")));
  const { pi } = z
    .object({ pi: z.string() })
    .parse(JSON.parse(readFileSync(join(productDir, DIGESTS), "utf8")));
  return { id: "pi", version, sha256: pi, source: "baked" };
}

/** jiti's translation of our extension, made at build time; without it every start would load a compiler. */
function readJitiSeed(productDir: string): FillFile[] {
  const index = join(productDir, "extension/jiti-seed.json");
  if (!existsSync(index)) return [];
  const names = z.array(z.string().regex(/^[\w.-]+$/)).parse(JSON.parse(readFileSync(index, "utf8")));
  return names.map((name) => ({
    path: name,
    content: readFileSync(join(productDir, "extension/jiti", name)),
    executable: false,
  }));
}

class StartedPi implements StartedHarness, OpenHarness {
  readonly harness: RunHarness;
  readonly extensionSha256: string;
  readonly #process: SandboxProcess;
  readonly #sandbox: Sandbox;
  readonly #rpc: PiRpc;
  readonly #extensionPath: string;
  readonly #retries: boolean;
  readonly #deadlines: PiDeadlines;
  #claimed = false;
  #stopping: Promise<HarnessStop> | undefined;

  constructor(
    process: SandboxProcess,
    sandbox: Sandbox,
    harness: RunHarness,
    extensionSha256: string,
    extensionPath: string,
    retries: boolean,
    deadlines: PiDeadlines,
  ) {
    this.#process = process;
    this.#sandbox = sandbox;
    this.harness = harness;
    this.extensionSha256 = extensionSha256;
    this.#extensionPath = extensionPath;
    this.#retries = retries;
    this.#deadlines = deadlines;
    this.#rpc = new PiRpc(process);
  }

  async claim(wanted: HarnessClaim): Promise<OpenHarness> {
    if (this.#claimed) throw new Fault("internal", "A harness can be claimed only once.");
    this.#claimed = true;
    const claim = toClaim(wanted);
    // The first answer says that Pi is up; until then the time is the start's.
    const started = this.#rpc.ask({ type: "set_auto_retry", enabled: this.#retries });
    const { startMs, claimMs } = this.#deadlines;
    await this.#orExit(startMs, started, "harness_not_started", "Pi did not start");
    await this.#orExit(claimMs, this.#open(claim), "harness_protocol", "Pi did not take the claim");
    return this;
  }

  async *prompt(text: string): AsyncGenerator<EventBody, PromptEnd, void> {
    const accepted = this.#rpc.ask({ type: "prompt", message: text });
    accepted.catch(() => undefined);
    let fold = EMPTY_FOLD;
    while (!fold.settled) {
      const record = await this.#orCrash(this.#rpc.next());
      const step = toStep(fold, record);
      fold = step.fold;
      yield* step.events;
      if (fold.extensionError !== null) throw toExtensionFault(fold.extensionError);
    }
    await this.#orCrash(accepted);
    return toPromptEnd(fold);
  }

  stop(): Promise<HarnessStop> {
    this.#stopping ??= stopPi(this.#rpc, this.#process, this.#sandbox);
    return this.#stopping;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #open(claim: Claim): Promise<void> {
    await this.#proveCommand(CLOSED_COMMAND);
    await this.#rpc.ask({ type: "prompt", message: `${CLAIM_PREFIX}${JSON.stringify(claim)}` });
    await this.#proveCommand(`${PROOF_COMMAND_PREFIX}${claim.nonce}`);
    const { model } = PiState.parse(await this.#rpc.ask({ type: "get_state" }));
    if (model?.provider !== claim.provider || model.id !== claim.model || model.baseUrl !== claim.baseUrl) {
      throw new Fault("harness_protocol", "Pi did not take the claimed model; nothing was sent to a model.");
    }
  }

  /** Throws extension_missing unless our own file, and no other, has registered the command. */
  async #proveCommand(wanted: string): Promise<void> {
    const { commands } = PiCommands.parse(await this.#rpc.ask({ type: "get_commands" }));
    const proof = commands.find(({ name, source }) => name === wanted && source === "extension");
    if (proof?.sourceInfo.path === this.#extensionPath) return;
    throw new Fault(
      "extension_missing",
      "Pi did not prove that the policy extension holds; nothing was sent to a model.",
    );
  }

  async #orExit<T>(
    ms: number,
    work: Promise<T>,
    code: "harness_not_started" | "harness_protocol",
    what: string,
  ): Promise<T> {
    const late = () => new Fault(code, `${what} in time.`);
    return within(ms, this.#orCrash(work, code === "harness_not_started"), late);
  }

  /** A broken pipe says less than the exit behind it: when Pi is gone, its exit is the cause. */
  async #orCrash<T>(work: Promise<T>, starting = false): Promise<T> {
    try {
      return await work;
    } catch (error) {
      if (!(error instanceof Fault) || error.code !== "harness_crashed") throw error;
      const lost = new Fault("sandbox_lost", "The sandbox ended before the run did.", { cause: error });
      const exited = this.#process.exited.catch(() => Promise.reject(lost));
      throw toCrash(await within(EXIT_MS, exited, () => error), starting, this.#process.stderrTail());
    }
  }
}

function toStep(fold: PiFold, record: PiRecord): PiStep {
  try {
    return foldPiRecord(fold, record);
  } catch (error) {
    throw new Fault("harness_protocol", "Pi reported something that is not its protocol.", { cause: error });
  }
}

function toClaim(wanted: HarnessClaim): Claim {
  return Claim.parse({
    nonce: randomBytes(16).toString("hex"),
    provider: wanted.model.provider,
    model: wanted.model.name,
    api: wanted.model.api,
    baseUrl: wanted.baseUrl,
    placeholder: wanted.placeholder,
    reasoning: wanted.model.reasoning,
    contextWindow: wanted.model.contextWindow,
    maxTokens: wanted.model.maxTokens,
    price: wanted.model.price === null ? null : toBasePrice(wanted.model.price),
    thinking: wanted.thinking,
    tools: [...wanted.tools],
    instructions: wanted.instructions,
    skills: [...wanted.skills],
  });
}

function toPromptEnd(fold: PiFold): PromptEnd {
  const stopReason = fold.stopReason ?? "none";
  if (stopReason === "error") return { output: fold.output, stopReason, failure: toModelFault(fold) };
  if (fold.stopReason === null) {
    const failure = new Fault("harness_protocol", "Pi settled without an answer of the model.");
    return { output: fold.output, stopReason, failure };
  }
  return { output: fold.output, stopReason, failure: null };
}
