/** What a run changed in its workspace: the list, all as tar, one file, the diff. All of it is hostile content. */
import type { Readable } from "node:stream";
import { MEDIA } from "#contract/routes";
import type { RunStore } from "../runs/run-store.ts";
import { Departure, toBody } from "./body-stream.ts";
import type { CallerContext, Handlers } from "./caller-env.ts";
import type { HttpLog } from "./http-settings.ts";
import { readFilePath } from "./request-target.ts";
import { readRunId } from "./run-handlers.ts";

export type ChangeParts = { readonly runs: RunStore; readonly log: HttpLog };

export function changeHandlers({
  runs,
  log,
}: ChangeParts): Handlers<"getRunFiles" | "getRunFile" | "getRunDiff"> {
  /** The stream as an attachment; for HEAD the headers only. */
  const toDownload = (
    context: CallerContext,
    chunks: AsyncIterable<Uint8Array>,
    stream: Readable,
    headers: Record<string, string>,
  ): Response => {
    const departure = new Departure(context);
    departure.signal.addEventListener("abort", () => stream.destroy(), { once: true });
    if (context.req.method === "HEAD" || departure.signal.aborted) {
      stream.destroy();
      return new Response(null, { headers });
    }
    return new Response(toBody(chunks, context, departure, log), { headers });
  };

  return {
    getRunFiles: async (context) => {
      const id = readRunId(context);
      if (context.get("media") === MEDIA.json) return context.json(await runs.readChanges(id));
      const tar = await runs.openTar(id);
      return toDownload(context, toChunks(tar), tar, toDownloadHeaders(MEDIA.tar, `${id}.tar`));
    },

    getRunFile: async (context) => {
      const path = readFilePath(context);
      const { size, stream } = await runs.openFile(readRunId(context), path);
      return toDownload(context, size === null ? stream : exactly(size, stream), stream, {
        ...toDownloadHeaders(MEDIA.bytes, path.split("/").at(-1) ?? ""),
        ...(size === null ? {} : { "content-length": String(size) }),
      });
    },

    getRunDiff: async (context) =>
      context.body(await runs.readDiff(readRunId(context)), 200, {
        "content-type": `${MEDIA.diff}; charset=utf-8`,
      }),
  };
}

/** Never shown by a browser, whatever it holds. The name is given as RFC 8187 wants it. */
function toDownloadHeaders(media: string, name: string): Record<string, string> {
  const encoded = encodeURIComponent(name.toWellFormed()).replace(
    /['()*]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  return {
    "content-type": media,
    "content-disposition": `attachment; filename*=UTF-8''${encoded}`,
    "content-security-policy": "sandbox; default-src 'none'",
  };
}

async function* toChunks(stream: Readable): AsyncGenerator<Uint8Array> {
  for await (const chunk of stream) {
    if (!(chunk instanceof Uint8Array)) throw new TypeError("a file stream must give bytes");
    yield chunk;
  }
}

/** A file that changes its size on the way would leave the caller waiting, or reading into the next answer. */
async function* exactly(size: number, stream: Readable): AsyncGenerator<Uint8Array> {
  let length = 0;
  for await (const chunk of toChunks(stream)) {
    length += chunk.byteLength;
    if (length > size) throw new Error(`the file is longer than its ${size} bytes`);
    yield chunk;
  }
  if (length < size) throw new Error(`the file ended after ${length} of ${size} bytes`);
}
