/** The way between a laboratory and its test: a UNIX socket on either side, whose connections name where they lead. */
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";

/** The first line of each connection is host and port, as they are on the server's side. */
export async function serveRelay(path: string): Promise<Server> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    let head = "";
    const read = (): void => {
      for (let bytes = socket.read(1); bytes !== null; bytes = socket.read(1)) {
        head += String(bytes);
        if (!head.endsWith("\n")) continue;
        socket.off("readable", read);
        const [host = "", port = ""] = head.trim().split(" ");
        joinSockets(socket, connect({ host, port: Number(port), allowHalfOpen: true }));
        return;
      }
    };
    socket.on("error", () => undefined).on("readable", read);
  });
  server.listen(path);
  await once(server, "listening");
  return server;
}

export function openRelayed(path: string, host: string, port: number): Socket {
  const socket = connect({ path, allowHalfOpen: true });
  socket.write(`${host} ${port}\n`);
  return socket;
}

/** Bytes and ends go both ways; one that breaks takes the other along. */
export function joinSockets(one: Socket, other: Socket): void {
  for (const [from, to] of [
    [one, other],
    [other, one],
  ] as const) {
    from.pipe(to);
    from.on("error", () => to.destroy());
    from.on("close", () => to.destroySoon());
  }
}
