/** The parts of a tar archive around its contents. `tar-stream` encodes the headers; we keep the pace of the bytes. */
import { once } from "node:events";
import { type Header, pack } from "tar-stream";

const BLOCK_BYTES = 512;

export const END_OF_TAR = Buffer.alloc(2 * BLOCK_BYTES);

/** One entry's header: ustar, or pax where a name is long or not ASCII. Its content and padding must follow. */
export async function toTarHeader(header: Partial<Header> & Pick<Header, "name">): Promise<Buffer> {
  const tar = pack();
  tar.entry(header);
  await once(tar, "readable");
  const parts: Buffer[] = [];
  for (let part = tar.read(); Buffer.isBuffer(part); part = tar.read()) parts.push(part);
  tar.destroy();
  return Buffer.concat(parts);
}

/** Zeros that fill the last block of `size` bytes. */
export function toTarPadding(size: number): Buffer {
  return Buffer.alloc((BLOCK_BYTES - (size % BLOCK_BYTES)) % BLOCK_BYTES);
}
