/** The two ways to start a run: `POST /v1/runs`, which callers may leave, and `POST /run`, which they may not. */
import type { RunEvent } from "#contract/event";
import { MEDIA, type RunLine } from "#contract/routes";
import type { Run, RunRequest } from "#contract/run";
import { Fault } from "../kernel/fault.ts";
import type { RunStore } from "../runs/run-store.ts";
import { Departure, toBody } from "./body-stream.ts";
import type { CallerContext, Handlers } from "./caller-env.ts";
import { readJsonBody } from "./json-body.ts";
import { toNdjsonLines } from "./ndjson.ts";
import { readWaitS } from "./prefer.ts";
import { type EventStreaming, openEvents, toEventResponse, toStreamHeaders } from "./run-events.ts";
import { toRunRequest } from "./run-request.ts";

export type StartParts = EventStreaming & { readonly maxBodyBytes: number };

export function startHandlers(parts: StartParts): Handlers<"createRun" | "runToEnd"> {
  const { runs, log } = parts;

  const readRequest = async (context: CallerContext): Promise<RunRequest> => {
    if (context.req.header("idempotency-key") !== undefined) {
      throw new Fault("invalid_request", "`Idempotency-Key` is not implemented yet.");
    }
    return toRunRequest(await readJsonBody(context, parts.maxBodyBytes));
  };

  return {
    createRun: async (context) => {
      const waitS = readWaitS(context.req.header("prefer"));
      const run = await runs.create(await readRequest(context));
      const headers = { location: toLocation(run) };
      if (context.get("media") !== MEDIA.json) return toEventResponse(context, run, 0, headers, parts);
      if (waitS === undefined) return context.json(run, 202, headers);
      const reported = await waitAtMost(waitS, runs, run, new Departure(context));
      return context.json(reported, reported.state === "ended" ? 200 : 202, {
        ...headers,
        "preference-applied": `wait=${waitS}`,
      });
    },

    runToEnd: async (context) => {
      const request = await readRequest(context);
      const departure = new Departure(context);
      const run = await runs.create(request);
      const headers = { location: toLocation(run) };
      cancelOnDeparture(departure, () =>
        runs.cancel(run.id).catch((err: unknown) => {
          log.error(
            { requestId: context.get("requestId"), runId: run.id, err },
            "a left run was not cancelled",
          );
        }),
      );
      const end = (): Promise<Run> => runs.waitForEnd(run.id, departure.signal);
      try {
        if (context.get("media") === MEDIA.json) return context.json(await end(), 200, headers);
        const events = await openEvents(runs, run, 0, departure.signal);
        const lines = toNdjsonLines(toRunLines(events, end));
        return new Response(toBody(lines, context, departure, log), {
          headers: { ...headers, ...toStreamHeaders(MEDIA.ndjson) },
        });
      } catch (thrown) {
        departure.leave(); // the caller will not hear of the run again
        throw thrown;
      }
    },
  };
}

function toLocation(run: Run): string {
  return `/v1/runs/${run.id}`;
}

function cancelOnDeparture(departure: Departure, cancel: () => void): void {
  if (departure.signal.aborted) cancel();
  else departure.signal.addEventListener("abort", cancel, { once: true });
}

/** The ended run, or the run as it is when the time is over. */
async function waitAtMost(seconds: number, runs: RunStore, run: Run, departure: Departure): Promise<Run> {
  const late = new AbortController();
  const timer = setTimeout(
    () => late.abort(new Fault("deadline_exceeded", "The wait is over.")),
    seconds * 1000,
  );
  try {
    return await runs.waitForEnd(run.id, AbortSignal.any([late.signal, departure.signal]));
  } catch (thrown) {
    if (!late.signal.aborted) throw thrown;
    return await runs.read(run.id);
  } finally {
    clearTimeout(timer);
  }
}

async function* toRunLines(
  events: AsyncIterable<RunEvent>,
  end: () => Promise<Run>,
): AsyncGenerator<RunLine> {
  for await (const event of events) yield { kind: "event", event };
  yield { kind: "result", run: await end() };
}
