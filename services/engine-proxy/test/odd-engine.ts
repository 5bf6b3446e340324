// Engines that do not do as they should, each on a socket of its own: one that is deaf, and one whose answers a test writes.
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

export type OddEngine = AsyncDisposable & {
  readonly socket: string;
  /** How many connections are open now. */
  readonly countOpen: () => number;
  /** How many there have ever been. */
  readonly countAll: () => number;
};

/** Accepts, takes all that is sent, and never answers. */
export function openDeafEngine(): Promise<OddEngine> {
  return listen(createServer((socket) => void socket.resume()));
}

export function openScriptedEngine(
  answer: (request: IncomingMessage, response: ServerResponse) => void,
  upgrade: (socket: Socket) => void = (socket) => void socket.destroy(),
): Promise<OddEngine> {
  const server = createHttpServer(answer);
  server.on("upgrade", (_request, duplex) => {
    const socket = duplex as Socket; // as every HTTP server gives it
    socket.resume().once("end", () => socket.end()); // it would stay half open
    upgrade(socket);
  });
  return listen(server);
}

async function listen(server: Server): Promise<OddEngine> {
  const directory = mkdtempSync(join(tmpdir(), "pillion-odd-"));
  const socket = join(directory, "docker.sock");
  const open = new Set<Socket>();
  let all = 0;
  server.on("connection", (one: Socket) => {
    all += 1;
    open.add(one.on("error", () => undefined).once("close", () => open.delete(one)));
  });
  server.listen(socket);
  await once(server, "listening");
  return {
    socket,
    countOpen: () => open.size,
    countAll: () => all,
    async [Symbol.asyncDispose]() {
      for (const one of open) one.destroy();
      server.close();
      await once(server, "close");
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
