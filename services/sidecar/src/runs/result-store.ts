/** What ended runs changed in their workspaces, on disk: list, diff and the changed files as one tar. */
import { createReadStream, createWriteStream } from "node:fs";
import { mkdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Readable, Transform } from "node:stream";
import { text } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import { extract } from "tar-stream";
import { z } from "zod";
import { selectKept } from "#contract/kept-files";
import { ChangedFile, type ChangedFiles } from "#contract/run";
import { Fault } from "../kernel/fault.ts";
import type { Sandbox } from "../sandboxes/sandbox.ts";

const MAX_LIST_BYTES = 32 * 1024 * 1024;
const MAX_DIFF_BYTES = 8 * 1024 * 1024;

const MAX_TAR_END_BYTES = 64 * 1024;

const ChangeList = z.object({ files: z.array(ChangedFile), truncated: z.boolean() });
type ChangeList = z.infer<typeof ChangeList>;

/** What of a run's results could not be kept, in words for its caller. */
export type Unkept = { readonly text: string; readonly cause?: unknown };

export class ResultStore {
  readonly #directory: string;
  /** Most bytes of changed files that are kept of one run, as a tar. */
  readonly maxTarBytes: number;

  constructor(directory: string, maxTarBytes: number) {
    this.#directory = directory;
    this.maxTarBytes = maxTarBytes;
  }

  /**
   * Takes everything out of a quiet sandbox. Without the list nothing is kept and it throws; a diff or contents that
   * cannot be had do not cost the rest. Resolves to what is missing.
   */
  async keep(runId: string, sandbox: Sandbox): Promise<Unkept[]> {
    const final = join(this.#directory, runId);
    const draft = `${final}.draft`;
    await mkdir(draft, { recursive: true, mode: 0o700 });
    try {
      const changes = await readChangeList(await sandbox.openChanges());
      const unkept = changes.files.length > 0 ? await this.#keepContents(draft, sandbox, changes) : [];
      await writeFile(join(draft, "files.json"), JSON.stringify(changes));
      await rename(draft, final);
      return unkept;
    } catch (error) {
      await rm(draft, { recursive: true, force: true });
      throw error;
    }
  }

  /** Marks in `changes` what was not kept. */
  async #keepContents(draft: string, sandbox: Sandbox, changes: ChangeList): Promise<Unkept[]> {
    const { kept, tooLarge } = selectKept(changes.files, this.maxTarBytes);
    const save = async (name: string, maxBytes: number, opening: Promise<Readable>): Promise<Unkept[]> => {
      const file = join(draft, name);
      try {
        await pipeline(await opening, bound(maxBytes), createWriteStream(file));
        return [];
      } catch (cause) {
        await rm(file, { force: true });
        const what = name === "files.tar" ? "contents of the changed files" : "diff";
        return [{ text: `The ${what} could not be kept.`, cause }];
      }
    };
    const diff = await save("diff.patch", MAX_DIFF_BYTES, sandbox.openDiff());
    const tar =
      kept.length === 0
        ? []
        : await save("files.tar", this.maxTarBytes + MAX_TAR_END_BYTES, sandbox.openTar(this.maxTarBytes));
    const lost = new Set(tar.length > 0 ? [...kept, ...tooLarge] : tooLarge);
    for (const file of changes.files) if (lost.has(file.path)) file.kept = false;
    const large = `${tooLarge.length} changed files were too large to be kept (more than ${this.maxTarBytes} bytes together).`;
    return [...diff, ...tar, ...(tooLarge.length > 0 ? [{ text: large }] : [])];
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
        const stream = bound(this.maxTarBytes);
        entry.once("error", (error) => stream.destroy(error));
        stream.once("close", () => source.destroy());
        entry.pipe(stream);
        return { size: entry.header.size ?? 0, stream };
      }
      entry.resume();
    }
    const { files } = await this.readChanges(runId);
    const isLost = files.some((file) => file.path === path && file.kept === false);
    const what = isLost
      ? "This file was too large to be kept."
      : "There is no such file among the run's changes.";
    throw new Fault("not_found", what);
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
export async function readChangeList(stream: Readable): Promise<ChangeList> {
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
