/** The bearer token: whoever has it may do everything, whoever has not may do nothing but probe. */
import { createHash, timingSafeEqual } from "node:crypto";
import { Fault } from "../kernel/fault.ts";
import type { CallerMiddleware } from "./caller-env.ts";
import type { HttpSettings } from "./http-settings.ts";

type AuthSettings = Pick<HttpSettings, "token" | "allowAnonymous" | "boundToLoopback">;

/**
 * Refuses with `unauthenticated` unless the request carries the token. Without a configured token the door is open on
 * loopback only, or where the operator said so in so many words.
 */
export function auth(settings: AuthSettings): CallerMiddleware {
  if (settings.token === undefined)
    return settings.boundToLoopback || settings.allowAnonymous ? open : closed;
  const expected = toDigest(settings.token);
  return async (context, next) => {
    const given = readBearer(context.req.header("authorization"));
    // Digests are compared, so that neither the token's length nor its beginning shows in the time taken.
    if (given === undefined || !timingSafeEqual(toDigest(given), expected)) {
      throw new Fault("unauthenticated", "Send the service's token as `Authorization: Bearer …`.");
    }
    await next();
  };
}

const open: CallerMiddleware = async (_context, next) => {
  await next();
};

const closed: CallerMiddleware = async () => {
  throw new Fault(
    "unauthenticated",
    "This service listens beyond loopback without a token; the operator must set PILLION_TOKEN (or PILLION_TOKEN_FILE).",
  );
};

function readBearer(header: string | undefined): string | undefined {
  return /^Bearer +([^\s]+) *$/i.exec(header ?? "")?.[1];
}

function toDigest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
