/** How much of an untrusted tree is read. Whoever wrote the tree may have made it endless. */

export interface WorkspaceLimits {
  /** Names listed in one walk, directories included. */
  readonly maxEntries: number;
  /** Levels below the root. Each open level holds one file descriptor. */
  readonly maxDepth: number;
  /** Time for one walk, the reading of contents included. */
  readonly maxWalkMs: number;
  /** Largest file that is kept for a diff or shown in one. */
  readonly maxFileBytes: number;
  /** Sum of the contents kept for a diff. */
  readonly maxTotalBytes: number;
  /** Largest file that gets a digest. */
  readonly maxHashBytes: number;
  /** Sum of the contents read for digests in one walk. */
  readonly maxHashTotalBytes: number;
  /** Length of a diff's text. */
  readonly maxDiffBytes: number;
  /** Time for computing the shortest edits; past it, files are shown as replaced whole. */
  readonly maxDiffMs: number;
  /** Time for the shortest edit of one file. */
  readonly maxFileDiffMs: number;
  /** Largest file that is handed out by itself. */
  readonly maxReadBytes: number;
  /** Length of an exported archive. */
  readonly maxExportBytes: number;
}

const MEBIBYTE = 1_048_576;

export const WORKSPACE_LIMITS: WorkspaceLimits = {
  maxEntries: 50_000,
  maxDepth: 128,
  maxWalkMs: 20_000,
  maxFileBytes: MEBIBYTE,
  maxTotalBytes: 64 * MEBIBYTE,
  maxHashBytes: 16 * MEBIBYTE,
  maxHashTotalBytes: 512 * MEBIBYTE,
  maxDiffBytes: 4 * MEBIBYTE,
  maxDiffMs: 5_000,
  maxFileDiffMs: 250,
  maxReadBytes: 256 * MEBIBYTE,
  maxExportBytes: 1024 * MEBIBYTE,
};
