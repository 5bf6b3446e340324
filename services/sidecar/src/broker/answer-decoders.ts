/** Whether an answer can be read for what it holds, and by which decoders. */
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { createBrotliDecompress, createGunzip, createInflate, createZstdDecompress } from "node:zlib";

/** None where it is plain; undefined where it could hold a secret unseen, or is no answer that a client may get. */
export function toDecoders(
  incoming: IncomingMessage,
  options: { readonly isHead: boolean },
): Duplex[] | undefined {
  const { headers, statusCode = 0 } = incoming;
  if (statusCode < 200) return undefined; // to switch protocols was not asked for, and others have no meaning
  const coding = headers["transfer-encoding"]?.trim().toLowerCase() ?? "chunked";
  if (coding !== "chunked") return undefined; // Node takes off chunks, and leaves the others as they are
  const encoding = headers["content-encoding"]?.trim().toLowerCase() ?? "identity";
  const isEmpty = options.isHead || headers["content-length"] === "0" || [204, 304].includes(statusCode);
  if (encoding === "identity" || encoding === "" || isEmpty) return [];
  const decoder = DECODERS.get(encoding)?.();
  return decoder === undefined ? undefined : [decoder];
}

const DECODERS: ReadonlyMap<string, () => Duplex> = new Map([
  ["gzip", () => createGunzip()],
  ["x-gzip", () => createGunzip()],
  ["deflate", () => createInflate()],
  ["br", () => createBrotliDecompress()],
  ["zstd", () => createZstdDecompress()],
]);

/** Whether the bytes were not what their encoding, or HTTP, says they are. */
export function isUnreadable(error: Error): boolean {
  const code = "code" in error && typeof error.code === "string" ? error.code : "";
  return /^(Z_|ERR_BROTLI|ERR__ERROR|ZSTD|ERR_ZSTD|HPE_)/.test(code);
}
