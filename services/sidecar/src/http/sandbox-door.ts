/** The sandbox's door: HTTP on the connections that come through a pipe. No listener, no port. */
import { createServer } from "node:http";
import type { Duplex } from "node:stream";
import type { Lease } from "../broker/broker.ts";
import { forwardModelCall, MODEL_PREFIX, refuse } from "../broker/model-forwarder.ts";

/**
 * Serves one connection from inside the lease's sandbox. The other end is hostile: headers, bodies and calls at once are
 * bounded here, connections at once by the pipe, and their time by the run's own limits (Node's timeouts for requests
 * work for servers that listen, and this one does not).
 */
export function openSandboxDoor(lease: Lease): (connection: Duplex) => void {
  const server = createServer({ maxHeaderSize: 16_384, keepAliveTimeout: 0 }, (request, response) => {
    response.on("error", () => undefined);
    request.on("error", () => undefined);
    if (!request.url?.startsWith(`${MODEL_PREFIX}/`))
      return refuse(response, 404, "There is nothing at this address.");
    void forwardModelCall(lease, request, response).catch(() => response.destroy());
  });
  server.on("clientError", (_error, socket) => socket.destroy());
  return (connection) => {
    if (lease.ended.aborted) return void connection.destroy();
    const onEnd = (): void => void connection.destroy();
    lease.ended.addEventListener("abort", onEnd, { once: true });
    connection.once("close", () => lease.ended.removeEventListener("abort", onEnd));
    server.emit("connection", connection);
  };
}
