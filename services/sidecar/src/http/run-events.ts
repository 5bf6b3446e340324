/** A run's events as an answer: opened so that failures still get their status, ended only by `run.ended`. */
import type { RunEvent } from "#contract/event";
import { MEDIA } from "#contract/routes";
import type { Run } from "#contract/run";
import type { RunStore } from "../runs/run-store.ts";
import { Departure, toBody } from "./body-stream.ts";
import type { CallerContext } from "./caller-env.ts";
import type { HttpLog } from "./http-settings.ts";
import { toNdjsonLines } from "./ndjson.ts";
import { toSseFrames } from "./sse.ts";

export type EventStreaming = { readonly runs: RunStore; readonly log: HttpLog; readonly heartbeatMs: number };

/** Streams the events after number `after` in the chosen media type. Throws what `watch` throws first. */
export async function toEventResponse(
  context: CallerContext,
  run: Run,
  after: number,
  headers: Readonly<Record<string, string>>,
  { runs, log, heartbeatMs }: EventStreaming,
): Promise<Response> {
  const media = context.get("media");
  const streamHeaders = { ...headers, ...toStreamHeaders(media) };
  if (context.req.method === "HEAD") return new Response(null, { headers: streamHeaders });
  const departure = new Departure(context);
  const events = await openEvents(runs, run, after, departure.signal);
  const chunks = media === MEDIA.sse ? toSseFrames(events, heartbeatMs) : toNdjsonLines(events);
  return new Response(toBody(chunks, context, departure, log), { headers: streamHeaders });
}

/** Headers that keep proxies from holding the stream back. */
export function toStreamHeaders(media: string): Record<string, string> {
  return { "content-type": media, "x-accel-buffering": "no" };
}

/**
 * When an event is already written, it is awaited here, so that `cursor_expired` and the like are told by status.
 * When none is, only live events can follow, and the stream opens at once.
 */
export async function openEvents(
  runs: RunStore,
  run: Run,
  after: number,
  signal: AbortSignal,
): Promise<AsyncIterable<RunEvent>> {
  const iterator = runs.watch(run.id, after, signal)[Symbol.asyncIterator]();
  // A generator that was never asked for more does not notice the signal.
  signal.addEventListener("abort", () => iterator.return?.().catch(() => undefined), { once: true });
  const first = after < run.lastSeq ? await iterator.next() : undefined;
  return untilEnded(first, iterator, async () => {
    const now = await runs.read(run.id);
    return now.state === "ended" && after >= now.lastSeq;
  });
}

/** `isBeyond`: whether the run has ended before the number that was asked for, so that no event can come. */
async function* untilEnded(
  first: IteratorResult<RunEvent> | undefined,
  iterator: AsyncIterator<RunEvent>,
  isBeyond: () => Promise<boolean>,
): AsyncGenerator<RunEvent> {
  try {
    let next = first ?? (await iterator.next());
    for (; !next.done; next = await iterator.next()) {
      yield next.value;
      if (next.value.type === "run.ended") return;
    }
  } finally {
    await iterator.return?.();
  }
  if (!(await isBeyond())) throw new Error("the events stopped before run.ended");
}
