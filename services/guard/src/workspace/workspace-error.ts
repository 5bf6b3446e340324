/** A refusal that the caller of the workspace can act on. */

export type WorkspaceErrorCode =
  | "unsafe_path"
  | "duplicate_path"
  | "not_found"
  | "not_a_file"
  | "not_a_directory"
  | "too_large"
  | "changed_while_read";

export class WorkspaceError extends Error {
  readonly code: WorkspaceErrorCode;

  constructor(code: WorkspaceErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "WorkspaceError";
    this.code = code;
  }
}

/** A path fit for a message: quoted, control characters escaped, not endless. */
export function toShownPath(path: string): string {
  return JSON.stringify(path.length > 200 ? `${path.slice(0, 200)}…` : path);
}
