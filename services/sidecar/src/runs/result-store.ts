/** What ended runs changed in their workspaces, on disk: list, diff and the changed files as one tar. */
import { createReadStream, createWriteStream } from "node:fs";
import { mkdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Readable, Transform } from "node:stream";
import { text } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import { extract } from "tar-stream";
import { z } from "zod";
import { ChangedFile, type ChangedFiles } from "#contract/run";
import { Fault } from "../kernel/fault.ts";
import type { Sandbox } from "../sandboxes/sandbox.ts";

const MAX_LIST_BYTES = 32 * 1024 * 1024;
const MAX_DIFF_BYTES = 8 * 1024 * 1024;

const ChangeList = z.object({ files: z.array(ChangedFile), truncated: z.boolean() });

export class ResultStore {
  readonly #directory: string;
  readonly #maxTarBytes: number;

  constructor(directory: string, maxTarBytes: number) {
    this.#directory = directory;
    this.#maxTarBytes = maxTarBytes;
  }

  /** Takes everything out of a quiet sandbox; the run's results appear whole or not at all. */
  async keep(runId: string, sandbox: Sandbox): Promise<void> {
    const final = join(this.#directory, runId);
    const draft = `${final}.draft`;
    await mkdir(draft, { recursive: true, mode: 0o700 });
    try {
      const changes = await readChangeList(await sandbox.openChanges());
      await writeFile(join(draft, "files.json"), JSON.stringify(changes));
      if (changes.files.length > 0) await this.#keepContents(draft, sandbox, changes.files);
      await rename(draft, final);
    } catch (error) {
      await rm(draft, { recursive: true, force: true });
      throw error;
    }
  }

  async #keepContents(draft: string, sandbox: Sandbox, files: readonly ChangedFile[]): Promise<void> {
    const diff = await sandbox.openDiff();
    await pipeline(diff, bound(MAX_DIFF_BYTES), createWriteStream(join(draft, "diff.patch")));
    const paths = files
      .filter(({ change, kind }) => change !== "deleted" && kind === "file")
      .map(({ path }) => path);
    if (paths.length === 0) return;
    const tar = await sandbox.openTar(paths);
    await pipeline(tar, bound(this.#maxTarBytes), createWriteStream(join(draft, "files.tar")));
  }

  /** Throws not_found when nothing was kept, for example because the sandbox was lost. */
  async readChanges(runId: string): Promise<ChangedFiles> {
    const content = await readFile(join(this.#directory, runId, "files.json"), "utf8").catch(() => undefined);
    if (content === undefined) throw nothingKept();
    return { runId, ...ChangeList.parse(JSON.parse(content)) };
  }

  async readDiff(runId: string): Promise<string> {
    await this.readChanges(runId);
    return readFile(join(this.#directory, runId, "diff.patch"), "utf8").catch(() => "");
  }

  async openTar(runId: string): Promise<Readable> {
    await this.readChanges(runId);
    const file = join(this.#directory, runId, "files.tar");
    if ((await stat(file).catch(() => undefined)) === undefined)
      throw new Fault("not_found", "The run left no changed files.");
    return createReadStream(file);
  }

  /** One file out of the tar, by its exact name there; no path of the host is made from it. */
  async openFile(runId: string, path: string): Promise<{ size: number; stream: Readable }> {
    const source = await this.openTar(runId);
    const archive = extract();
    source.once("error", (error) => archive.destroy(error));
    source.pipe(archive);
    for await (const entry of archive) {
      if (entry.header.name === path && entry.header.type === "file") {
        const stream = bound(this.#maxTarBytes);
        entry.once("error", (error) => stream.destroy(error));
        stream.once("close", () => source.destroy());
        entry.pipe(stream);
        return { size: entry.header.size ?? 0, stream };
      }
      entry.resume();
    }
    throw new Fault("not_found", "There is no such file among the run's changes.");
  }

  async remove(runId: string): Promise<void> {
    await rm(join(this.#directory, runId), { recursive: true, force: true });
  }

  /** Drops what an interrupted `keep` left. */
  async sweep(readNames: () => Promise<string[]>): Promise<void> {
    const drafts = (await readNames()).filter((name) => name.endsWith(".draft"));
    await Promise.all(
      drafts.map((name) => rm(join(this.#directory, name), { recursive: true, force: true })),
    );
  }
}

/** Parses the list that a sandbox sent; it is bounded before it is read. */
export async function readChangeList(stream: Readable): Promise<z.infer<typeof ChangeList>> {
  const bounded = stream.pipe(bound(MAX_LIST_BYTES));
  stream.once("error", (error) => bounded.destroy(error));
  return ChangeList.parse(JSON.parse(await text(bounded)));
}

export async function readDiffText(stream: Readable): Promise<string> {
  const bounded = stream.pipe(bound(MAX_DIFF_BYTES));
  stream.once("error", (error) => bounded.destroy(error));
  return text(bounded);
}

function bound(maxBytes: number): Transform {
  let size = 0;
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      size += chunk.length;
      if (size > maxBytes)
        done(new Fault("too_large", "The workspace's changes are larger than may be kept."));
      else done(null, chunk);
    },
  });
}

function nothingKept(): Fault {
  return new Fault("not_found", "Nothing of this run's workspace was kept.");
}
