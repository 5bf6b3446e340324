/** Feeds the bytes that stream by to a second reader, at its pace, and never lets its failure stop the first. */
import { once } from "node:events";
import { PassThrough, type Readable } from "node:stream";

export type SideReader = AsyncDisposable & {
  /** Waits while the reader is behind. What a reader that has ended is given is dropped. */
  write(chunk: Buffer): Promise<void>;
  /** No more comes; waits until the reader is done. */
  end(): Promise<void>;
};

/** `onFailure` is told once when the reader throws. */
export function startSideReader(
  read: (stream: Readable) => Promise<void>,
  onFailure: (error: Error) => void,
): SideReader {
  const stream = new PassThrough();
  stream.on("error", () => undefined); // told by the reader
  const over = new AbortController();
  const done = read(stream)
    .catch((error: unknown) => onFailure(error instanceof Error ? error : new Error(String(error))))
    .finally(() => {
      over.abort();
      stream.destroy();
    });
  return {
    async write(chunk) {
      if (over.signal.aborted || stream.destroyed) return;
      if (!stream.write(chunk)) await once(stream, "drain", { signal: over.signal }).catch(() => undefined);
    },
    async end() {
      stream.end();
      await done;
    },
    async [Symbol.asyncDispose]() {
      stream.destroy();
      await done;
    },
  };
}
