/** What travels with one request through the caller's door. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Context, Handler, MiddlewareHandler } from "hono";
import type { OperationId } from "#contract/routes";

export type CallerEnv = {
  /** Present on real sockets, absent in `app.request`. */
  Bindings: { readonly incoming?: IncomingMessage; readonly outgoing?: ServerResponse };
  Variables: {
    requestId: string;
    /** The media type chosen for the answer. */
    media: string;
  };
};

export type CallerContext = Context<CallerEnv>;
export type CallerHandler = Handler<CallerEnv>;
export type CallerMiddleware = MiddlewareHandler<CallerEnv>;

/** One handler for each of some routes. */
export type Handlers<Ids extends OperationId> = Readonly<Record<Ids, CallerHandler>>;
