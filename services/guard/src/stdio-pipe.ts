/** Stdin and stdout as one duplex stream. process.stdout writes synchronously; plain sockets on the descriptors do not. */
import { Socket } from "node:net";
import { Duplex } from "node:stream";

export function openStdioPipe(): Duplex {
  const input = new Socket({ fd: 0, readable: true, writable: false });
  const output = new Socket({ fd: 1, readable: false, writable: true });
  return Duplex.from({ readable: input, writable: output });
}
