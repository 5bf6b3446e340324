/** What the sidecar can ask about the workspace, each as a stream of bytes; loaded only when asked for. */
import { Readable } from "node:stream";
import type { GuardConfig } from "#contract/guard";
import { selectKept } from "#contract/kept-files";
import { readChanges } from "./workspace/changes.ts";
import { readDiff } from "./workspace/diff.ts";
import { exportTar } from "./workspace/export-tar.ts";
import { openWorkspaceFile } from "./workspace/read-file.ts";
import type { Snapshot } from "./workspace/snapshot.ts";
import { WorkspaceError } from "./workspace/workspace-error.ts";

export async function changes(config: GuardConfig, snapshot: Snapshot): Promise<Readable> {
  return Readable.from([JSON.stringify(await readChanges(config.workspace, snapshot))]);
}

export async function diff(config: GuardConfig, snapshot: Snapshot): Promise<Readable> {
  const { text } = await readDiff(config.workspace, snapshot, config.baseline);
  return Readable.from([Buffer.from(text)]);
}

/** Throws WorkspaceError with the class of the refusal. */
export async function file(config: GuardConfig, path: string): Promise<Readable> {
  const opened = openWorkspaceFile(config.workspace, path);
  if (!opened.ok) throw new WorkspaceError(opened.refusal, "the file cannot be read");
  return opened.stream;
}

/** The changed files, but those that are too large together. */
export async function tar(config: GuardConfig, snapshot: Snapshot, maxBytes: number): Promise<Readable> {
  const { files } = await readChanges(config.workspace, snapshot);
  return exportTar(config.workspace, selectKept(files, maxBytes).kept);
}
