/** The few calls of a Docker engine that we make, each with its deadline and its named failure. The only file that loads dockerode. */
import { existsSync } from "node:fs";
import { Agent } from "node:http";
import type { Duplex, Readable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import type Docker from "dockerode";
import type { Container, ContainerCreateOptions, ContainerInspectInfo } from "dockerode";
import { unlessAborted, within } from "../../kernel/deadline.ts";
import { Fault } from "../../kernel/fault.ts";
import { isStatus, toEngineFault } from "./engine-fault.ts";

/** For the questions that tell whether the engine is there: callers wait for them. */
const PROBE_MS = 3_000;
const CALL_MS = 20_000;
const GONE_MS = 10_000;
const GONE_PAUSE_MS = 50;

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

/** A container or volume as a list tells it. */
export type Labelled = { readonly id: string; readonly labels: Readonly<Record<string, string>> };

type CallBounds = {
  readonly ms?: number;
  /** Ends the wait for an answer early, with its reason. */
  readonly signal?: AbortSignal | undefined;
};

/**
 * A question that is not answered in time, or not wanted any more, takes its connection with it. What it asked for may
 * still be done: whoever asks cleans up by label, not by what was answered.
 */
export class Engine {
  readonly #host: string;
  /** What was given up while the engine was making it. */
  readonly #unwanted = new Set<Promise<void>>();
  #client: Promise<Docker> | undefined;
  /** For questions that dockerode takes no signal for: it drops a connection that is silent for so long. */
  #prober: Promise<Docker> | undefined;

  /** `host` as in DOCKER_HOST: `unix:///path` or `tcp://name:port`. */
  constructor(host: string) {
    this.#host = host;
  }

  /** False where its socket does not exist; whether it answers is another question. */
  isThere(): boolean {
    return !this.#host.startsWith("unix://") || existsSync(this.#host.slice("unix://".length));
  }

  /** Throws sandbox_unavailable when the engine does not answer. */
  async readFacts(): Promise<EngineFacts> {
    const client = await this.#connectToProbe();
    const info = await this.#call("info", () => client.info(), { ms: PROBE_MS });
    return {
      version: String(info.ServerVersion),
      cpus: Number(info.NCPU),
      memoryBytes: Number(info.MemTotal),
      runtimes: Object.keys(info.Runtimes ?? {}),
    };
  }

  /** Throws sandbox_unavailable when the engine does not answer. */
  async ping(): Promise<void> {
    const client = await this.#connectToProbe();
    await this.#call("ping", () => client.ping(), { ms: PROBE_MS });
  }

  /** An image that is there. Throws image_missing. */
  async readImage(name: string): Promise<ImageFacts> {
    const client = await this.#connectToProbe();
    const ask = () => client.getImage(name).inspect();
    const { Id, RepoDigests, Config } = await this.#call("inspect image", ask, { ms: PROBE_MS });
    const volumes = Object.keys(Config.Volumes ?? {});
    return { id: Id, digests: RepoDigests ?? [], env: Config.Env ?? [], volumes };
  }

  async create(options: ContainerCreateOptions, signal?: AbortSignal): Promise<Container> {
    const client = await this.#connect();
    const ask = (abortSignal: AbortSignal) => client.createContainer({ ...options, abortSignal });
    return this.#make(
      () => this.#call("create", ask),
      (made) => this.remove(made),
      signal,
    );
  }

  /** Resolves when all that was asked for and given up meanwhile has been made, and is gone again. */
  async settle(): Promise<void> {
    await Promise.all(this.#unwanted);
  }

  /** The container's three streams as one connection; open it before the start, so that nothing is lost. */
  async attach(container: Container, signal?: AbortSignal): Promise<Duplex> {
    const options = { stream: true, stdin: true, stdout: true, stderr: true, hijack: true };
    let isWanted = true;
    const ask = async (abortSignal: AbortSignal): Promise<Duplex> => {
      const connection = await container.attach({ ...options, abortSignal });
      if (!isWanted) (connection as Duplex).destroy(); // it came while the wait for it was given up
      return connection as Duplex; // dockerode's type says ReadWriteStream; it is the hijacked socket
    };
    return this.#call("attach", ask, { signal }).catch((error: unknown) => {
      isWanted = false;
      throw error;
    });
  }

  async start(container: Container, signal?: AbortSignal): Promise<void> {
    await this.#call("start", (abortSignal) => container.start({ abortSignal }), { signal });
  }

  async inspect(container: Container, signal?: AbortSignal): Promise<ContainerInspectInfo> {
    return this.#call("inspect", (abortSignal) => container.inspect({ abortSignal }), { signal });
  }

  /** Ends it and everything in it; a container that is not there any more is fine. */
  async remove(container: Container | string): Promise<void> {
    const client = await this.#connect();
    const gone = typeof container === "string" ? client.getContainer(container) : container;
    const ask = (abortSignal: AbortSignal) => gone.remove({ force: true, v: true, abortSignal });
    await this.#call("remove", ask).catch(async (error: unknown) => {
      if (isStatus(error, 404)) return;
      if (!isStatus(error, 409)) throw error;
      await this.#waitUntilGone(gone); // its removal is going on already
    });
  }

  async listContainers(label: string): Promise<Labelled[]> {
    const client = await this.#connect();
    const options = { all: true, filters: { label: [label] } };
    const ask = (abortSignal: AbortSignal) => client.listContainers({ ...options, abortSignal });
    return (await this.#call("list", ask)).map(({ Id, Labels }) => ({ id: Id, labels: Labels ?? {} }));
  }

  async createVolume(name: string, labels: Record<string, string>, signal?: AbortSignal): Promise<void> {
    const client = await this.#connect();
    const ask = (abortSignal: AbortSignal) =>
      client.createVolume({ Name: name, Labels: labels, abortSignal });
    await this.#make(
      () => this.#call("create volume", ask),
      () => this.removeVolume(name),
      signal,
    );
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
    signal?: AbortSignal,
  ): Promise<void> {
    const options = {
      Image: to.image,
      Labels: to.labels,
      HostConfig: {
        NetworkMode: "none",
        Mounts: [{ Type: "volume" as const, Source: to.name, Target: to.target }],
      },
    };
    const container = await this.create(options, signal);
    try {
      const ask = (abortSignal: AbortSignal) => container.putArchive(tar, { path: to.target, abortSignal });
      await this.#call("fill", ask, { signal });
    } catch (error) {
      await this.remove(container).catch(() => undefined); // the first cause is told; a sweep finds it
      throw error;
    } finally {
      tar.destroy();
    }
    await this.remove(container);
  }

  async removeVolume(name: string): Promise<void> {
    const client = await this.#connect();
    const ask = (abortSignal: AbortSignal) => client.getVolume(name).remove({ abortSignal });
    await this.#call("remove volume", ask).catch((error: unknown) => {
      if (!isStatus(error, 404)) throw error;
    });
  }

  async listVolumes(label: string): Promise<Labelled[]> {
    const client = await this.#connect();
    const filters = JSON.stringify({ label: [label] });
    const ask = (abortSignal: AbortSignal) => client.listVolumes({ filters, abortSignal });
    const { Volumes } = await this.#call("list volumes", ask);
    return (Volumes ?? []).map(({ Name, Labels }) => ({ id: Name, labels: Labels ?? {} }));
  }

  /** A question that makes something is not taken back: what comes of it after it was given up is undone. */
  async #make<T>(ask: () => Promise<T>, undo: (made: T) => Promise<void>, signal?: AbortSignal): Promise<T> {
    signal?.throwIfAborted();
    const asked = ask();
    if (signal === undefined) return asked;
    try {
      return await unlessAborted(asked, signal);
    } catch (error) {
      if (signal.aborted) {
        const undone: Promise<void> = asked
          .then(undo)
          .catch(() => undefined) // a sweep finds it
          .finally(() => this.#unwanted.delete(undone));
        this.#unwanted.add(undone);
      }
      throw error;
    }
  }

  async #call<T>(
    what: string,
    ask: (abortSignal: AbortSignal) => Promise<T>,
    { ms = CALL_MS, signal }: CallBounds = {},
  ): Promise<T> {
    const late = () =>
      new Fault("sandbox_unavailable", `The container engine did not answer "${what}" in time.`, {
        retryable: true,
      });
    signal?.throwIfAborted();
    const asking = new AbortController();
    try {
      return await within(ms, ask(asking.signal), late, signal);
    } catch (error) {
      asking.abort(); // the connection goes with the question
      throw toEngineFault(what, error);
    }
  }

  async #waitUntilGone(container: Container): Promise<void> {
    const untilMs = performance.now() + GONE_MS;
    const ask = (abortSignal: AbortSignal) => container.inspect({ abortSignal });
    while (performance.now() < untilMs) {
      const isGone = await this.#call("inspect", ask, { ms: PROBE_MS }).then(
        () => false,
        (error: unknown) => isStatus(error, 404),
      );
      if (isGone) return;
      await delay(GONE_PAUSE_MS);
    }
    throw new Fault("sandbox_lost", "The run's container could not be removed.");
  }

  #connect(): Promise<Docker> {
    this.#client ??= loadClient(toConnection(this.#host));
    return this.#check(this.#client);
  }

  #connectToProbe(): Promise<Docker> {
    this.#prober ??= loadClient({ ...toConnection(this.#host), timeout: PROBE_MS });
    return this.#check(this.#prober);
  }

  async #check(client: Promise<Docker>): Promise<Docker> {
    if (this.isThere()) return client;
    throw new Fault(
      "sandbox_unavailable",
      "There is no container engine at the configured address (PILLION_DOCKER_HOST).",
      {
        retryable: true,
      },
    );
  }
}

/** dockerode is large, and many services never need it. */
async function loadClient(options: Docker.DockerOptions): Promise<Docker> {
  const { default: Client } = await import("dockerode");
  return new Client(options);
}

function toConnection(host: string): Docker.DockerOptions & { readonly agent: Agent } {
  // A connection that was kept is dead after the engine's restart, and the first question on it would be lost.
  const agent = new Agent({ keepAlive: false });
  if (host.startsWith("unix://")) return { socketPath: host.slice("unix://".length), agent };
  const url = new URL(host.replace(/^tcp:/, "http:"));
  return { protocol: "http", host: url.hostname, port: url.port || "2375", agent };
}
