/** Which instance this is: a random name in its data directory, so that no two share what they mark as theirs. */
import { randomBytes } from "node:crypto";
import { linkSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const FORM = /^[0-9a-f]{12}$/;

/** Reads it, or makes it. A path would not do: two machines may use the same one, and the same container engine. */
export function readInstance(home: string): string {
  const file = join(home, "instance");
  const known = read(file);
  if (known !== undefined) return known;
  const draft = `${file}.${process.pid}`;
  rmSync(file, { force: true }); // cut off by a full disk
  writeFileSync(draft, randomBytes(6).toString("hex"), { mode: 0o600, flush: true });
  try {
    linkSync(draft, file); // whole or not at all, and the first one counts
  } catch (error) {
    if (read(file) === undefined) throw error;
  } finally {
    rmSync(draft, { force: true });
  }
  return readFileSync(file, "utf8");
}

function read(file: string): string | undefined {
  try {
    const name = readFileSync(file, "utf8");
    return FORM.test(name) ? name : undefined;
  } catch {
    return undefined;
  }
}
