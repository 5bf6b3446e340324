/** The docker kind of sandbox: one container a run, the guard under its init, the attached streams as the pipe. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Duplex, Readable } from "node:stream";
import type { Container, ContainerCreateOptions } from "dockerode";
import type { FillTarget, GuardView } from "#contract/guard";
import { REFERENCES_DIR, type Receipt } from "#contract/sandbox";
import { unlessAborted, within } from "../../kernel/deadline.ts";
import { Fault, toFault } from "../../kernel/fault.ts";
import { openBoundWorkspace } from "../bound-directory.ts";
import { toTar } from "../fill-tar.ts";
import {
  findForeignReferences,
  openBoundReferences,
  toBoundReferences,
  toReferenceFiles,
} from "../references.ts";
import type { Place, PlaceKind, PlaceProbe, SandboxSpec } from "../sandbox.ts";
import { readAllowedImage } from "./allowed-image.ts";
import {
  type ContainerLimits,
  clampLimits,
  DOCKER_PATHS,
  GVISOR,
  LABELS,
  toContainerName,
  toContainerOptions,
  toPaths,
  type VolumeMount,
} from "./container-spec.ts";
import { DockerPlace, endAll } from "./docker-place.ts";
import { Engine, type EngineFacts, type ImageFacts } from "./engine.ts";
import { Leftovers } from "./leftovers.ts";
import { ProductVolume } from "./product-volume.ts";
import { findWeaker, type SeccompProfile, toDockerReceipt, toMissing, toWeakFault } from "./receipt.ts";

/** Paid only where something was given up while the engine was making it. */
const CLOSE_MS = 8_000;
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
  /** Longest time that a run may have a container, set-up and winding down included; for the label of expiry. */
  readonly lifetimeMs: number;
  /** Directory with the seccomp profiles. */
  readonly profileDir: string;
  /** Names of images whose runs get the profile that lets Chromium make a sandbox of its own. */
  readonly browserImages?: readonly string[] | undefined;
  /** The engine's network that `network: open` means; runs with it are refused where there is none. */
  readonly openNetwork?: string | undefined;
};

/** With the volume that brings our product into an image of another's. */
type RunImage = ImageFacts & { readonly product: readonly VolumeMount[] };

export class DockerPlaces implements PlaceKind {
  readonly kind = "docker";
  readonly mayChange = true;
  readonly #options: DockerPlacesOptions;
  readonly #engine: Engine;
  readonly #product: ProductVolume;
  readonly #leftovers: Leftovers;
  readonly #seccomp: Readonly<Record<SeccompProfile, string>>;
  #facts: EngineFacts | undefined;
  /** True once the engine was away: another may be there now. */
  #isStale = false;

  constructor(options: DockerPlacesOptions) {
    this.#options = options;
    this.#engine = new Engine(options.host);
    this.#product = new ProductVolume(this.#engine, options.instance);
    this.#leftovers = new Leftovers(this.#engine, options.instance);
    this.#seccomp = {
      usual: readProfile(options.profileDir, "seccomp.json"),
      browser: readProfile(options.profileDir, "seccomp-browser.json"),
    };
  }

  async probe(): Promise<PlaceProbe> {
    const { image, runtime } = this.#options;
    try {
      const known = this.#isStale ? undefined : this.#facts;
      const facts = known ?? (await this.#engine.readFacts());
      if (known !== undefined) await this.#engine.ping();
      this.#facts = facts;
      this.#isStale = false;
      if (!facts.runtimes.includes(runtime))
        throw new Fault("sandbox_unavailable", `The container engine does not have the runtime ${runtime}.`);
      await this.#engine.readImage(image);
      const detail = `containers of Docker ${facts.version}, ${runtime}, image ${image}`;
      return { kind: "docker", available: true, isolated: true, detail, missing: toMissing(runtime) };
    } catch (error) {
      this.#isStale = true;
      const { message, code } = toFault(error);
      return { kind: "docker", available: false, isolated: false, detail: message, missing: [], code };
    }
  }

  async admit({ image }: SandboxSpec): Promise<void> {
    if (image !== undefined) await readAllowedImage(this.#engine, image);
  }

  async open(spec: SandboxSpec, signal: AbortSignal): Promise<Place> {
    signal.throwIfAborted();
    await using held = new AsyncDisposableStack();
    const bound =
      spec.workspace.kind === "bind"
        ? held.use(await openBoundWorkspace(spec.workspace.path, true))
        : undefined;
    const references = held.use(await openBoundReferences(spec.references));
    const user = bound === undefined ? USER : { uid: bound.uid, gid: bound.gid };
    const left = new AsyncDisposableStack(); // what the place owns once it is there
    left.use(this.#leftovers.hold(spec.runId));
    try {
      const image = await this.#readImage(spec, signal);
      const volumes = [...(await this.#fillVolumes(spec, image, left, signal)), ...image.product];
      const asked = this.#toOptions(spec, image, user, volumes);
      const container = await this.#engine.create(asked, signal);
      left.defer(() => this.#engine.remove(container));
      const connection = await this.#begin(container, asked, left, signal);
      left.use(held.move());
      const toReceipt = (view: GuardView): Receipt => {
        // Another machine's directory of that name, or one that took the name since it was checked.
        const { runtime } = this.#options;
        if (bound !== undefined && view.workspaceId !== bound.id) throw toForeignFault("/workspace", runtime);
        const [foreign] = findForeignReferences(view, references);
        if (foreign !== undefined) throw toForeignFault(foreign, runtime);
        const profile = this.#chooseProfile(spec);
        const facts = { spec, limits: this.#clamp(spec), runtime, image: image.id, user, profile };
        return toDockerReceipt(view, facts);
      };
      const paths = image.product.length === 0 ? DOCKER_PATHS : toPaths(image.env);
      const filled: FillTarget[] = [...(spec.readOnly ? (["workspace"] as const) : []), "references"];
      return new DockerPlace({ connection, paths, filled, left, toReceipt });
    } catch (error) {
      // An answer may be lost and what was asked for be there all the same.
      left.defer(() => this.#leftovers.clear(spec.runId));
      await endAll(left).catch(() => undefined); // the first cause is told; a sweep finds what stayed
      throw error;
    }
  }

  /** Another's image gets our product on a volume; ours has it. */
  async #readImage(spec: SandboxSpec, signal: AbortSignal): Promise<RunImage> {
    const ours = await this.#engine.readImage(this.#options.image);
    if (spec.image === undefined) return { ...ours, product: [] };
    const image = await readAllowedImage(this.#engine, spec.image);
    const volume = await unlessAborted(this.#product.find(ours.id), signal); // others may wait for it too
    return { ...image, product: [{ volume, target: DOCKER_PATHS.product }] };
  }

  #toOptions(
    spec: SandboxSpec,
    image: ImageFacts,
    user: typeof USER,
    volumes: readonly VolumeMount[],
  ): ContainerCreateOptions {
    const { instance, version, runtime, openNetwork = "none" } = this.#options;
    return toContainerOptions({
      ...{ spec, limits: this.#clamp(spec), instance, version, runtime, user, volumes },
      ...{ image: image.id, imageEnv: image.env },
      seccomp: this.#seccomp[this.#chooseProfile(spec)],
      network: spec.network === "open" ? openNetwork : "none",
      expiresS: this.#toExpiresS(),
    });
  }

  #toExpiresS(): number {
    return Math.ceil((Date.now() + this.#options.lifetimeMs) / 1000);
  }

  /** What must be read-only from the start is put into volumes before: nothing inside a running container may remount. */
  async #fillVolumes(
    spec: SandboxSpec,
    { id: image }: ImageFacts,
    left: AsyncDisposableStack,
    signal: AbortSignal,
  ): Promise<VolumeMount[]> {
    const { instance } = this.#options;
    const labels = {
      [LABELS.instance]: instance,
      [LABELS.run]: spec.runId,
      [LABELS.expires]: String(this.#toExpiresS()),
    };
    const name = toContainerName(instance, spec.runId);
    const fill = async (target: string, suffix: string, tar: Readable): Promise<VolumeMount> => {
      const volume = `${name}${suffix}`;
      await this.#engine.createVolume(volume, labels, signal);
      left.defer(() => this.#engine.removeVolume(volume));
      await this.#engine.fillVolume({ name: volume, image, labels, target }, tar, signal);
      return { volume, target };
    };
    const files = toReferenceFiles(spec.references);
    const bound = toBoundReferences(spec.references);
    return [
      ...(spec.readOnly && spec.workspace.kind === "scratch"
        ? [await fill(DOCKER_PATHS.workspace, "", toTar(spec.initialFiles ?? [], USER))]
        : []),
      // A directory is mounted inside the volume, where it needs a place.
      ...(files.length === 0
        ? []
        : [
            await fill(
              REFERENCES_DIR,
              "-refs",
              toTar(
                files,
                USER,
                bound.map((reference) => reference.name),
              ),
            ),
          ]),
    ];
  }

  /** An engine that is not there at the start is looked at later, by `reap`. */
  async sweep(): Promise<number | null> {
    // Where no engine ever was, nothing of one can be left.
    if (this.#facts === undefined || this.#isStale) return this.#engine.isThere() ? null : 0;
    const count = await this.#leftovers.sweep().catch(() => null);
    await this.#product.sweep().catch(() => undefined); // after the containers that use it
    return count;
  }

  /** Asks by itself whether the engine is there by now: nobody else may ask for a long time. */
  async reap(): Promise<number> {
    if (this.#facts === undefined && this.#engine.isThere()) {
      const facts = await this.#engine.readFacts().catch(() => undefined);
      this.#facts ??= facts; // a probe may have had its answer meanwhile
    }
    if (this.#facts === undefined) return 0;
    const count = await this.#leftovers.sweep();
    await this.#product.sweep();
    return count;
  }

  /** An engine that is away keeps what it has until the next start's sweep. */
  async close(): Promise<void> {
    if (this.#facts === undefined || this.#isStale) return;
    const late = () => new Fault("sandbox_unavailable", "The container engine did not answer in time.");
    await within(CLOSE_MS, this.#leftovers.sweepLast(), late).catch(() => undefined);
    await this.#product.close();
  }

  /** The attached streams of the container, started and found to be as it was asked for. */
  async #begin(
    container: Container,
    asked: ContainerCreateOptions,
    left: AsyncDisposableStack,
    signal: AbortSignal,
  ): Promise<Duplex> {
    const connection = await this.#engine.attach(container, signal);
    left.defer(() => void connection.destroy());
    await this.#engine.start(container, signal);
    const weaker = findWeaker(asked, await this.#engine.inspect(container, signal));
    if (weaker.length > 0) throw toWeakFault(weaker);
    return connection;
  }

  #chooseProfile(spec: SandboxSpec): SeccompProfile {
    const { image, browserImages = [] } = this.#options;
    return browserImages.includes(spec.image ?? image) ? "browser" : "usual";
  }

  #clamp(spec: SandboxSpec): ContainerLimits {
    const { limits } = this.#options;
    return clampLimits(spec, limits, this.#facts ?? limits);
  }
}

/** gVisor numbers files in its own way, so what is mounted cannot be compared with what was checked. */
function toForeignFault(what: string, runtime: string): Fault {
  if (runtime === GVISOR) {
    return new Fault(
      "isolation_unavailable",
      `Under the runtime ${runtime} it cannot be proved which directory is mounted as ${what}. Send the files instead.`,
    );
  }
  return new Fault(
    "forbidden",
    `The directory of ${what} is not the same on the container engine's machine. Where Pillion runs in a container or the engine elsewhere, send the files, or mount the directory under the same path.`,
  );
}

/** As JSON without blanks. */
function readProfile(directory: string, name: string): string {
  return JSON.stringify(JSON.parse(readFileSync(join(directory, name), "utf8")));
}
