// An image taken apart: every file of every layer, also those that a later layer hides.
import { spawn } from "node:child_process";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { extract } from "tar-stream";
import { readEngine } from "../behaviours/open-places.ts";

export type LayerFile = {
  readonly path: string;
  readonly type: string;
  readonly mode: number;
  readonly mtime: number;
  readonly content: Buffer;
};

/** Of one tar archive. */
export async function readTar(archive: NodeJS.ReadableStream): Promise<LayerFile[]> {
  const files: LayerFile[] = [];
  const entries = extract();
  archive.pipe(entries);
  for await (const entry of entries) {
    const { name, type, mode, mtime } = entry.header;
    files.push({
      path: name.replace(/^\.?\//, ""),
      type: String(type),
      mode: mode ?? 0,
      mtime: (mtime?.getTime() ?? 0) / 1000,
      content: await buffer(entry),
    });
  }
  return files;
}

/** Layer by layer, lowest first, as `docker save` gives them. */
export async function readLayers(image: string): Promise<LayerFile[][]> {
  const child = spawn("docker", ["save", image], {
    env: readEngine(),
    stdio: ["ignore", "pipe", "inherit"],
  });
  const saved = await readTar(child.stdout);
  const find = (path: string): Buffer => {
    const found = saved.find((file) => file.path === path);
    if (found === undefined) throw new Error(`the saved image has no ${path}`);
    return found.content;
  };
  const [{ Layers }] = JSON.parse(find("manifest.json").toString("utf8")) as [{ Layers: string[] }];
  return Promise.all(Layers.map((path) => readTar(Readable.from([find(path)]))));
}
