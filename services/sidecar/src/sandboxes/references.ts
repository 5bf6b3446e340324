/** What a run may read beside its workspace, and the proof that it is there, is what was checked, and cannot be written. */

import type { GuardView } from "#contract/guard";
import { REFERENCES_DIR } from "#contract/sandbox";
import { Fault } from "../kernel/fault.ts";
import { openBoundDirectory } from "./bound-directory.ts";
import type { FillFile, Reference } from "./sandbox.ts";

export const toReferencePath = (name: string): string => `${REFERENCES_DIR}/${name}`;

/** The references that come along as content, as files below the references' directory. */
export function toReferenceFiles(references: readonly Reference[]): FillFile[] {
  return references.flatMap(({ name, source }) =>
    source.kind === "content" ? [{ path: name, content: source.content, executable: false }] : [],
  );
}

/** Those that are directories of the caller's own: where they lie, and under what name. */
export function toBoundReferences(references: readonly Reference[]): { name: string; path: string }[] {
  return references.flatMap(({ name, source }) =>
    source.kind === "bind" ? [{ name, path: source.path }] : [],
  );
}

export interface BoundReferences extends AsyncDisposable {
  /** Device and inode of each, by its path inside. */
  readonly ids: ReadonlyMap<string, string>;
}

/** Keeps the directories open, so that nothing else can take their identity. Throws forbidden for one that was moved. */
export async function openBoundReferences(references: readonly Reference[]): Promise<BoundReferences> {
  await using held = new AsyncDisposableStack();
  const ids = new Map<string, string>();
  for (const { name, path } of toBoundReferences(references)) {
    ids.set(toReferencePath(name), held.use(await openBoundDirectory(path, "reference")).id);
  }
  const owned = held.move();
  return { ids, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** Paths of directories that are not there, or other ones than were checked. */
export function findForeignReferences(view: GuardView, { ids }: BoundReferences): string[] {
  const seen = new Map(view.references.map(({ path, id }) => [path, id]));
  return [...ids].flatMap(([path, id]) => (seen.get(path) === id ? [] : [path]));
}

/**
 * The paths that are there and cannot be written. Throws isolation_unavailable for one that is missing or writable,
 * forbidden for one that the run could not read.
 */
export function proveReferences(view: GuardView, references: readonly Reference[]): string[] {
  const seen = new Map(view.references.map((reference) => [reference.path, reference]));
  const paths = references.map(({ name }) => toReferencePath(name));
  const bad = paths.filter((path) => seen.get(path)?.writable !== false);
  if (bad.length > 0) {
    throw new Fault("isolation_unavailable", `References could not be made read-only: ${bad.join(", ")}.`);
  }
  const closed = paths.filter((path) => seen.get(path)?.readable !== true);
  if (closed.length === 0) return paths;
  const list = closed.join(", ");
  throw new Fault("forbidden", `The run could not read: ${list}. Let others read them (chmod -R o+rX).`);
}
