/** Carries out the sidecar's commands, each answered once with `done` or `failed`. */
import { mkdir } from "node:fs/promises";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { GuardCommand, GuardConfig } from "#contract/guard";
import { PIPE_PATHS } from "#contract/pipe";
import { HarnessProcess } from "./harness-process.ts";
import type { Link } from "./link.ts";
import { clearProcesses } from "./sweep.ts";
import { readView } from "./view.ts";
import type { Snapshot } from "./workspace/snapshot.ts";

// What reads and compares workspaces is loaded when first needed: starting quickly comes first.
const loadFill = () => import("./fill.ts");
const loadResults = () => import("./results.ts");

type CommandOf<Op extends GuardCommand["op"]> = Extract<GuardCommand, { op: Op }>;

export class CommandDesk {
  readonly #config: GuardConfig;
  readonly #link: Link;
  #harness: HarnessProcess | undefined;
  #snapshot: Snapshot | undefined;

  constructor(config: GuardConfig, link: Link) {
    this.#config = config;
    this.#link = link;
  }

  async take(command: GuardCommand): Promise<void> {
    try {
      const value = await this.#carryOut(command);
      this.#link.tell({ kind: "done", id: command.id, ...(value === undefined ? {} : { value }) });
    } catch (error) {
      const code = error instanceof Error && "code" in error ? String(error.code) : "failed";
      const message = error instanceof Error ? error.message : String(error);
      this.#link.tell({
        kind: "failed",
        id: command.id,
        code: code.slice(0, 64),
        message: message.slice(0, 2000),
      });
    }
  }

  async #carryOut(command: GuardCommand): Promise<unknown> {
    switch (command.op) {
      case "fill":
        return this.#fill(command);
      case "snapshot":
        return this.#takeSnapshot();
      case "inspect":
        return readView(this.#config);
      case "start":
        return this.#start(command);
      case "signal":
        this.#harness?.signal(command.signal);
        return undefined;
      case "clear":
        return clearProcesses(this.#config);
      case "changes":
        return this.#send(command.id, (results, snapshot) => results.changes(this.#config, snapshot));
      case "diff":
        return this.#send(command.id, (results, snapshot) => results.diff(this.#config, snapshot));
      case "file":
        return this.#send(command.id, (results) => results.file(this.#config, command.path));
      case "tar":
        return this.#send(command.id, (results, snapshot) =>
          results.tar(this.#config, snapshot, command.maxBytes),
        );
    }
  }

  async #fill(command: CommandOf<"fill">): Promise<void> {
    const { unpack } = await loadFill();
    const stream = this.#link.open(`${PIPE_PATHS.fill}?id=${command.id}`);
    stream.end();
    const { workspace, home, references } = this.#config;
    await unpack(stream, { workspace, home, references: references.directory }[command.target]);
  }

  async #takeSnapshot(): Promise<void> {
    const { takeSnapshot } = await import("./workspace/snapshot.ts");
    await mkdir(this.#config.baseline, { recursive: true, mode: 0o700 });
    this.#snapshot = await takeSnapshot(this.#config.workspace, this.#config.baseline);
  }

  async #start(command: CommandOf<"start">): Promise<{ pid: number }> {
    if (this.#harness !== undefined) throw new Error("a harness was started already");
    const { program, args } = command;
    const env = { ...command.env, ...toMarkEntry(this.#config) };
    this.#harness = await HarnessProcess.start(this.#link, {
      program,
      args,
      env,
      cwd: this.#config.workspace,
    });
    return { pid: this.#harness.pid };
  }

  /** Sends bytes on a stream of their own; the command is done when the last one is written. */
  async #send(
    id: number,
    read: (results: Awaited<ReturnType<typeof loadResults>>, snapshot: Snapshot) => Promise<Readable>,
  ): Promise<void> {
    if (this.#snapshot === undefined) throw new Error("there is no snapshot to compare with");
    const source = await read(await loadResults(), this.#snapshot);
    const stream = this.#link.open(`${PIPE_PATHS.data}?id=${id}`);
    stream.resume();
    await pipeline(source, stream);
  }
}

/** Without a PID namespace the run's processes are told by an entry of their environment, which children inherit. */
function toMarkEntry({ ownsPidNamespace, marker }: GuardConfig): Record<string, string> {
  const [name = "", value = ""] = marker.split("=", 2);
  return ownsPidNamespace || name === "" ? {} : { [name]: value };
}
