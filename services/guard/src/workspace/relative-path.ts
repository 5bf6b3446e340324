/** Which strings may name something below the workspace. Pure. */

/** Longest path in bytes, as in Linux's PATH_MAX. */
export const MAX_PATH_BYTES = 4096;

/** True for `a/b`: relative, no empty, `.` or `..` part, no NUL, encodable, not too long. A backslash is a letter. */
export function isSafeRelativePath(path: string): boolean {
  if (path === "" || path.includes("\0") || !path.isWellFormed()) return false;
  if (Buffer.byteLength(path) > MAX_PATH_BYTES) return false;
  return path.split("/").every((part) => part !== "" && part !== "." && part !== "..");
}
