/** Unpacks a tar stream from the sidecar; loaded only where there is something to unpack. */

import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { extract } from "tar-stream";
import { type FillFile, fillWorkspace } from "./workspace/fill-workspace.ts";

/** Writes the archive's regular files below `root`; throws WorkspaceError for a path that is not safe. */
export async function unpack(stream: Readable, root: string): Promise<void> {
  const archive = extract();
  stream.once("error", (error) => archive.destroy(error));
  stream.pipe(archive);
  const files: FillFile[] = [];
  for await (const entry of archive) {
    const { name, mode = 0 } = entry.header;
    files.push({ path: name, content: await buffer(Readable.from(entry)), executable: (mode & 0o111) !== 0 });
  }
  fillWorkspace(root, files);
}
