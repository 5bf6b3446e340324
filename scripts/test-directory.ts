// One temporary directory for a whole test run, removed with it, so that also a test that is cut off leaves nothing.
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export default function setup(): () => void {
  const directory = mkdtempSync(join(tmpdir(), "pillion-tests-"));
  chmodSync(directory, 0o755); // some tests look in as another user
  process.env.TMPDIR = directory;
  if (process.getuid?.() !== 0) {
    process.stderr.write(
      "Not root: tests of other users, mounts and full disks are skipped; CI runs them all.\n",
    );
  }
  return () => rmSync(directory, { recursive: true, force: true });
}
