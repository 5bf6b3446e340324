/** The name by which an instance knows its own sandboxes again: drawn once for a data directory, and kept in it. */
import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const SHAPE = /^[0-9a-f]{12}$/;

/**
 * Not made from the directory's path: two services in containers both have theirs at the same path, and a sweep of one
 * would end the other's runs. Throws what the file system says when the directory cannot be written to.
 */
export function readInstanceId(home: string): string {
  const file = join(home, "instance-id");
  const kept = read(file);
  if (SHAPE.test(kept)) return kept;
  const drawn = randomBytes(6).toString("hex");
  writeFileSync(file, drawn, { mode: 0o600 });
  return drawn;
}

function read(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return "";
    throw error;
  }
}
