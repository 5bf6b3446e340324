/** What is told about a file's content without telling the content. Pure. */
import { isUtf8 } from "node:buffer";
import { hash } from "node:crypto";

export interface ContentDigest {
  readonly sha256: string;
  readonly binary: boolean;
}

export function toContentDigest(content: Buffer): ContentDigest {
  return { sha256: hash("sha256", content, "hex"), binary: isBinary(content) };
}

/** Binary is what a diff's text cannot carry: a NUL, or bytes that are not UTF-8. */
export function isBinary(content: Buffer): boolean {
  return content.includes(0) || !isUtf8(content);
}
