/** What runs of this instance have on the engine, and what of it is left over: all whose run is not live in this process. */
import { setTimeout as delay } from "node:timers/promises";
import { LABELS } from "./container-spec.ts";
import type { Engine, Labelled } from "./engine.ts";

/** How long after it was given up an engine is still expected to make what was asked of it. */
const LATE_MS = 5_000;
const LAST_LOOK_MS = 500;

export class Leftovers {
  readonly #engine: Engine;
  readonly #instance: string;
  /** Runs that have, or are about to have, something on the engine. */
  readonly #live = new Set<string>();
  /** When a set-up was given up for the last time. */
  #clearedMs = 0;

  /** `instance` is the label's value: what carries another, or none, is never touched. */
  constructor(engine: Engine, instance: string) {
    this.#engine = engine;
    this.#instance = instance;
  }

  /** Call before anything is asked of the engine for a run; dispose when all of it is gone, or given up. */
  hold(runId: string): Disposable {
    this.#live.add(runId);
    return { [Symbol.dispose]: () => this.#live.delete(runId) };
  }

  /** Removes what one run has, also what was made by a question whose answer never came. */
  async clear(runId: string): Promise<void> {
    this.#clearedMs = Date.now();
    await this.#remove((labels) => labels[LABELS.run] === runId);
  }

  /** For the end of the service, after the last run. What was asked for and given up just now may be made late. */
  async sweepLast(): Promise<void> {
    await this.#engine.settle();
    await this.sweep();
    if (Date.now() - this.#clearedMs > LATE_MS) return;
    await delay(LAST_LOOK_MS);
    await this.sweep();
  }

  /**
   * Removes what belongs to no live run; safe at any time. Resolves to how many containers there were. What cannot be
   * removed does not keep the rest; the first failure is thrown when all were tried.
   */
  async sweep(): Promise<number> {
    // What has no run is not a run's: the instance's own, for example a volume that many runs share.
    return this.#remove(({ [LABELS.run]: runId }) => runId !== undefined && !this.#live.has(runId));
  }

  async #remove(isLeft: (labels: Labelled["labels"]) => boolean): Promise<number> {
    const label = `${LABELS.instance}=${this.#instance}`;
    const pick = (found: readonly Labelled[]) => found.filter(({ labels }) => isLeft(labels));
    const containers = pick(await this.#engine.listContainers(label));
    await all(containers.map(({ id }) => this.#engine.remove(id)));
    // After the containers: a volume that is in use cannot be removed.
    const volumes = pick(await this.#engine.listVolumes(label));
    await all(volumes.map(({ id }) => this.#engine.removeVolume(id)));
    return containers.length;
  }
}

/** Waits for all of them, then throws the first failure. */
async function all(removals: readonly Promise<void>[]): Promise<void> {
  const failed = (await Promise.allSettled(removals)).find(({ status }) => status === "rejected");
  if (failed?.status === "rejected") throw failed.reason;
}
