/** Events as server-sent events (HTML standard, 9.2), with comments that keep a silent connection alive. */
import type { RunEvent } from "#contract/event";

/** Milliseconds after which a client that lost the connection comes back. */
const RETRY_MS = 1000;

/** Frames of the events: `retry` first, then one frame an event, and a comment whenever `heartbeatMs` pass in silence. */
export async function* toSseFrames(
  events: AsyncIterable<RunEvent>,
  heartbeatMs: number,
): AsyncGenerator<string> {
  yield `retry: ${RETRY_MS}\n\n`;
  const iterator = events[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = iterator.next();
      while (await isSilent(next, heartbeatMs)) yield ": heartbeat\n\n";
      const { done, value } = await next;
      if (done) return;
      yield toSseFrame(value);
    }
  } finally {
    await iterator.return?.();
  }
}

/** No `event` field: with one, EventSource clients would miss every type that they have not subscribed to by name. */
export function toSseFrame(event: RunEvent): string {
  return `id: ${event.seq}\ndata: ${JSON.stringify(event)}\n\n`;
}

/** True when `ms` pass before `next` settles. */
async function isSilent(next: Promise<unknown>, ms: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const timer = setTimeout(() => resolve(true), ms);
  const settled = (): void => resolve(false);
  next.then(settled, settled);
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
  }
}
