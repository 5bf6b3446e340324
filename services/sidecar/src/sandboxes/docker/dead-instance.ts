/** What an instance has left on an engine that has no process any more, for example a `pillion run` that was killed. */
import { within } from "../../kernel/deadline.ts";
import { Fault } from "../../kernel/fault.ts";
import { Engine } from "./engine.ts";
import { Leftovers } from "./leftovers.ts";
import { ProductVolume } from "./product-volume.ts";

const SWEEP_MS = 15_000;

/**
 * Removes all of its runs' containers and volumes, and its volumes of our product. Throws where the engine does not
 * answer, or does not do it in time. `host` as in DOCKER_HOST.
 */
export async function sweepDeadInstance(host: string, instance: string): Promise<void> {
  const engine = new Engine(host);
  await engine.ping(); // tells in a short time whether it is there
  const sweep = async (): Promise<void> => {
    await new Leftovers(engine, instance).sweep();
    await new ProductVolume(engine, instance).sweep(); // after the containers that use it
  };
  const late = () => new Fault("sandbox_unavailable", "The container engine did not answer in time.");
  await within(SWEEP_MS, sweep(), late);
}
