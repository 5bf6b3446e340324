/** Headers of every answer: the request's id, and no guessing or keeping of content. */
import { randomUUID } from "node:crypto";
import type { CallerMiddleware } from "./caller-env.ts";

const SANE_ID = /^[A-Za-z0-9._-]{1,64}$/;

export const SECURITY_HEADERS: Readonly<Record<string, string>> = {
  "x-content-type-options": "nosniff",
  "cache-control": "no-store",
};

/** Gives the request an id (the caller's own when it is sane) and every answer its headers. */
export function responseHeaders(): CallerMiddleware {
  return async (context, next) => {
    const given = context.req.header("x-request-id");
    const id = given !== undefined && SANE_ID.test(given) ? given : randomUUID();
    context.set("requestId", id);
    await next();
    context.res.headers.set("x-request-id", id);
    for (const [name, value] of Object.entries(SECURITY_HEADERS)) context.res.headers.set(name, value);
  };
}
