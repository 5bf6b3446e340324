// Writes saved images for the tests: small tar files in Docker's form and in OCI's, with layers as they are asked for.
import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { crc32, gzipSync, zstdCompressSync } from "node:zlib";
import { type Header, pack } from "tar-stream";

export type PlantedFile = {
  readonly path: string;
  readonly content?: string | Buffer;
  readonly mode?: number;
  readonly modifiedAt?: Date;
  readonly linkTo?: string;
};

export type PlantedImage = {
  readonly layers: readonly (readonly PlantedFile[])[];
  readonly config?: Readonly<Record<string, unknown>>;
  readonly history?: readonly Readonly<Record<string, unknown>>[];
  readonly created?: string;
  readonly architecture?: string;
  /** What the configuration claims of the layers, where that is not the truth. */
  readonly diffIds?: readonly string[];
  readonly packedAs?: "gzip" | "zstd";
};

/** All files of the tests are of this day unless they say otherwise. */
export const LONG_AGO = new Date("2026-01-02T03:04:05Z");
const CREATED = "2026-01-02T04:00:00Z";

export async function toTar(files: readonly PlantedFile[]): Promise<Buffer> {
  const archive = pack();
  for (const { path, content = "", mode = 0o644, modifiedAt = LONG_AGO, linkTo } of files) {
    const header: Partial<Header> & { name: string } = {
      name: path.replace(/^\//, ""),
      mode,
      mtime: modifiedAt,
    };
    if (linkTo !== undefined) archive.entry({ ...header, type: "symlink", linkname: linkTo });
    else if (path.endsWith("/")) archive.entry({ ...header, type: "directory" });
    else archive.entry(header, content);
  }
  archive.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of Readable.from(archive)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** A zip file whose one entry is stored as it is. */
export function toZip(name: string, content: Buffer, encrypted = false): Buffer {
  const fields = Buffer.alloc(26); // version to extra length, alike in both headers
  fields.writeUInt16LE(20, 0);
  fields.writeUInt16LE(encrypted ? 1 : 0, 2);
  fields.writeUInt32LE(crc32(content), 10);
  fields.writeUInt32LE(content.length, 14);
  fields.writeUInt32LE(content.length, 18);
  fields.writeUInt16LE(name.length, 22);
  const local = Buffer.concat([Buffer.from("504b0304", "hex"), fields, Buffer.from(name), content]);
  const central = Buffer.concat([
    Buffer.from("504b01021400", "hex"),
    fields,
    Buffer.alloc(14),
    Buffer.from(name),
  ]);
  const end = Buffer.alloc(22);
  end.write("504b0506", "hex");
  end.writeUInt16LE(1, 8);
  end.writeUInt16LE(1, 10);
  end.writeUInt32LE(central.length, 12);
  end.writeUInt32LE(local.length, 16);
  return Buffer.concat([local, central, end]);
}

type Blob = { readonly digest: string; readonly bytes: Buffer };

export function toBlob(bytes: Buffer): Blob {
  return { digest: `sha256:${createHash("sha256").update(bytes).digest("hex")}`, bytes };
}

function toJson(value: unknown): Blob {
  return toBlob(Buffer.from(JSON.stringify(value)));
}

type Parts = { readonly config: Blob; readonly layers: readonly Blob[] };

async function toParts(image: PlantedImage): Promise<Parts> {
  const tars = await Promise.all(image.layers.map(toTar));
  const pressed = { gzip: gzipSync, zstd: zstdCompressSync };
  const layers = tars.map((tar) => toBlob(image.packedAs === undefined ? tar : pressed[image.packedAs](tar)));
  const config = toJson({
    created: image.created ?? CREATED,
    os: "linux",
    architecture: image.architecture ?? "amd64",
    config: image.config ?? {},
    history: image.history ?? [],
    rootfs: { type: "layers", diff_ids: image.diffIds ?? tars.map((tar) => toBlob(tar).digest) },
  });
  return { config, layers };
}

/** `manifest.json`, with layers in folders of their own, as Docker 20.10 saves. */
export async function toDockerArchive(image: PlantedImage): Promise<Buffer> {
  const { config, layers } = await toParts(image);
  const configName = `${config.digest.slice(7)}.json`;
  const names = layers.map(({ digest }) => `${digest.slice(7)}/layer.tar`);
  const manifest = [{ Config: configName, RepoTags: ["planted:test"], Layers: names }];
  return await toTar([
    ...layers.map(({ bytes }, index) => ({ path: names[index] ?? "", content: bytes })),
    { path: configName, content: config.bytes },
    { path: "manifest.json", content: JSON.stringify(manifest) },
  ]);
}

/** An OCI layout; several images stand in a nested index, one for each platform. */
export async function toOciLayout(
  images: readonly PlantedImage[],
  extra: readonly PlantedFile[] = [],
  moreManifests: readonly unknown[] = [],
): Promise<Buffer> {
  const blobs: Blob[] = [];
  const manifests: unknown[] = [];
  for (const image of images) {
    const { config, layers } = await toParts(image);
    const manifest = toJson({
      schemaVersion: 2,
      config: { mediaType: "application/vnd.oci.image.config.v1+json", digest: config.digest },
      layers: layers.map(({ digest }) => ({ mediaType: "application/vnd.oci.image.layer.v1.tar", digest })),
    });
    const platform = { os: "linux", architecture: image.architecture ?? "amd64" };
    manifests.push({ digest: manifest.digest, platform });
    blobs.push(config, ...layers, manifest);
  }
  const nested = toJson({ schemaVersion: 2, manifests: [...manifests, ...moreManifests] });
  const annotations = { "org.opencontainers.image.ref.name": "planted:test" };
  const index = { schemaVersion: 2, manifests: [{ digest: nested.digest, annotations }] };
  return await toTar([
    ...[...blobs, nested].map(({ digest, bytes }) => ({
      path: `blobs/${digest.replace(":", "/")}`,
      content: bytes,
    })),
    { path: "index.json", content: JSON.stringify(index) },
    ...extra,
  ]);
}
