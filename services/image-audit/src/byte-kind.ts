/** What a file is, told by its first bytes and never by its name. */

export type ByteKind = "gzip" | "zstd" | "tar" | "zip" | "closed-archive" | "elf" | "text" | "binary";

export const HEAD_BYTES = 512;

const MAGIC: readonly (readonly [ByteKind, string])[] = [
  ["gzip", "1f8b08"],
  ["zstd", "28b52ffd"],
  ["zip", "504b0304"],
  ["zip", "504b0506"],
  ["elf", "7f454c46"],
  ["closed-archive", "fd377a585a00"], // xz
  ["closed-archive", "425a6839314159265359"], // bzip2
  ["closed-archive", "377abcaf271c"], // 7z
  ["closed-archive", "526172211a07"], // rar
  ["closed-archive", "213c617263683e0a64656269616e2d62696e617279"], // a Debian package
  ["closed-archive", "04224d18"], // lz4
];

/** `head` has the first 512 bytes, or all there are. */
export function toByteKind(head: Buffer): ByteKind {
  const known = MAGIC.find(([, magic]) => head.toString("hex", 0, magic.length / 2) === magic);
  if (known !== undefined) return known[0];
  if (isTarHeader(head)) return "tar";
  return head.includes(0) ? "binary" : "text";
}

/** A header's checksum counts its own eight bytes as blanks; two blocks of zeros are an empty archive. */
function isTarHeader(head: Buffer): boolean {
  if (head.length < HEAD_BYTES) return false;
  if (head.every((byte) => byte === 0)) return false;
  const written = Number.parseInt(head.toString("latin1", 148, 156).replace(/[\0 ]+$/, ""), 8);
  let sum = 8 * 0x20;
  for (let at = 0; at < HEAD_BYTES; at++) if (at < 148 || at >= 156) sum += head[at] ?? 0;
  return sum === written;
}
