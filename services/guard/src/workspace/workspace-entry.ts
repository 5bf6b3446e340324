/** What is told about one file, directory or link of the workspace. */
import type { EntryKind } from "./tree-walk.ts";

export interface WorkspaceEntry {
  readonly path: string;
  readonly change: "added" | "modified" | "deleted" | "unchanged";
  /** Of a deleted entry: what it was. The same for `size` and `executable`. */
  readonly kind: EntryKind;
  readonly size: number;
  readonly executable: boolean;
  /** Of the content now; absent for what is deleted, no regular file or too large. */
  readonly sha256?: string;
  readonly binary?: boolean;
  readonly linkTarget?: string;
  /** A directory that is told as one entry with all that is in it. */
  readonly opaque?: true;
}
