/** The image of a run: the operator's usual one, or another that the operator has allowed by digest. */
import { Fault } from "../../kernel/fault.ts";
import type { Engine, ImageFacts } from "./engine.ts";

/**
 * `image` as the operator wrote it: `name@sha256:…` or `sha256:…`. The engine's word for what it has must agree.
 * Throws image_missing, forbidden.
 */
export async function readAllowedImage(engine: Engine, image: string): Promise<ImageFacts> {
  const facts = await engine.readImage(image);
  const digest = image.slice(image.indexOf("sha256:"));
  const has = [facts.id, ...facts.digests.map((entry) => entry.slice(entry.indexOf("@") + 1))];
  if (!has.includes(digest)) {
    throw new Fault("image_missing", "The engine has another image under this digest.");
  }
  if (facts.volumes.length > 0) {
    // The engine would make a volume without a limit for each of them, and the run could write there.
    throw new Fault(
      "forbidden",
      `The image declares volumes (${facts.volumes.join(", ")}), which runs never get.`,
    );
  }
  return facts;
}
