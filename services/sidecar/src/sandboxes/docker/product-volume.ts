/** Node, guard, harness and extension on a volume of their own, for images that hold none of them. */
import { randomBytes } from "node:crypto";
import { within } from "../../kernel/deadline.ts";
import { Fault } from "../../kernel/fault.ts";
import { DOCKER_PATHS } from "./container-spec.ts";
import type { Engine } from "./engine.ts";

const CLOSE_MS = 3_000;
/** Apart from the labels of runs: this volume outlives them all. */
const LABEL = "org.pillion.product";

export class ProductVolume {
  readonly #engine: Engine;
  readonly #instance: string;
  /** By the id of our image that it was made from. */
  readonly #made = new Map<string, Promise<string>>();
  /** Names of those that runs of this process use, or are about to. */
  readonly #inUse = new Set<string>();

  constructor(engine: Engine, instance: string) {
    this.#engine = engine;
    this.#instance = instance;
  }

  /** The name of a volume with what our image `imageId` has as product: the same for all runs, as long as it is there. */
  async find(imageId: string): Promise<string> {
    const known = this.#made.get(imageId);
    if (known !== undefined && (await this.#isThere(await known))) return known;
    // Another run may have begun to make it meanwhile.
    if (this.#made.get(imageId) === known) {
      const made = this.#make(imageId);
      this.#made.set(imageId, made);
      made.catch(() => this.#made.delete(imageId));
      return made;
    }
    return this.find(imageId);
  }

  /** One of that name without our label was made by the engine, for a run that asked for one that was gone. */
  async #isThere(name: string): Promise<boolean> {
    const ours = await this.#engine.listVolumes(`${LABEL}=${this.#instance}`);
    return ours.some(({ id }) => id === name);
  }

  /** Removes what this instance has of them, but those that are in use; safe at any time. */
  async sweep(): Promise<void> {
    const label = `${LABEL}=${this.#instance}`;
    for (const { id } of await this.#engine.listContainers(label)) await this.#engine.remove(id);
    for (const { id } of await this.#engine.listVolumes(label))
      if (!this.#inUse.has(id)) await this.#engine.removeVolume(id);
  }

  /** An engine that is gone keeps them until the next start's sweep. */
  async close(): Promise<void> {
    if (this.#made.size === 0) return;
    this.#inUse.clear();
    const late = () => new Fault("sandbox_unavailable", "The container engine did not answer in time.");
    await within(CLOSE_MS, this.sweep(), late).catch(() => undefined);
  }

  /** The engine fills an empty volume with what the image has at the place where it is mounted. */
  async #make(imageId: string): Promise<string> {
    const name = `pillion-${this.#instance}-product-${randomBytes(4).toString("hex")}`;
    const labels = { [LABEL]: this.#instance };
    this.#inUse.add(name);
    try {
      await this.#engine.createVolume(name, labels);
      const Mounts = [{ Type: "volume" as const, Source: name, Target: DOCKER_PATHS.product }];
      const HostConfig = { NetworkMode: "none", Mounts };
      const filler = await this.#engine.create({ Image: imageId, Labels: labels, HostConfig });
      await this.#engine.remove(filler).catch(() => undefined); // the volume is full all the same; a sweep finds it
      return name;
    } catch (error) {
      this.#inUse.delete(name);
      await this.#engine.removeVolume(name).catch(() => undefined); // the first cause is told; a sweep finds it
      throw error;
    }
  }
}
