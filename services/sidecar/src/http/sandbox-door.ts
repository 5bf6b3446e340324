/** The sandbox's door: HTTP on the connections that come through a pipe. No listener, no port. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { routeRequest } from "../broker/door-routes.ts";
import type { Lease } from "../broker/lease.ts";
import { forwardModelCall, MODEL_PREFIX } from "../broker/model/model-forwarder.ts";
import { refuse } from "../broker/refusal.ts";
import { MALFORMED, noteBytes, openTunnel, refuseBytes } from "../broker/tunnel.ts";
import { DoorConnection } from "./door-connection.ts";

/**
 * Serves one connection from inside the lease's sandbox. The other end is hostile: headers, bodies and calls at once are
 * bounded here, connections at once by the pipe, and their time by the run's own limits (Node's timeouts for requests
 * work for servers that listen, and this one does not).
 */
export function openSandboxDoor(lease: Lease): (connection: Duplex) => void {
  const answering = new WeakMap<Duplex, { request: IncomingMessage; response: ServerResponse }>();
  const unreadable = new WeakSet<Duplex>();
  const answer = (request: IncomingMessage, response: ServerResponse): void => {
    const { socket } = request;
    answering.set(socket, { request, response });
    response.once("close", () => {
      if (answering.get(socket)?.response === response) answering.delete(socket);
    });
    serve(lease, request, response);
  };
  // What Node would refuse by itself, without a word that a program could read, is refused by the routes.
  const server = createServer(
    { maxHeaderSize: 16_384, keepAliveTimeout: 0, requireHostHeader: false },
    answer,
  );
  server.on("checkExpectation", answer);
  server.on("connect", (request, connection, head) => {
    void openTunnel(lease, request, connection, head).catch(() => connection.destroy());
  });
  server.on("clientError", (_error, connection) => {
    if (unreadable.has(connection)) return; // Node tells it of every further piece
    unreadable.add(connection);
    const current = answering.get(connection);
    // In the middle of a request its own entry tells how it ended; what comes behind it is one of its own.
    if (current !== undefined) {
      if (current.request.complete && !connection.destroyed) void noteBytes(lease);
      return refuse(current.response, MALFORMED, lease.request.patterns);
    }
    void refuseBytes(lease, connection).catch(() => connection.destroy());
  });
  return (connection) => {
    if (lease.ended.aborted) return void connection.destroy();
    const onEnd = (): void => void connection.destroy();
    lease.ended.addEventListener("abort", onEnd, { once: true });
    connection.once("close", () => lease.ended.removeEventListener("abort", onEnd));
    server.emit("connection", new DoorConnection(connection));
  };
}

function serve(lease: Lease, request: IncomingMessage, response: ServerResponse): void {
  response.on("error", () => undefined);
  request.on("error", () => undefined);
  const isModel = request.url?.startsWith(`${MODEL_PREFIX}/`);
  const served = isModel
    ? forwardModelCall(lease, request, response)
    : routeRequest(lease, request, response);
  void served.catch(() => response.destroy());
}
