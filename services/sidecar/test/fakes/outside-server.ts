/** A plain HTTP server that stands for the outside of a sandbox: it counts what reaches it and gives as much as it is asked for. */
import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from "node:http";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";

export type OutsideRequest = {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
};

export interface OutsideServer extends AsyncDisposable {
  readonly port: number;
  readonly requests: OutsideRequest[];
  /** Of bodies, in and out, as far as they were read or handed to the system. */
  readonly bytes: { received: number; sent: number };
  /** Answers paths that begin so, before all others. */
  serve(prefix: string, answer: (request: IncomingMessage, response: ServerResponse) => void): void;
}

const PIECE = Buffer.alloc(65_536, "y");

/**
 * Listens on a free port of 127.0.0.1. `/give/<bytes>` gives so many, `/take` reads a body, `/echo` tells the request's
 * headers; all else is answered with its path.
 */
export async function openOutsideServer(): Promise<OutsideServer> {
  const requests: OutsideRequest[] = [];
  const bytes = { received: 0, sent: 0 };
  const served: [prefix: string, answer: Parameters<OutsideServer["serve"]>[1]][] = [];
  const server = createServer((request, response) => {
    const { method = "", url = "/", headers } = request;
    requests.push({ method, path: url, headers });
    const own = served.find(([prefix]) => url.startsWith(prefix));
    if (own !== undefined) return own[1](request, response);
    void answer(request, response, bytes).catch(() => response.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the outside has no port");
  return {
    port: address.port,
    requests,
    bytes,
    serve: (prefix, own) => void served.unshift([prefix, own]),
    async [Symbol.asyncDispose]() {
      server.close();
      server.closeAllConnections();
    },
  };
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  bytes: OutsideServer["bytes"],
): Promise<void> {
  for await (const chunk of request) bytes.received += chunk.length;
  const path = request.url ?? "/";
  const asked = /^\/give\/([\de]+)$/.exec(path)?.[1];
  if (asked !== undefined) return pipeline(Readable.from(give(Number(asked), bytes)), response);
  const text = path === "/echo" ? JSON.stringify(request.headers) : `${path}\n`;
  response.writeHead(200, { "content-type": "text/plain" }).end(text);
}

function* give(count: number, bytes: OutsideServer["bytes"]): Generator<Buffer> {
  for (let left = count; left > 0; left -= PIECE.length) {
    const piece = PIECE.subarray(0, left);
    bytes.sent += piece.length;
    yield piece;
  }
}
