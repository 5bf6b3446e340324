/** The caller's door: every route of the contract behind its rules. It knows runs by their interface only. */
import { Hono } from "hono";
import { z } from "zod";
import { type OperationId, ROUTES, type Route } from "#contract/routes";
import { Fault } from "../kernel/fault.ts";
import type { RunStore } from "../runs/run-store.ts";
import { auth } from "./auth.ts";
import type { CallerContext, CallerEnv, CallerMiddleware, Handlers } from "./caller-env.ts";
import { type CatalogueParts, catalogueHandlers } from "./catalogue-handlers.ts";
import { changeHandlers } from "./change-handlers.ts";
import { toFailureResponse } from "./failures.ts";
import { hostRule } from "./host-rule.ts";
import type { HttpLog, HttpSettings } from "./http-settings.ts";
import { pickMediaType } from "./media-type.ts";
import { probeHandlers } from "./probe-handlers.ts";
import { readQuery } from "./request-target.ts";
import { responseHeaders } from "./response-headers.ts";
import { runHandlers } from "./run-handlers.ts";
import { startHandlers } from "./start-handlers.ts";

export type CallerApp = Hono<CallerEnv>;

export type CallerAppParts = Pick<CatalogueParts, "harnesses" | "capabilities"> & {
  readonly runs: RunStore;
  readonly settings: HttpSettings;
  readonly log: HttpLog;
  /** Milliseconds of silence after which an SSE stream gets a comment; 15 s when not given. */
  readonly heartbeatMs?: number;
};

const HEARTBEAT_MS = 15_000;

export function createCallerApp(parts: CallerAppParts): CallerApp {
  const { settings, log } = parts;
  const app: CallerApp = new Hono<CallerEnv>({ getPath: readRawPath });
  app.onError((thrown, context) => toFailureResponse(thrown, context, log));
  app.notFound((context) => toUnroutedResponse(context, log));

  app.use(responseHeaders(), exceptProbes(hostRule(settings)), exceptProbes(auth(settings)));
  const handlers = toHandlers(parts);
  for (const [id, route] of toEntries(ROUTES)) {
    app.on(route.method.toUpperCase(), toHonoPath(route.path), routeRules(route), handlers[id]);
  }
  return app;
}

function toHandlers(parts: CallerAppParts): Handlers<OperationId> {
  const { runs, log, settings, heartbeatMs = HEARTBEAT_MS } = parts;
  const start = { runs, log, heartbeatMs, maxBodyBytes: settings.maxBodyBytes };
  return {
    ...probeHandlers({ runs, log }),
    ...startHandlers(start),
    ...runHandlers(start),
    ...changeHandlers({ runs, log }),
    ...catalogueHandlers({ ...parts, version: settings.version, port: settings.port }),
  };
}

/** Undecoded, so that a parameter is decoded exactly once and no encoding of a route is a route. */
function readRawPath(request: Request): string {
  return new URL(request.url).pathname;
}

function toEntries(routes: typeof ROUTES): [OperationId, Route][] {
  const ids = Object.keys(routes) as OperationId[]; // Object.keys loses what the table's type knows
  return ids.map((id) => [id, routes[id]]);
}

function toHonoPath(path: string): string {
  return path.replace("{path}", ":path{.+}").replace(/\/\{(\w+)\}/g, "/:$1");
}

const PROBES: ReadonlySet<string> = new Set(
  toEntries(ROUTES).flatMap(([, route]) => (route.probe ? [route.path] : [])),
);

function exceptProbes(rule: CallerMiddleware): CallerMiddleware {
  return (context, next) => (PROBES.has(context.req.path) ? next() : rule(context, next));
}

const NoQuery = z.strictObject({});

/** What is the same for every route but the probes: an acceptable media type, and no query that nobody reads. */
function routeRules(route: Route): CallerMiddleware {
  const offers = Object.entries(route.replies)
    .filter(([status]) => Number(status) < 300)
    .flatMap(([, reply]) => Object.keys(reply.content ?? {}));
  return async (context, next) => {
    if (!route.probe) {
      if (route.query === undefined) readQuery(context, NoQuery);
      if (offers.length > 0) context.set("media", pickMediaType(context.req.header("accept"), offers));
    }
    await next();
  };
}

type Address = { readonly pattern: RegExp; readonly methods: string[] };

const ADDRESSES: readonly Address[] = [...Map.groupBy(toEntries(ROUTES), ([, route]) => route.path)].map(
  ([path, entries]) => ({
    pattern: new RegExp(
      `^${path
        .replaceAll(".", "\\.")
        .replace("{path}", ".+")
        .replace(/\{\w+\}/g, "[^/]+")}$`,
    ),
    methods: entries.flatMap(([, { method }]) =>
      method === "get" ? ["GET", "HEAD"] : [method.toUpperCase()],
    ),
  }),
);

function toUnroutedResponse(context: CallerContext, log: HttpLog): Response {
  const address = ADDRESSES.find(({ pattern }) => pattern.test(context.req.path));
  if (address === undefined) {
    return toFailureResponse(new Fault("not_found", "There is nothing at this address."), context, log);
  }
  const allow = address.methods.join(", ");
  const fault = new Fault("method_not_allowed", `This address takes ${allow}.`);
  return toFailureResponse(fault, context, log, { allow });
}
