/** Whether a container, volume, image or directory is one that this proxy's callers may use; asked of the engine each time. */
import { realpath } from "node:fs/promises";
import { z } from "zod";
import { FILLER_LABEL, type Mount, SCOPE_LABEL } from "./container-body.ts";
import type { EngineClient } from "./engine-client.ts";
import type { ProxyOptions } from "./options.ts";
import { Refusal } from "./refusal.ts";

const LabelMap = z.record(z.string(), z.string()).nullish();
const ContainerAnswer = z.looseObject({ Config: z.looseObject({ Labels: LabelMap }) });
const VolumeAnswer = z.looseObject({ Labels: LabelMap });
const ImageAnswer = z.looseObject({ Id: z.string() });

export class Belongings {
  readonly #engine: EngineClient;
  readonly #options: ProxyOptions;

  constructor(engine: EngineClient, options: ProxyOptions) {
    this.#engine = engine;
    this.#options = options;
  }

  /** What is not there is the engine's to tell, so that 404 stays 404. */
  async checkContainer(id: string, signal: AbortSignal): Promise<{ readonly isFiller: boolean }> {
    const found = await this.#engine.read(`/containers/${id}/json`, signal);
    if (found === undefined) throw new Refusal("no such container", 404);
    const labels = ContainerAnswer.parse(found).Config.Labels ?? {};
    if (labels[SCOPE_LABEL] !== this.#options.scope) throw new Refusal("the container is not ours");
    return { isFiller: labels[FILLER_LABEL] !== undefined };
  }

  async checkVolume(name: string, signal: AbortSignal): Promise<void> {
    const found = await this.#engine.read(`/volumes/${name}`, signal);
    if (found === undefined) throw new Refusal("no such volume", 404);
    const labels = VolumeAnswer.parse(found).Labels ?? {};
    if (labels[SCOPE_LABEL] !== this.#options.scope) throw new Refusal("the volume is not ours");
  }

  /** By one of the allowed names, or by the id that such a name has now. */
  async checkImage(image: string, signal: AbortSignal): Promise<void> {
    if (await this.#isOneOf(this.#options.images, image, signal)) return;
    throw new Refusal("the image is not allowed");
  }

  /** Whether its containers may have the profile that Chromium needs. */
  async checkBrowserImage(image: string, signal: AbortSignal): Promise<void> {
    if (await this.#isOneOf(this.#options.browserImages, image, signal)) return;
    throw new Refusal("the image is not one of a browser");
  }

  async #isOneOf(names: readonly string[], image: string, signal: AbortSignal): Promise<boolean> {
    if (names.includes(image)) return true;
    for (const name of /^sha256:[0-9a-f]{64}$/.test(image) ? names : []) {
      const found = await this.#engine.read(`/images/${name}/json`, signal);
      if (found !== undefined && ImageAnswer.parse(found).Id === image) return true;
    }
    return false;
  }

  async checkMounts(mounts: readonly Mount[], signal: AbortSignal): Promise<void> {
    for (const mount of mounts) {
      if (mount.Type === "volume") await this.checkVolume(mount.Source, signal);
      else await this.#checkDirectory(mount.Source);
    }
  }

  /** Containers are locked down one by one; this bounds them together. */
  async checkCount(signal: AbortSignal): Promise<void> {
    const filters = encodeURIComponent(JSON.stringify({ label: [`${SCOPE_LABEL}=${this.#options.scope}`] }));
    const listed = await this.#engine.read(`/containers/json?all=true&filters=${filters}`, signal);
    const found = z.array(z.unknown()).parse(listed);
    if (found.length >= this.#options.containers)
      throw new Refusal("there are as many containers as may be", 429);
  }

  /** The engine follows links, so a path through one would lead elsewhere than it says. */
  async #checkDirectory(path: string): Promise<void> {
    const isUnderRoot = this.#options.binds.some((root) => path === root || path.startsWith(`${root}/`));
    if (!isUnderRoot) throw new Refusal("the directory is not under an allowed one");
    const real = await realpath(path).catch(() => undefined);
    if (real !== path)
      throw new Refusal("the directory is not where its path says, or the proxy does not see it");
  }
}
