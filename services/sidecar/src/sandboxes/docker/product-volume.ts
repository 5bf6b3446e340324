/** Node, guard, harness and extension on a volume of their own, for images that hold none of them. */
import { randomBytes } from "node:crypto";
import { within } from "../../kernel/deadline.ts";
import { Fault } from "../../kernel/fault.ts";
import { DOCKER_PATHS } from "./container-spec.ts";
import type { Engine } from "./engine.ts";

const CLOSE_MS = 3_000;
/** Apart from the labels of runs: this volume outlives them all. */
const LABEL = "org.pillion.product";

/** `ready` when it is full. */
type Made = { readonly name: string; readonly ready: Promise<void> };

export class ProductVolume {
  readonly #engine: Engine;
  readonly #instance: string;
  /** By the id of our image that they are made from. */
  readonly #made = new Map<string, Made>();

  constructor(engine: Engine, instance: string) {
    this.#engine = engine;
    this.#instance = instance;
  }

  /** The name of a volume with what our image `imageId` has as product: the same for all runs, as long as it is there. */
  async find(imageId: string): Promise<string> {
    const known = this.#made.get(imageId);
    if (known !== undefined) {
      await known.ready;
      if (await this.#isThere(known.name)) return known.name;
    }
    // Another run may have begun to make it meanwhile.
    if (this.#made.get(imageId) !== known) return this.find(imageId);
    const made = this.#begin(imageId);
    await made.ready;
    return made.name;
  }

  #begin(imageId: string): Made {
    const name = `pillion-${this.#instance}-product-${randomBytes(4).toString("hex")}`;
    const ready = this.#make(name, imageId);
    const made = { name, ready };
    this.#made.set(imageId, made);
    ready.catch(() => this.#made.delete(imageId));
    return made;
  }

  /** One of that name without our label was made by the engine, for a run that asked for one that was gone. */
  async #isThere(name: string): Promise<boolean> {
    const ours = await this.#engine.listVolumes(`${LABEL}=${this.#instance}`);
    return ours.some(({ id }) => id === name);
  }

  /** Removes what this instance has of them, but those of this process; safe at any time. */
  async sweep(): Promise<void> {
    const kept = [...this.#made.values()].map(({ name }) => name);
    const label = `${LABEL}=${this.#instance}`;
    for (const { id } of await this.#engine.listContainers(label)) await this.#engine.remove(id);
    for (const { id } of await this.#engine.listVolumes(label))
      if (!kept.includes(id)) await this.#engine.removeVolume(id);
  }

  /** An engine that is gone keeps them until the next start's sweep. */
  async close(): Promise<void> {
    if (this.#made.size === 0) return;
    this.#made.clear();
    const late = () => new Fault("sandbox_unavailable", "The container engine did not answer in time.");
    await within(CLOSE_MS, this.sweep(), late).catch(() => undefined);
  }

  /** The engine fills an empty volume with what the image has at the place where it is mounted. */
  async #make(name: string, imageId: string): Promise<void> {
    const labels = { [LABEL]: this.#instance };
    try {
      await this.#engine.createVolume(name, labels);
      const Mounts = [{ Type: "volume" as const, Source: name, Target: DOCKER_PATHS.product }];
      const HostConfig = { NetworkMode: "none", Mounts };
      const filler = await this.#engine.create({ Image: imageId, Labels: labels, HostConfig });
      await this.#engine.remove(filler).catch(() => undefined); // the volume is full all the same; a sweep finds it
    } catch (error) {
      await this.#engine.removeVolume(name).catch(() => undefined); // the first cause is told; a sweep finds it
      throw error;
    }
  }
}
