/** A sandbox in name only, for machines without namespaces: exists where an operator set PILLION_ALLOW_UNISOLATED. */
import { type ChildProcess, spawn } from "node:child_process";
import { chmod, mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { Duplex } from "node:stream";
import type { GuardConfig, GuardView } from "#contract/guard";
import type { Receipt } from "#contract/sandbox";
import { within } from "../../kernel/deadline.ts";
import { Fault } from "../../kernel/fault.ts";
import { killProcess, readMarkedIds } from "../../kernel/process-table.ts";
import type { Place, PlaceEnd, PlaceKind, PlaceProbe, SandboxPaths, SandboxSpec } from "../sandbox.ts";

const END_MS = 2_000;
const SWEEP_ROUNDS = 40;
const SWEEP_PAUSE_MS = 25;

const MISSING = [
  "process isolation",
  "file system isolation: a run reads what the service's user can read",
  "network isolation: egress is not enforced",
  "an unprivileged user",
  "memory, cpu, pids and disk limits",
];

export type UnisolatedOptions = {
  readonly home: string;
  readonly productDir: string;
  readonly nodePath: string;
  readonly instance: string;
};

export class UnisolatedPlaces implements PlaceKind {
  readonly kind = "local";
  readonly #options: UnisolatedOptions;

  constructor(options: UnisolatedOptions) {
    this.#options = options;
  }

  async probe(): Promise<PlaceProbe> {
    const detail = "no isolation, by the operator's setting PILLION_ALLOW_UNISOLATED";
    return { kind: "local", available: true, isolated: false, detail, missing: MISSING };
  }

  async open(spec: SandboxSpec, signal: AbortSignal): Promise<Place> {
    signal.throwIfAborted();
    if (spec.readOnly) {
      throw new Fault(
        "isolation_unavailable",
        "A reader needs a read-only workspace, which cannot be had without isolation.",
      );
    }
    if (spec.references.length > 0) {
      throw new Fault(
        "isolation_unavailable",
        "References must be read-only, which cannot be had without isolation.",
      );
    }
    const directory = join(this.#options.home, "runs", spec.runId);
    for (const name of ["workspace", "home", "tmp"])
      await mkdir(join(directory, name), { recursive: true, mode: 0o700 });
    return new UnisolatedPlace(spec, directory, this.#options);
  }

  async sweep(): Promise<number> {
    const ids = await readMarkedIds(toMarker(this.#options.instance, ""));
    for (const id of ids) killProcess(id, "SIGKILL");
    await rm(join(this.#options.home, "runs"), { recursive: true, force: true });
    return ids.length;
  }
}

class UnisolatedPlace implements Place {
  readonly pipe: Duplex;
  readonly paths: SandboxPaths;
  readonly ended: Promise<PlaceEnd>;
  readonly #child: ChildProcess;
  readonly #marker: string;
  readonly #directory: string;
  readonly #spec: SandboxSpec;

  constructor(spec: SandboxSpec, directory: string, options: UnisolatedOptions) {
    this.#spec = spec;
    this.#directory = directory;
    this.#marker = toMarker(options.instance, spec.runId);
    this.paths = {
      workspace: spec.workspace.kind === "bind" ? spec.workspace.path : join(directory, "workspace"),
      home: join(directory, "home"),
      temp: join(directory, "tmp"),
      node: options.nodePath,
      product: options.productDir,
      path: `${options.productDir}/bin:/usr/local/bin:/usr/bin:/bin`,
    };
    const config: GuardConfig = {
      workspace: this.paths.workspace,
      home: this.paths.home,
      references: { directory: join(directory, "references"), names: [] },
      baseline: join(this.paths.temp, "baseline"),
      ownsPidNamespace: false,
      marker: this.#marker,
    };
    const [name, value] = this.#marker.split("=", 2);
    this.#child = spawn(
      options.nodePath,
      [join(options.productDir, "guard/main.mjs"), JSON.stringify(config)],
      {
        stdio: ["pipe", "pipe", "ignore"],
        cwd: directory,
        env: { PATH: this.paths.path, LANG: "C.UTF-8", [name ?? ""]: value },
        detached: true,
      },
    );
    const { stdin, stdout } = this.#child;
    if (stdin === null || stdout === null)
      throw new Fault("internal", "A child process came without its pipes.");
    this.pipe = Duplex.from({ readable: stdout, writable: stdin });
    this.pipe.on("error", () => undefined);
    const { promise, resolve } = Promise.withResolvers<PlaceEnd>();
    this.ended = promise;
    this.#child.once("error", (error) => resolve({ detail: error.message }));
    this.#child.once("exit", (code, signal) => resolve({ detail: `the guard ended (${signal ?? code})` }));
  }

  async seal(): Promise<void> {
    await chmod(this.#directory, 0o700);
  }

  toReceipt(view: GuardView): Receipt {
    return {
      kind: "local",
      isolated: false,
      requested: { kind: this.#spec.requestedKind, network: "none" },
      namespaces: [],
      network: "host",
      egressEnforced: false,
      user: { uid: view.uid, gid: view.gid },
      capabilities: /^0*$/.test(view.capEff) ? [] : ["those of the service"],
      noNewPrivileges: view.noNewPrivs === true,
      readOnlySystem: !view.systemWritable,
      workspace: "read-write",
      limits: {},
      missing: MISSING,
    };
  }

  /** By group, then by mark: what left the group still carries the run's mark in its environment. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.pipe.destroy();
    await within(END_MS, this.ended, () => new Fault("sandbox_lost", "The guard did not end in time.")).catch(
      () => {
        if (this.#child.pid !== undefined) process.kill(-this.#child.pid, "SIGKILL");
      },
    );
    try {
      await this.#clear();
    } finally {
      await rm(this.#directory, { recursive: true, force: true });
    }
  }

  async #clear(): Promise<void> {
    for (let round = 0; round < SWEEP_ROUNDS; round += 1) {
      const ids = await readMarkedIds(this.#marker);
      if (ids.length === 0) return;
      for (const id of ids) killProcess(id, "SIGKILL");
      await new Promise((resolve) => setTimeout(resolve, SWEEP_PAUSE_MS));
    }
    throw new Fault("sandbox_lost", "Processes of the run could not be ended.");
  }
}

/** The environment entry that marks a run's processes; with an empty run id the beginning that all of an instance share. */
function toMarker(instance: string, runId: string): string {
  return `PILLION_MARK=${instance}/${runId}`;
}
