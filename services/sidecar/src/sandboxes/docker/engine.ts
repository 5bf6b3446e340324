/** The few calls of a Docker engine that we make, each with its deadline and its named failure. The only file that loads dockerode. */
import { existsSync } from "node:fs";
import type { Duplex, Readable } from "node:stream";
import type Docker from "dockerode";
import type { Container, ContainerCreateOptions, ContainerInspectInfo } from "dockerode";
import type { FailureCode } from "#contract/failure";
import { within } from "../../kernel/deadline.ts";
import { Fault } from "../../kernel/fault.ts";

const PING_MS = 3_000;
const CALL_MS = 20_000;

export type EngineFacts = {
  readonly version: string;
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly runtimes: readonly string[];
};

export type ImageFacts = {
  readonly id: string;
  /** As `name@sha256:…`. */
  readonly digests: readonly string[];
  /** As `NAME=value`. */
  readonly env: readonly string[];
  /** Paths that it wants volumes for. */
  readonly volumes: readonly string[];
};

export class Engine {
  readonly #host: string;
  #client: Promise<Docker> | undefined;

  /** `host` as in DOCKER_HOST: `unix:///path` or `tcp://name:port`. */
  constructor(host: string) {
    this.#host = host;
  }

  /** Throws sandbox_unavailable when the engine does not answer. */
  async readFacts(): Promise<EngineFacts> {
    const client = await this.#connect();
    const info = await this.#call("info", client.info(), PING_MS);
    return {
      version: String(info.ServerVersion),
      cpus: Number(info.NCPU),
      memoryBytes: Number(info.MemTotal),
      runtimes: Object.keys(info.Runtimes ?? {}),
    };
  }

  /** Throws sandbox_unavailable when the engine does not answer. */
  async ping(): Promise<void> {
    const client = await this.#connect();
    await this.#call("ping", client.ping(), PING_MS);
  }

  /** An image that is there. Throws image_missing. */
  async readImage(name: string): Promise<ImageFacts> {
    const client = await this.#connect();
    const { Id, RepoDigests, Config } = await this.#call("inspect image", client.getImage(name).inspect());
    const volumes = Object.keys(Config.Volumes ?? {});
    return { id: Id, digests: RepoDigests ?? [], env: Config.Env ?? [], volumes };
  }

  async create(options: ContainerCreateOptions): Promise<Container> {
    const client = await this.#connect();
    return this.#call("create", client.createContainer(options));
  }

  /** The container's three streams as one connection; open it before the start, so that nothing is lost. */
  async attach(container: Container): Promise<Duplex> {
    const options = { stream: true, stdin: true, stdout: true, stderr: true, hijack: true };
    const connection = await this.#call("attach", container.attach(options));
    return connection as Duplex; // dockerode's type says ReadWriteStream; it is the hijacked socket
  }

  async start(container: Container): Promise<void> {
    await this.#call("start", container.start());
  }

  async inspect(container: Container): Promise<ContainerInspectInfo> {
    return this.#call("inspect", container.inspect());
  }

  /** Ends it and everything in it; a container that is not there any more is fine. */
  async remove(container: Container): Promise<void> {
    await this.#call("remove", container.remove({ force: true, v: true })).catch(async (error: unknown) => {
      if (!isStatus(error, 404, 409)) throw error;
      // 409: its removal is going on already; it is over when it cannot be found.
      await this.#waitUntilGone(container);
    });
  }

  async listContainers(label: string): Promise<Container[]> {
    const client = await this.#connect();
    const filters = { label: [label] };
    const found = await this.#call("list", client.listContainers({ all: true, filters }));
    return found.map(({ Id }) => client.getContainer(Id));
  }

  async createVolume(name: string, labels: Record<string, string>): Promise<void> {
    const client = await this.#connect();
    await this.#call("create volume", client.createVolume({ Name: name, Labels: labels }));
  }

  /** Puts a tar into a volume by way of a container that is never started. */
  async fillVolume(
    to: {
      readonly name: string;
      readonly image: string;
      readonly labels: Record<string, string>;
      readonly target: string;
    },
    tar: Readable,
  ): Promise<void> {
    const container = await this.create({
      Image: to.image,
      Labels: to.labels,
      HostConfig: { NetworkMode: "none", Mounts: [{ Type: "volume", Source: to.name, Target: to.target }] },
    });
    try {
      await this.#call("fill", container.putArchive(tar, { path: to.target }));
    } finally {
      await this.remove(container);
    }
  }

  async removeVolume(name: string): Promise<void> {
    const client = await this.#connect();
    await this.#call("remove volume", client.getVolume(name).remove()).catch((error: unknown) => {
      if (!isStatus(error, 404)) throw error;
    });
  }

  async listVolumes(label: string): Promise<string[]> {
    const client = await this.#connect();
    const { Volumes } = await this.#call(
      "list volumes",
      client.listVolumes({ filters: JSON.stringify({ label: [label] }) }),
    );
    return (Volumes ?? []).map(({ Name }) => Name);
  }

  async #call<T>(what: string, work: Promise<T>, ms = CALL_MS): Promise<T> {
    const late = () =>
      new Fault("sandbox_unavailable", `The container engine did not answer "${what}" in time.`);
    try {
      return await within(ms, work, late);
    } catch (error) {
      throw toEngineFault(what, error);
    }
  }

  async #waitUntilGone(container: Container): Promise<void> {
    for (let round = 0; round < 100; round += 1) {
      const isThere = await this.#call("inspect", container.inspect()).then(
        () => true,
        (error: unknown) => !isStatus(error, 404),
      );
      if (!isThere) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Fault("sandbox_lost", "The run's container could not be removed.");
  }

  /** dockerode is large, and many services never need it. */
  async #connect(): Promise<Docker> {
    const socket = this.#host.startsWith("unix://") ? this.#host.slice("unix://".length) : undefined;
    if (socket !== undefined && !existsSync(socket)) {
      throw new Fault(
        "sandbox_unavailable",
        "There is no container engine at the configured address (PILLION_DOCKER_HOST).",
      );
    }
    this.#client ??= import("dockerode").then(({ default: Client }) => new Client(toConnection(this.#host)));
    return this.#client;
  }
}

function toConnection(host: string): Docker.DockerOptions {
  if (host.startsWith("unix://")) return { socketPath: host.slice("unix://".length) };
  const url = new URL(host.replace(/^tcp:/, "http:"));
  return { protocol: "http", host: url.hostname, port: url.port || "2375" };
}

function readStatus(error: unknown): number | undefined {
  const inner = error instanceof Fault ? error.cause : error;
  return inner instanceof Error && "statusCode" in inner ? Number(inner.statusCode) : undefined;
}

function isStatus(error: unknown, ...statuses: number[]): boolean {
  const status = readStatus(error);
  return status !== undefined && statuses.includes(status);
}

/** The engine's own words stay in the log: they name paths of the machine. */
function toEngineFault(what: string, error: unknown): Fault {
  if (error instanceof Fault) return error;
  const status = readStatus(error);
  const text = error instanceof Error ? error.message : String(error);
  const [code, detail] = toCode(what, status, text);
  return new Fault(code, detail, { cause: error });
}

function toCode(what: string, status: number | undefined, text: string): [FailureCode, string] {
  if (status === undefined && /EACCES/.test(text))
    return [
      "sandbox_unavailable",
      "This user may not open the container engine's socket: give Pillion its proxy.",
    ];
  if (status === undefined) return ["sandbox_unavailable", "The container engine cannot be reached."];
  if (status === 403) {
    const [, why = "its log says why"] = /engine-proxy: ([ \w'.,-]{1,200})/.exec(text) ?? [];
    return ["sandbox_unavailable", `The container engine's proxy does not allow "${what}": ${why}.`];
  }
  if (status === 400 && /bind source path does not exist/.test(text))
    return [
      "forbidden",
      "The directory is not there on the container engine's machine: send the files instead.",
    ];
  if (/no space left on device/i.test(text)) return ["storage_full", "The container engine's disk is full."];
  if (status === 404 && /image/i.test(text))
    return ["image_missing", "The sandbox image is not on the container engine."];
  if (/runtime/i.test(text) && /unknown|not found|invalid/i.test(text))
    return ["sandbox_unavailable", "The container engine does not have the wanted runtime."];
  return ["sandbox_unavailable", `The container engine could not "${what}" (HTTP ${status}).`];
}
