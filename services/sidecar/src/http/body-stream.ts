/** An answer's body from an async iterable that is pulled only as fast as the reader takes it. */
import { Fault } from "../kernel/fault.ts";
import type { CallerContext } from "./caller-env.ts";
import type { HttpLog } from "./http-settings.ts";

/** A signal that aborts with a Fault when the caller is gone, and by `leave`. */
export class Departure {
  readonly #controller = new AbortController();

  constructor(context: CallerContext) {
    const callers = context.req.raw.signal;
    if (callers.aborted) this.leave();
    else callers.addEventListener("abort", () => this.leave(), { once: true });
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  leave(): void {
    this.#controller.abort(new Fault("cancelled", "The caller left."));
  }
}

/**
 * Nothing is read ahead of the reader. When the caller leaves, `departure` aborts and the iterable is returned.
 * When the iterable throws, the connection is broken off, so that no one takes the failure for the end.
 */
export function toBody(
  chunks: AsyncIterable<string | Uint8Array>,
  context: CallerContext,
  departure: Departure,
  log: HttpLog,
): ReadableStream<Uint8Array> {
  const iterator = chunks[Symbol.asyncIterator]();
  const encoder = new TextEncoder();
  const close = (): void => {
    departure.leave();
    iterator.return?.().catch(() => undefined);
  };
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          const { done, value } = await iterator.next();
          if (departure.signal.aborted) breakOff(controller, context);
          else if (done) controller.close();
          else controller.enqueue(typeof value === "string" ? encoder.encode(value) : value);
        } catch (thrown) {
          if (!departure.signal.aborted) {
            log.error({ requestId: context.get("requestId"), err: thrown }, "a stream broke off");
            close();
          }
          breakOff(controller, context);
        }
      },
      cancel: close,
    },
    { highWaterMark: 0 },
  );
}

/** On a socket the socket goes: an errored body would end up with its message on the wire (node-server does that). */
function breakOff(controller: ReadableStreamDefaultController, context: CallerContext): void {
  const outgoing = context.env?.outgoing;
  if (outgoing === undefined) controller.error(new Error("the stream broke off"));
  else outgoing.destroy();
}
