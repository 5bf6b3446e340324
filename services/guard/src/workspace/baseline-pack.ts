/** The contents that a diff is made against, one after another in a single file.
 *
 * One file because creating thousands costs more than all the rest of a snapshot (10,000 small files: 1.2 to 7 s as
 * copies, 0.2 s here). The agent runs as the same user and may change the file: the digests stay in the guard's memory,
 * and content that does not match is not used.
 */
import fs, { constants } from "node:fs";
import { join } from "node:path";
import { type ContentDigest, toContentDigest } from "./content-digest.ts";
import { HeldDirectory, readContent } from "./held-directory.ts";

export interface KeptContent extends ContentDigest {
  readonly offset: number;
  readonly bytes: number;
}

const NAME = "baseline.pack";

export class BaselineWriter implements Disposable {
  readonly #directory: string;
  #fd: number | undefined;
  #offset = 0;

  constructor(directory: string) {
    this.#directory = directory;
    fs.mkdirSync(directory, { recursive: true, mode: 0o700 });
    fs.rmSync(join(directory, NAME), { force: true });
  }

  get bytes(): number {
    return this.#offset;
  }

  /** Undefined when there is no room for it. */
  keep(content: Buffer): KeptContent | undefined {
    try {
      this.#fd ??= fs.openSync(
        join(this.#directory, NAME),
        constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW,
        0o600,
      );
      if (fs.writeSync(this.#fd, content, 0, content.length, this.#offset) < content.length) return undefined;
    } catch {
      return undefined;
    }
    const kept = { ...toContentDigest(content), offset: this.#offset, bytes: content.length };
    this.#offset += content.length;
    return kept;
  }

  [Symbol.dispose](): void {
    if (this.#fd !== undefined) fs.closeSync(this.#fd);
  }
}

export class BaselineReader implements Disposable {
  readonly #fd: number | undefined;

  constructor(directory: string) {
    using held = HeldDirectory.open(directory);
    this.#fd = held?.openFile(NAME)?.fd;
  }

  /** Undefined when the content is no longer what was kept. */
  read({ offset, bytes, sha256 }: KeptContent): Buffer | undefined {
    if (this.#fd === undefined) return undefined;
    const content = readContent(this.#fd, bytes, offset);
    return content !== undefined && toContentDigest(content).sha256 === sha256 ? content : undefined;
  }

  [Symbol.dispose](): void {
    if (this.#fd !== undefined) fs.closeSync(this.#fd);
  }
}
