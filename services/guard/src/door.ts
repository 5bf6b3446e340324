/** The only door: a loopback port inside the sandbox; each connection is carried through the pipe as it is. */
import { createServer } from "node:net";
import { PIPE_PATHS } from "#contract/pipe";
import { join, type Link } from "./link.ts";

const MAX_CONNECTIONS = 64;

/** Listens on a free port of 127.0.0.1 and resolves to it. */
export function openDoor(link: Link): Promise<number> {
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (connection) =>
    join(connection, link.open(PIPE_PATHS.door)),
  );
  server.maxConnections = MAX_CONNECTIONS;
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  server.once("error", reject);
  server.listen(0, "127.0.0.1", () => {
    const address = server.address();
    if (address === null || typeof address === "string") reject(new Error("the door has no port"));
    else resolve(address.port);
  });
  return promise;
}
