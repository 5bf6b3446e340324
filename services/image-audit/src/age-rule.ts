/** Whether files are younger than the image says it is: then it was changed after it was declared. */
import type { Finding } from "./finding.ts";
import type { Image } from "./image-list.ts";

const LABEL = "org.opencontainers.image.created";

/** A label is set when a build begins, and the build goes on writing files. */
const BUILD_MS = 24 * 3600_000;
/** The configuration is written after the last file; only clocks of two machines may differ. */
const CLOCK_MS = 5 * 60_000;

export type Declared = {
  readonly by: "label" | "configuration";
  readonly at: number;
  readonly latest: number;
};

/** The label's date where it is a real one (the epoch stands for "not told"), else the configuration's. */
export function toDeclared(image: Image): Declared | undefined {
  const label = Date.parse(image.config.config?.Labels?.[LABEL] ?? "");
  if (label > 0) return { by: "label", at: label, latest: label + BUILD_MS };
  const created = Date.parse(image.config.created ?? "");
  return created > 0 ? { by: "configuration", at: created, latest: created + CLOCK_MS } : undefined;
}

/** One finding for each layer, with how many files and the youngest of them. */
export function checkAge(image: Image, report: (finding: Finding) => void): void {
  const declared = toDeclared(image);
  if (declared === undefined) return;
  for (const layer of image.layers) {
    let count = 0;
    let youngest = { path: "", at: 0 };
    for (const [path, entry] of layer.entries) {
      if (entry.kind !== "file" || entry.modifiedAt <= declared.latest) continue;
      count++;
      if (entry.modifiedAt > youngest.at) youngest = { path, at: entry.modifiedAt };
    }
    if (count === 0) continue;
    const detail = `${count} files; this one is of ${toText(youngest.at)}, the ${declared.by} says ${toText(declared.at)}`;
    report({ rule: "newer-than-declared", path: youngest.path, layer: layer.name, detail });
  }
}

function toText(at: number): string {
  return new Date(at).toISOString();
}
