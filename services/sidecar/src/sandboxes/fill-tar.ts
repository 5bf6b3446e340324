/** The files that a sandbox is filled with, as a tar. */
import { Readable } from "node:stream";
import { pack } from "tar-stream";
import type { FillFile } from "./sandbox.ts";

/** `owner` matters only where somebody else than the run's own user unpacks it. */
export function toTar(
  files: readonly FillFile[],
  owner: { uid: number; gid: number } = { uid: 0, gid: 0 },
  directories: readonly string[] = [],
): Readable {
  const archive = pack();
  for (const name of directories) archive.entry({ ...owner, name, mode: 0o755, type: "directory" });
  for (const file of files) {
    const mode = file.executable ? 0o755 : 0o644;
    archive.entry({ ...owner, name: file.path, mode, type: "file" }, file.content);
  }
  archive.finalize();
  return Readable.from(archive);
}
