/** What can be asked of runs that exist: list, read, follow, cancel, forget. */
import { z } from "zod";
import { EventsHeaders, MEDIA, METADATA_PREFIX, PAGE, ROUTES, type RunPage } from "#contract/routes";
import { RunId } from "#contract/run";
import { Fault } from "../kernel/fault.ts";
import type { CallerContext, Handlers } from "./caller-env.ts";
import { toInvalidBody } from "./field-errors.ts";
import { hasBody, readJsonBody } from "./json-body.ts";
import { readPrefixed, readQuery } from "./request-target.ts";
import { toEventResponse } from "./run-events.ts";
import type { StartParts } from "./start-handlers.ts";

export function runHandlers(
  parts: StartParts,
): Handlers<"listRuns" | "getRun" | "deleteRun" | "getRunEvents" | "cancelRun"> {
  const { runs } = parts;
  return {
    listRuns: async (context) => {
      const { limit = PAGE, before, state } = readQuery(context, ROUTES.listRuns.query, METADATA_PREFIX);
      const metadata = readPrefixed(context, METADATA_PREFIX);
      const filter = {
        ...(state === undefined ? {} : { state }),
        ...(Object.keys(metadata).length === 0 ? {} : { metadata }),
      };
      const page = await runs.list({ ...filter, limit, ...(before === undefined ? {} : { before }) });
      const last = page.at(-1)?.id;
      // A page of long results is shorter than its limit, so only a look behind it tells whether it is the last one.
      const isLast =
        last === undefined || (await runs.list({ ...filter, limit: 1, before: last })).length === 0;
      return context.json({ runs: page, next: isLast ? null : last } satisfies RunPage);
    },

    getRun: async (context) => context.json(await runs.read(readRunId(context))),

    deleteRun: async (context) => {
      await runs.remove(readRunId(context));
      return context.body(null, 204);
    },

    getRunEvents: async (context) => {
      const id = readRunId(context);
      const after = readCursor(context);
      const run = await runs.read(id);
      const isOver = run.state === "ended" && after >= run.lastSeq;
      // 204 is what keeps an EventSource client from coming back for ever.
      if (isOver && context.get("media") === MEDIA.sse) return context.body(null, 204);
      if (isOver) return context.body("", 200, { "content-type": MEDIA.ndjson });
      return toEventResponse(context, run, after, {}, parts);
    },

    cancelRun: async (context) => {
      const id = readRunId(context);
      if (hasBody(context)) await refuseFields(context, parts.maxBodyBytes);
      const run = await runs.cancel(id);
      return context.json(run, run.state === "ended" ? 200 : 202);
    },
  };
}

/** The id in the path. What cannot be an id cannot be found either. */
export function readRunId(context: CallerContext): string {
  const id = RunId.safeParse(context.req.param("id"));
  if (!id.success)
    throw new Fault("run_not_found", "There is no such run; an id looks like `run_` and 26 characters.");
  return id.data;
}

function readCursor(context: CallerContext): number {
  const { after } = readQuery(context, ROUTES.getRunEvents.query);
  const header = EventsHeaders.safeParse({ "last-event-id": context.req.header("last-event-id") });
  if (!header.success) {
    throw new Fault("invalid_request", "`Last-Event-ID` must be a whole number from 0 to 2^53 - 1.");
  }
  const last = header.data["last-event-id"];
  if (after !== undefined && last !== undefined && after !== last) {
    throw new Fault(
      "invalid_request",
      "`Last-Event-ID` and `after` name different events; send one of them.",
    );
  }
  return after ?? last ?? 0;
}

const NoFields = z.strictObject({});

async function refuseFields(context: CallerContext, maxBytes: number): Promise<void> {
  const body = await readJsonBody(context, maxBytes);
  const parsed = NoFields.safeParse(body);
  if (!parsed.success) throw toInvalidBody(parsed.error, body);
}
