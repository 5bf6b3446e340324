/** A regular file as a stream of exactly as many bytes as it had when it was opened. */
import fs from "node:fs";
import { Readable } from "node:stream";
import type { OpenFile } from "./held-directory.ts";
import { WorkspaceError } from "./workspace-error.ts";

const CHUNK_BYTES = 65_536;

/**
 * Takes over the file and closes it. What is appended meanwhile is not read.
 * Ends with a `changed_while_read` error when the file became shorter.
 */
export function openFileStream({ fd, stat }: OpenFile): Readable {
  const size = Number(stat.size);
  let offset = 0;
  let reading = false;
  let close: (() => void) | undefined;
  return new Readable({
    highWaterMark: CHUNK_BYTES,
    read() {
      const length = Math.min(CHUNK_BYTES, size - offset);
      if (length === 0) {
        this.push(null);
        return;
      }
      reading = true;
      fs.read(fd, Buffer.allocUnsafe(length), 0, length, offset, (error, count, chunk) => {
        reading = false;
        close?.();
        if (this.destroyed) return;
        if (error !== null) return void this.destroy(error);
        if (count === 0)
          return void this.destroy(new WorkspaceError("changed_while_read", "the file became shorter"));
        offset += count;
        this.push(chunk.subarray(0, count));
      });
    },
    destroy(error, done) {
      close = () => fs.close(fd, (failure) => done(error ?? failure));
      // A descriptor closed under a pending read could by then be another file's.
      if (!reading) close();
    },
  });
}
