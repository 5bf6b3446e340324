/** Reads a saved image (`docker save`, or an OCI layout in a tar file) in one pass, and puts together what it holds. */
import { createHash } from "node:crypto";
import { posix } from "node:path";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { z } from "zod";
import { decompress, readTar } from "./archive.ts";
import { AuditError } from "./audit-error.ts";
import type { AuditPolicy } from "./audit-policy.ts";
import { HEAD_BYTES, toByteKind } from "./byte-kind.ts";
import { hashed, peek } from "./byte-window.ts";
import { ContentExaminer } from "./content-examiner.ts";
import type { Finding } from "./finding.ts";
import { toAbsolute } from "./image-path.ts";
import { type Layer, readLayer } from "./layer.ts";

const MAX_DOCUMENT_BYTES = 32 * 1024 * 1024;

/** Everything in the file, by its name there, as `/blobs/sha256/…`. */
export type SavedParts = {
  readonly layers: ReadonlyMap<string, Layer>;
  readonly documents: ReadonlyMap<string, string>;
  /** Names that stand for others. */
  readonly links: ReadonlyMap<string, string>;
};

export type SavedImageReader = {
  readonly policy: AuditPolicy;
  readonly report: (finding: Finding) => void;
  /** Told before each part is read. */
  readonly onPart: (name: string, bytes: number) => void;
};

/** Every layer that is in the file is read, also one that nothing names. Throws AuditError where the file is damaged. */
export async function readSavedImage(source: Readable, reader: SavedImageReader): Promise<SavedParts> {
  const layers = new Map<string, Layer>();
  const documents = new Map<string, string>();
  const links = new Map<string, string>();
  try {
    for await (const { header, content } of readTar(source)) {
      const name = toAbsolute(header.name);
      if (header.type === "symlink")
        links.set(name, toAbsolute(posix.join(posix.dirname(name), header.linkname)));
      if (header.type === "link") links.set(name, toAbsolute(header.linkname));
      reader.onPart(name, header.size);
      const part = await readPart(name, content, reader);
      if (typeof part === "string") documents.set(name, part);
      else if (part !== undefined) layers.set(name, part);
    }
  } catch (error) {
    if (error instanceof AuditError) throw error;
    throw new AuditError(
      `the saved image is damaged: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
  return { layers, documents, links };
}

/** The digest that a part's name promises. */
export function toDigest(name: string): string | undefined {
  const [, algorithm, hex] = /^\/blobs\/([a-z0-9]+)\/([0-9a-f]+)$/.exec(name) ?? [];
  return algorithm === undefined ? undefined : `${algorithm}:${hex}`;
}

async function readPart(
  name: string,
  content: AsyncIterable<Uint8Array>,
  reader: SavedImageReader,
): Promise<Layer | string | undefined> {
  const hash = createHash("sha256");
  const stored = await peek(content, HEAD_BYTES);
  const result = await toPart(name, stored.head, hashed(stored.all, hash), reader);
  const promised = toDigest(name);
  const actual = `sha256:${hash.digest("hex")}`;
  if (promised?.startsWith("sha256:") && promised !== actual)
    throw new AuditError(`the saved image is damaged: ${promised} has the content of ${actual}`);
  return result;
}

async function toPart(
  name: string,
  head: Buffer,
  stored: AsyncIterable<Buffer>,
  { policy, report }: SavedImageReader,
): Promise<Layer | string | undefined> {
  const label = toDigest(name) ?? name;
  const kind = toByteKind(head);
  if (head.length === 0) return void (await buffer(stored));
  if (kind === "text") return await readDocument(name, stored);
  const isPacked = kind === "gzip" || kind === "zstd";
  const plain = await peek(isPacked ? decompress(kind, Readable.from(stored)) : stored, HEAD_BYTES);
  const isTar = toByteKind(plain.head) === "tar" || isEmptyTar(plain.head);
  if (isTar) return await readLayer(plain.all, label, policy, report);
  await new ContentExaminer(policy, label, report).examine(plain.all, name, false);
  return undefined;
}

/** A tar file without entries is blocks of zeros. */
function isEmptyTar(head: Buffer): boolean {
  return head.length === HEAD_BYTES && head.every((byte) => byte === 0);
}

async function readDocument(name: string, content: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of content) {
    bytes += chunk.length;
    if (bytes > MAX_DOCUMENT_BYTES) throw new AuditError(`${name} in the saved image is too long to be read`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

/** Throws AuditError where the document is not what it must be. */
export function parseDocument<T>(schema: z.ZodType<T>, text: string, name: string): T {
  try {
    return schema.parse(JSON.parse(text));
  } catch (error) {
    const why =
      error instanceof z.ZodError ? z.prettifyError(error) : error instanceof Error ? error.message : "";
    throw new AuditError(`${name} in the saved image cannot be understood: ${why}`);
  }
}
