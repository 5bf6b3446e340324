/** The docker kind of sandbox: one container a run, the guard under its init, the attached streams as the pipe. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import type { Container, ContainerCreateOptions, ContainerInspectInfo } from "dockerode";
import type { GuardView } from "#contract/guard";
import type { Receipt } from "#contract/sandbox";
import { within } from "../../kernel/deadline.ts";
import { Fault, toFault } from "../../kernel/fault.ts";
import { openBoundWorkspace } from "../bound-workspace.ts";
import { toTar } from "../fill-tar.ts";
import type { Place, PlaceEnd, PlaceKind, PlaceProbe, SandboxSpec } from "../sandbox.ts";
import {
  type ContainerLimits,
  clampLimits,
  DOCKER_PATHS,
  LABELS,
  toContainerOptions,
} from "./container-spec.ts";
import { toPipe } from "./demultiplex.ts";
import { Engine, type EngineFacts } from "./engine.ts";
import { findWeaker, toDockerReceipt, toWeakFault } from "./receipt.ts";

const END_MS = 15_000;
const STDERR_CHARS = 4_096;
const EXPIRES_AFTER_S = 8 * 24 * 3600;
const USER = { uid: 1000, gid: 1000 };

export type DockerPlacesOptions = {
  /** As in DOCKER_HOST. */
  readonly host: string;
  readonly image: string;
  readonly runtime: string;
  /** The operator's ceiling; a request may only lower it. */
  readonly limits: Pick<ContainerLimits, "cpus" | "memoryBytes">;
  /** Names this instance in labels, so that a sweep never touches another's. */
  readonly instance: string;
  readonly version: string;
  /** Directory with seccomp.json. */
  readonly seccompFile: string;
};

export class DockerPlaces implements PlaceKind {
  readonly kind = "docker";
  readonly mayChange = true;
  readonly #options: DockerPlacesOptions;
  readonly #engine: Engine;
  readonly #seccomp: string;
  #facts: EngineFacts | undefined;

  constructor(options: DockerPlacesOptions) {
    this.#options = options;
    this.#engine = new Engine(options.host);
    this.#seccomp = JSON.stringify(JSON.parse(readFileSync(options.seccompFile, "utf8")));
  }

  async probe(): Promise<PlaceProbe> {
    const { image, runtime } = this.#options;
    try {
      if (this.#facts === undefined) this.#facts = await this.#engine.readFacts();
      else await this.#engine.ping();
      if (!this.#facts.runtimes.includes(runtime))
        throw new Fault("sandbox_unavailable", `The container engine does not have the runtime ${runtime}.`);
      await this.#engine.findImage(image);
      const detail = `containers of Docker ${this.#facts.version}, ${runtime}, image ${image}`;
      return { kind: "docker", available: true, isolated: true, detail, missing: [] };
    } catch (error) {
      const { message, code } = toFault(error);
      return { kind: "docker", available: false, isolated: false, detail: message, missing: [], code };
    }
  }

  async open(spec: SandboxSpec, signal: AbortSignal): Promise<Place> {
    signal.throwIfAborted();
    await using held = new AsyncDisposableStack();
    const bound =
      spec.workspace.kind === "bind" ? held.use(await openBoundWorkspace(spec.workspace.path)) : undefined;
    const user = bound === undefined ? USER : { uid: bound.uid, gid: bound.gid };
    const image = await this.#engine.findImage(this.#options.image);
    const left = new AsyncDisposableStack(); // what the place owns once it is there
    try {
      const volume = await this.#fillVolume(spec, image, left);
      const asked = this.#toOptions(spec, image, user, volume);
      const container = await this.#engine.create(asked);
      left.defer(() => this.#engine.remove(container));
      const place = await this.#begin(container, left, signal);
      const weaker = findWeaker(asked, place.inspected);
      if (weaker.length > 0) throw toWeakFault(weaker);
      const { runtime } = this.#options;
      place.isFilled = volume !== undefined;
      place.toReceipt = (view) => {
        // Another machine's directory of that name, or one that took the name since it was checked.
        if (bound !== undefined && view.workspaceId !== bound.id) throw toForeignFault();
        return toDockerReceipt(view, { spec, limits: this.#clamp(spec), runtime, image, user });
      };
      return place;
    } catch (error) {
      await left.disposeAsync().catch(() => undefined); // the first cause is told; a sweep finds what stayed
      throw error;
    }
  }

  #toOptions(
    spec: SandboxSpec,
    image: string,
    user: typeof USER,
    volume: string | undefined,
  ): ContainerCreateOptions {
    const { instance, version, runtime } = this.#options;
    return toContainerOptions({
      ...{ spec, limits: this.#clamp(spec), instance, version, runtime, image, user, seccomp: this.#seccomp },
      ...(volume === undefined ? {} : { volume }),
      expiresS: Math.floor(Date.now() / 1000) + EXPIRES_AFTER_S,
    });
  }

  /** A reader's workspace is read-only from the start, so its files are put into a volume before. */
  async #fillVolume(
    spec: SandboxSpec,
    image: string,
    left: AsyncDisposableStack,
  ): Promise<string | undefined> {
    if (!spec.readOnly || spec.workspace.kind !== "scratch") return undefined;
    const name = `pillion-${this.#options.instance}-${spec.runId.replace(/^run_/, "")}`;
    const labels = { [LABELS.instance]: this.#options.instance, [LABELS.run]: spec.runId };
    await this.#engine.createVolume(name, labels);
    left.defer(() => this.#engine.removeVolume(name));
    await this.#engine.fillVolume(
      { name, image, labels, target: DOCKER_PATHS.workspace },
      toTar(spec.initialFiles ?? [], USER),
    );
    return name;
  }

  async sweep(): Promise<number> {
    if (this.#facts === undefined) return 0;
    const label = `${LABELS.instance}=${this.#options.instance}`;
    const left = await this.#engine.listContainers(label);
    await Promise.all(left.map((container) => this.#engine.remove(container)));
    for (const name of await this.#engine.listVolumes(label)) await this.#engine.removeVolume(name);
    return left.length;
  }

  async #begin(container: Container, left: AsyncDisposableStack, signal: AbortSignal): Promise<DockerPlace> {
    signal.throwIfAborted();
    const connection = await this.#engine.attach(container);
    try {
      await this.#engine.start(container);
      return new DockerPlace(connection, await this.#engine.inspect(container), left);
    } catch (error) {
      connection.destroy();
      throw error;
    }
  }

  #clamp(spec: SandboxSpec): ContainerLimits {
    const { limits } = this.#options;
    return clampLimits(spec, limits, this.#facts ?? limits);
  }
}

class DockerPlace implements Place {
  readonly paths = DOCKER_PATHS;
  readonly pipe: Duplex;
  readonly ended: Promise<PlaceEnd>;
  readonly inspected: ContainerInspectInfo;
  toReceipt: (view: GuardView) => Receipt = () => {
    throw new Fault("internal", "The container was not looked at.");
  };
  isFilled = false;
  readonly #left: AsyncDisposableStack;

  /** `left` is what has to go when the place ends: the container, and a volume. */
  constructor(connection: Duplex, inspected: ContainerInspectInfo, left: AsyncDisposableStack) {
    this.inspected = inspected;
    this.#left = left;
    let errors = "";
    this.pipe = toPipe(connection, (bytes) => {
      errors = (errors + bytes.toString("utf8")).slice(-STDERR_CHARS);
    });
    this.ended = new Promise((resolve) => {
      this.pipe.once("close", () => {
        resolve({ detail: `the container's pipe closed ${errors.trim().split("\n").at(-1) ?? ""}`.trim() });
      });
    });
  }

  /** Everything is set when the container starts; nothing is left to take away. */
  async seal(): Promise<void> {}

  async [Symbol.asyncDispose](): Promise<void> {
    this.pipe.destroy();
    const late = () => new Fault("sandbox_lost", "The run's container was not removed in time.");
    await within(END_MS, this.#left.disposeAsync(), late);
  }
}

function toForeignFault(): Fault {
  return new Fault(
    "forbidden",
    "The workspace's directory is not the same on the container engine's machine. Where Pillion runs in a container or the engine elsewhere, send the files, or mount the directory under the same path.",
  );
}

/** Where our seccomp profile lies in a product directory. */
export function toSeccompFile(productDir: string): string {
  return join(productDir, "docker/seccomp.json");
}
