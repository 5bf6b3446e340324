/** The files inside an archive, one after another, without unpacking it into memory or onto paths of its choice. */
import { createWriteStream, mkdtempDisposableSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip, createZstdDecompress } from "node:zlib";
import { extract, type Header } from "tar-stream";
import { openPromise } from "yauzl";

export type ArchivedFile = {
  /** As the archive has it; absent for the one content of a compressed file. */
  readonly name?: string;
  readonly executable: boolean;
  readonly content: AsyncIterable<Uint8Array>;
};

/** Throws what the library throws where the archive is broken. */
export async function* openArchive(
  kind: "gzip" | "zstd" | "tar" | "zip",
  source: Readable,
): AsyncGenerator<ArchivedFile> {
  if (kind === "tar") yield* openTar(source);
  else if (kind === "zip") yield* openZip(source);
  else yield { executable: true, content: decompress(kind, source) };
}

/** One entry of a tar file; `content` must be read before the next entry comes. */
export type TarEntry = { readonly header: Header; readonly content: AsyncIterable<Uint8Array> };

export async function* readTar(source: Readable): AsyncGenerator<TarEntry> {
  const archive = extract();
  source.once("error", (error) => archive.destroy(error));
  source.pipe(archive);
  for await (const entry of archive) yield { header: entry.header, content: Readable.from(entry) };
}

export function decompress(kind: "gzip" | "zstd", source: Readable): Readable {
  const stream = kind === "gzip" ? createGunzip() : createZstdDecompress();
  source.once("error", (error) => stream.destroy(error));
  return source.pipe(stream);
}

async function* openTar(source: Readable): AsyncGenerator<ArchivedFile> {
  for await (const { header, content } of readTar(source)) {
    const { name, mode = 0 } = header;
    yield { name, executable: (mode & 0o111) !== 0, content };
  }
}

/** A zip's table of contents is at its end, so it goes to a temporary file first. */
async function* openZip(source: Readable): AsyncGenerator<ArchivedFile> {
  using directory = mkdtempDisposableSync(join(tmpdir(), "image-audit-"));
  const path = join(directory.path, "archive.zip");
  await pipeline(source, createWriteStream(path, { mode: 0o600 }));
  const zip = await openPromise(path, { autoClose: false, strictFileNames: false });
  try {
    for await (const entry of zip.eachEntry()) {
      if (entry.fileName.endsWith("/")) continue;
      const content = await zip.openReadStreamPromise(entry);
      yield { name: entry.fileName, executable: true, content: Readable.from(content) };
    }
  } finally {
    zip.close();
  }
}
