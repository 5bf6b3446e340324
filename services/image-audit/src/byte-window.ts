/** Reads the first bytes of a stream without losing them, and hands all of them on. */

import type { Hash } from "node:crypto";

export type Peeked = { readonly head: Buffer; readonly all: AsyncIterable<Buffer> };

/** The first `bytes` bytes, or all there are, and the whole stream again. */
export async function peek(source: AsyncIterable<Uint8Array>, bytes: number): Promise<Peeked> {
  const iterator = source[Symbol.asyncIterator]();
  const chunks: Buffer[] = [];
  let length = 0;
  let isOver = false;
  while (length < bytes && !isOver) {
    const next = await iterator.next();
    isOver = next.done === true;
    if (next.done === true) continue;
    chunks.push(Buffer.from(next.value.buffer, next.value.byteOffset, next.value.byteLength));
    length += next.value.byteLength;
  }
  const start = Buffer.concat(chunks);
  return { head: start.subarray(0, bytes), all: chain(start, isOver ? undefined : iterator) };
}

async function* chain(start: Buffer, rest: AsyncIterator<Uint8Array> | undefined): AsyncGenerator<Buffer> {
  if (start.length > 0) yield start;
  for (;;) {
    const next = await rest?.next();
    if (next === undefined || next.done === true) return;
    yield Buffer.from(next.value.buffer, next.value.byteOffset, next.value.byteLength);
  }
}

/** The same bytes, each counted into the digest as it passes. */
export async function* hashed(source: AsyncIterable<Buffer>, hash: Hash): AsyncGenerator<Buffer> {
  for await (const chunk of source) {
    hash.update(chunk);
    yield chunk;
  }
}
