// A sandbox without a guard, a pipe or isolation: directories and children of the test itself, for tests of what uses one.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Duplex, Readable } from "node:stream";
import { selectKept } from "#contract/kept-files";
import type { Receipt } from "#contract/sandbox";
import { readChanges } from "../../../guard/src/workspace/changes.ts";
import { readDiff } from "../../../guard/src/workspace/diff.ts";
import { exportTar } from "../../../guard/src/workspace/export-tar.ts";
import { fillWorkspace } from "../../../guard/src/workspace/fill-workspace.ts";
import { openWorkspaceFile } from "../../../guard/src/workspace/read-file.ts";
import { type Snapshot, takeSnapshot } from "../../../guard/src/workspace/snapshot.ts";
import { Fault } from "../../src/kernel/fault.ts";
import type {
  FillFile,
  ProgramSpec,
  Sandbox,
  SandboxPaths,
  SandboxProcess,
} from "../../src/sandboxes/sandbox.ts";

export class FakeSandbox implements Sandbox {
  readonly directory = mkdtempSync(join(tmpdir(), "pillion-fake-sandbox-"));
  readonly doorPort = 9;
  readonly extensionSha256 = "0".repeat(64);
  readonly harnessSha256 = {};
  readonly paths: SandboxPaths;
  readonly lost: Promise<never>;
  readonly receipt: Receipt;
  readonly #lose = Promise.withResolvers<never>();
  readonly #baseline: string;
  #snapshot: Snapshot | undefined;
  #child: ReturnType<typeof spawn> | undefined;
  #isGone = false;

  constructor() {
    const at = (name: string): string => join(this.directory, name);
    for (const name of ["workspace", "home", "temp", "baseline"]) mkdirSync(at(name));
    this.#baseline = at("baseline");
    const node = process.execPath;
    const product = join(import.meta.dirname, "../../../../dist/product");
    this.paths = {
      workspace: at("workspace"),
      home: at("home"),
      temp: at("temp"),
      node,
      product,
      path: "/usr/bin:/bin",
    };
    this.lost = this.#lose.promise;
    this.lost.catch(() => undefined);
    this.receipt = {
      kind: "local",
      isolated: false,
      requested: { kind: "local", network: "none" },
      namespaces: [],
      network: "host",
      egressEnforced: false,
      user: { uid: process.getuid?.() ?? -1, gid: process.getgid?.() ?? -1 },
      capabilities: [],
      noNewPrivileges: false,
      readOnlySystem: false,
      workspace: "read-write",
      limits: {},
      missing: ["everything: this is a fake"],
    };
  }

  /** Plays a guard that died. */
  lose(): void {
    this.#kill();
    this.#isGone = true;
    this.#lose.reject(new Fault("sandbox_lost", "The sandbox ended before the run did."));
  }

  async fill(target: "workspace" | "home", files: readonly FillFile[]): Promise<void> {
    this.#check();
    try {
      fillWorkspace(this.paths[target], files);
    } catch (cause) {
      throw new Fault("invalid_request", "The path is not a safe path inside the workspace.", { cause });
    }
  }

  async seal(): Promise<void> {
    this.#check();
    this.#snapshot = await takeSnapshot(this.paths.workspace, this.#baseline);
  }

  async start({ program, args, env }: ProgramSpec): Promise<SandboxProcess> {
    this.#check();
    if (this.#child !== undefined)
      throw new Fault("sandbox_lost", "The guard could not carry out a command.");
    const child = spawn(program, args, {
      cwd: this.paths.workspace,
      env: { ...env },
      stdio: ["pipe", "pipe", "pipe"],
      detached: true,
    });
    await once(child, "spawn");
    this.#child = child;
    let tail = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      tail = (tail + text).slice(-4096);
    });
    child.stdin.on("error", () => undefined);
    const exited = once(child, "exit").then(([code, signal]) => ({ code, signal, oom: false }));
    const stdio = Duplex.from({ readable: child.stdout, writable: child.stdin });
    stdio.on("error", () => undefined); // a killed program closes early
    return {
      stdio,
      stderrTail: () => tail,
      exited,
      signal: async (signal) => void process.kill(-(child.pid ?? 0), signal),
    };
  }

  async clear(): Promise<number> {
    this.#check();
    return this.#kill() ? 1 : 0;
  }

  async openChanges(): Promise<Readable> {
    return Readable.from([JSON.stringify(await readChanges(this.paths.workspace, this.#sealed()))]);
  }

  async openDiff(): Promise<Readable> {
    return Readable.from([(await readDiff(this.paths.workspace, this.#sealed(), this.#baseline)).text]);
  }

  async openFile(path: string): Promise<Readable> {
    this.#sealed();
    const opened = openWorkspaceFile(this.paths.workspace, path);
    if (opened.ok) return opened.stream;
    throw new Fault(
      opened.refusal === "unsafe_path" ? "invalid_request" : "not_found",
      "The file cannot be read.",
    );
  }

  async openTar(maxBytes: number): Promise<Readable> {
    const { files } = await readChanges(this.paths.workspace, this.#sealed());
    return exportTar(this.paths.workspace, selectKept(files, maxBytes).kept);
  }

  async close(): Promise<void> {
    const child = this.#child;
    if (this.#kill() && child !== undefined) await once(child, "exit");
    this.#isGone = true;
    rmSync(this.directory, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #sealed(): Snapshot {
    this.#check();
    if (this.#snapshot === undefined)
      throw new Fault("sandbox_lost", "The guard could not carry out a command.");
    return this.#snapshot;
  }

  #check(): void {
    if (this.#isGone) throw new Fault("sandbox_lost", "The sandbox ended before its work was done.");
  }

  #kill(): boolean {
    const child = this.#child;
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return false;
    process.kill(-child.pid, "SIGKILL");
    return true;
  }
}
