/** Which images a saved file holds: from `index.json` with all its nested indexes, and from Docker's `manifest.json`. */
import { z } from "zod";
import { AuditError } from "./audit-error.ts";
import type { Finding } from "./finding.ts";
import { type Descriptor, DockerArchive, ImageConfig, ImageIndex, ImageManifest } from "./image-documents.ts";
import { toAbsolute } from "./image-path.ts";
import type { Layer } from "./layer.ts";
import { parseDocument, type SavedParts } from "./saved-image.ts";

export type Image = {
  /** Names it has in the file. */
  readonly references: readonly string[];
  /** Like `linux/amd64`. */
  readonly platform: string;
  /** Digest of the configuration: the image's id. */
  readonly id: string;
  readonly config: ImageConfig;
  /** From the lowest. */
  readonly layers: readonly Layer[];
};

const MAX_NESTED = 8;
const REFERENCE = /^(io\.containerd\.image\.name|org\.opencontainers\.image\.ref\.name)$/;

/** What is named but not there is reported. Throws AuditError where the file is no saved image. */
export function listImages(parts: SavedParts, report: (finding: Finding) => void): Image[] {
  const images = new ImageFinder(parts, report).find();
  if (images.length === 0)
    throw new AuditError(
      "the input holds no image: neither an OCI index.json nor Docker's manifest.json names one",
    );
  return images;
}

class ImageFinder {
  readonly #parts: SavedParts;
  readonly #report: (finding: Finding) => void;
  readonly #images = new Map<string, Image>();

  constructor(parts: SavedParts, report: (finding: Finding) => void) {
    this.#parts = parts;
    this.#report = report;
  }

  find(): Image[] {
    const { documents } = this.#parts;
    const index = documents.get("/index.json");
    if (index !== undefined) this.#addIndex(index, "index.json", [], 0);
    const archive = documents.get("/manifest.json");
    if (archive !== undefined) {
      for (const { Config, RepoTags, Layers } of parseDocument(DockerArchive, archive, "manifest.json"))
        this.#addImage(toAbsolute(Config), Layers.map(toAbsolute), RepoTags ?? []);
    }
    return [...this.#images.values()];
  }

  #addIndex(text: string, name: string, references: readonly string[], depth: number): void {
    if (depth > MAX_NESTED) throw new AuditError("the saved image's indexes are nested too deep");
    for (const descriptor of parseDocument(ImageIndex, text, name).manifests)
      this.#addManifest(descriptor, [...references, ...toReferences(descriptor)], depth);
  }

  #addManifest(descriptor: Descriptor, references: readonly string[], depth: number): void {
    const name = toBlobName(descriptor.digest);
    const text = this.#parts.documents.get(name);
    if (text === undefined)
      return this.#miss(`manifest ${descriptor.digest}`, toPlatform(descriptor.platform));
    if (ImageIndex.safeParse(parseDocument(z.unknown(), text, name)).success)
      return this.#addIndex(text, name, references, depth + 1);
    const { config, layers } = parseDocument(ImageManifest, text, name);
    // An attestation's layers are statements in JSON; the texts are scanned, a file system it is not.
    if (layers.length > 0 && layers.every(({ mediaType }) => mediaType?.includes("in-toto"))) return;
    this.#addImage(
      toBlobName(config.digest),
      layers.map(({ digest }) => toBlobName(digest)),
      references,
    );
  }

  #addImage(configName: string, layerNames: readonly string[], references: readonly string[]): void {
    const known = this.#images.get(configName);
    if (known !== undefined) {
      const all = [...new Set([...known.references, ...references])];
      this.#images.set(configName, { ...known, references: all });
      return;
    }
    const text = this.#parts.documents.get(this.#follow(configName));
    if (text === undefined) return this.#miss(`configuration ${configName}`, references.join(", "));
    const config = parseDocument(ImageConfig, text, configName);
    const layers = layerNames.flatMap((name) => this.#toLayer(name));
    this.#checkOrder(config, layers);
    const id = `sha256:${/[0-9a-f]{64}/.exec(configName)?.[0] ?? ""}`;
    const { os = "", architecture = "", variant } = config;
    const platform = toPlatform({ os, architecture, variant });
    this.#images.set(configName, { references, platform, id, config, layers });
  }

  #toLayer(name: string): Layer[] {
    const layer = this.#parts.layers.get(this.#follow(name));
    if (layer === undefined) this.#miss(`layer ${name}`, "named, and not in the file as a tar archive");
    return layer === undefined ? [] : [layer];
  }

  /** The configuration signs what every layer unpacks to. */
  #checkOrder(config: ImageConfig, layers: readonly Layer[]): void {
    const [wanted, given] = [config.rootfs.diff_ids, layers.map(({ diffId }) => diffId)];
    if (wanted.join() !== given.join())
      this.#miss("layers", `unpack to ${given.join(", ")}; the configuration says ${wanted.join(", ")}`);
  }

  #follow(name: string): string {
    const target = this.#parts.links.get(name);
    return target === undefined || target === name ? name : target;
  }

  #miss(path: string, detail: string): void {
    this.#report({ rule: "incomplete-image", path, layer: "", detail });
  }
}

function toBlobName(digest: string): string {
  return `/blobs/${digest.replace(":", "/")}`;
}

function toReferences({ annotations }: Descriptor): string[] {
  return Object.entries(annotations ?? {}).flatMap(([key, value]) => (REFERENCE.test(key) ? [value] : []));
}

function toPlatform(
  platform: { os: string; architecture: string; variant?: string | undefined } | undefined,
): string {
  if (platform === undefined) return "unknown";
  const { os, architecture, variant } = platform;
  return [os, architecture, variant].filter((part) => part !== undefined && part !== "").join("/");
}
