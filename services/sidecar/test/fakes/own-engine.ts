// A container engine of a test's own, without any network, that may be stopped, killed and started again at will.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { killProcess, readProcessIds } from "../../src/kernel/process-table.ts";

const UP_MS = 30_000;

export type OwnEngineOptions = {
  /** Its images and containers lie on a file system of their own, of this size. */
  readonly dataBytes?: number;
  /** What to write before its program; a network namespace of its own unless told otherwise. */
  readonly prefix?: readonly [string, ...string[]];
  /** Settings of its daemon.json about networks; none unless told otherwise. */
  readonly network?: Readonly<Record<string, unknown>>;
};

const NO_NETWORK = { bridge: "none", iptables: false, "ip-forward": false, "ip-masq": false };

export class OwnEngine implements AsyncDisposable {
  /** For PILLION_DOCKER_HOST. */
  readonly host: string;
  /** Where the engine keeps images and containers: a file system of its own where a size was asked for. */
  readonly dataDir: string;
  readonly #directory: string;
  readonly #root: string;
  readonly #prefix: readonly [string, ...string[]];
  #dockerd: ChildProcess | undefined;

  private constructor(root: string, { dataBytes, prefix, network }: OwnEngineOptions) {
    this.#directory = mkdtempSync(join(tmpdir(), "pillion-own-engine-"));
    this.#root = root;
    // A network namespace of its own: it can have no bridge without taking away another engine's.
    this.#prefix = prefix ?? ["unshare", "--net", "--"];
    this.host = `unix://${this.#directory}/docker.sock`;
    this.dataDir = join(this.#directory, "data");
    mkdirSync(this.dataDir);
    if (dataBytes !== undefined)
      execFileSync("mount", ["-t", "tmpfs", "-o", `size=${dataBytes}`, "pillion-test", this.dataDir]);
    const config = {
      ...{ "data-root": this.dataDir, "exec-root": join(this.#directory, "exec") },
      ...{ pidfile: join(this.#directory, "dockerd.pid"), hosts: [this.host] },
      ...(network ?? NO_NETWORK),
      ...(existsSync(this.#toInit()) ? { "init-path": this.#toInit() } : {}),
    };
    writeFileSync(join(this.#directory, "daemon.json"), JSON.stringify(config));
  }

  /** `docker` is the client's path: the engine's own program lies near it. Starts it, with one image of another engine. */
  static async open(
    docker: string,
    image: { from: string; name: string },
    options: OwnEngineOptions = {},
  ): Promise<OwnEngine> {
    const engine = new OwnEngine(join(dirname(realpathSync(docker)), "../.."), options);
    try {
      await engine.start();
      const copy = `"$1" -H "$2" save "$3" | "$1" -H "$4" load`;
      execFileSync("bash", [
        "-o",
        "pipefail",
        "-c",
        copy,
        "bash",
        docker,
        image.from,
        image.name,
        engine.host,
      ]);
      return engine;
    } catch (error) {
      await engine[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Where the engine's own program would be, by its client's path. */
  static findProgram(docker: string): string {
    return join(dirname(realpathSync(docker)), "../sbin/dockerd");
  }

  async start(): Promise<void> {
    for (const name of ["dockerd.pid", "docker.sock"]) rmSync(join(this.#directory, name), { force: true });
    const [root, log] = [this.#root, join(this.#directory, "dockerd.log")];
    const [file, ...args] = this.#prefix;
    const output = openSync(log, "a");
    const program = [`${root}/usr/sbin/dockerd`, "--config-file", join(this.#directory, "daemon.json")];
    const dockerd = spawn(file, [...args, ...program], {
      stdio: ["ignore", output, output],
      env: {
        PATH: `${root}/usr/sbin:${root}/usr/bin:${process.env.PATH}`,
        LD_LIBRARY_PATH: `${root}/usr/lib/x86_64-linux-gnu:${root}/usr/lib/aarch64-linux-gnu`,
      },
    });
    closeSync(output);
    this.#dockerd = dockerd;
    const untilMs = performance.now() + UP_MS;
    while (!(await this.#answers())) {
      if (performance.now() > untilMs || dockerd.exitCode !== null)
        throw new Error(`the engine did not come up:\n${readFileSync(log, "utf8").slice(-4_000)}`);
      await delay(50);
    }
  }

  /** Resolves when the engine's own process is gone; what it started may live on. */
  async kill(signal: "SIGKILL" | "SIGTERM"): Promise<void> {
    const dockerd = this.#dockerd;
    if (dockerd === undefined || dockerd.exitCode !== null || dockerd.signalCode !== null) return;
    const ended = once(dockerd, "exit");
    dockerd.kill(signal);
    await ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill("SIGTERM");
    // containerd and its shims name the directory in their command lines.
    for (let round = 0; round < 100; round += 1) {
      const left = await readProcessIds((line) => line.includes(this.#directory));
      if (left.length === 0) break;
      for (const id of left) killProcess(id, "SIGKILL");
      await delay(50);
    }
    const mounts = readFileSync("/proc/self/mounts", "utf8").split("\n");
    const inside = mounts
      .map((line) => line.split(" ")[1] ?? "")
      .filter((path) => path.startsWith(this.#directory));
    for (const path of inside.toReversed()) execFileSync("umount", ["--lazy", path]);
    rmSync(this.#directory, { recursive: true, force: true });
  }

  #toInit(): string {
    return `${this.#root}/usr/bin/tini-static`;
  }

  #answers(): Promise<boolean> {
    return new Promise((resolve) => {
      const asked = request({ socketPath: this.host.slice("unix://".length), path: "/_ping", agent: false });
      asked.once("response", (answer) => resolve(answer.resume().statusCode === 200));
      asked.once("error", () => resolve(false)).end();
    });
  }
}
