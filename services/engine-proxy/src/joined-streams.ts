/** Joins two connections into one, in both directions, with back-pressure and half-closes; neither outlives the other. */
import type { Duplex } from "node:stream";

export type End = { readonly socket: Duplex; readonly head: Buffer };

/** `skip` bytes of what the caller sends first belong to its request and are left out. */
export function joinStreams(caller: End & { readonly skip: number }, engine: End): void {
  const [near, far] = [caller.socket, engine.socket];
  for (const [one, other] of [
    [near, far],
    [far, near],
  ] as const) {
    one.on("error", () => one.destroy());
    // After a clean end the other is ended by the pipe, with all that is still to be written.
    one.once("close", () => (one.readableEnded ? other.end() : other.destroy()));
  }
  if (engine.head.length > 0) near.write(engine.head);
  far.pipe(near);
  forwardAfter(caller.skip, caller.head, near, far);
}

function forwardAfter(skip: number, head: Buffer, from: Duplex, to: Duplex): void {
  let left = skip;
  const withoutBody = (bytes: Buffer): Buffer => {
    const rest = bytes.subarray(Math.min(left, bytes.length));
    left -= bytes.length - rest.length;
    return rest;
  };
  const first = withoutBody(head);
  if (first.length > 0) to.write(first);
  if (left === 0) return void from.pipe(to);
  const onData = (bytes: Buffer): void => {
    const rest = withoutBody(bytes);
    if (left > 0) return;
    from.off("data", onData).off("end", onEnd).pause();
    if (rest.length > 0) to.write(rest);
    from.pipe(to);
  };
  const onEnd = (): void => void to.end();
  from.on("data", onData).once("end", onEnd);
}
