/** What a program inside a sandbox is told when it may not get out: JSON that says what was refused and what it may do instead. */
import type { ServerResponse } from "node:http";
import type { EgressCause, EgressDenial, EgressFailure, EgressRefusal } from "#contract/egress";
import type { Destination } from "./destination.ts";

export type Refusal = {
  readonly status: number;
  readonly code: EgressDenial | EgressFailure;
  readonly message: string;
  readonly destination?: Destination | undefined;
  readonly hint?: string | null | undefined;
  readonly cause?: EgressCause | null;
};

/** Clients of both dialects of models read `error.message`. `allowed`: the run's patterns. */
export function toRefusalBody(refusal: Refusal, allowed: readonly string[]): string {
  const error: EgressRefusal = {
    type: "pillion_refused",
    code: refusal.code,
    cause: refusal.cause ?? null,
    message: refusal.message,
    host: refusal.destination?.host ?? null,
    port: refusal.destination?.port ?? null,
    allowed: [...allowed],
    hint: refusal.hint ?? null,
  };
  return JSON.stringify({ type: "error", error });
}

/** Once an answer has begun, it can only be cut. */
export function refuse(response: ServerResponse, refusal: Refusal, allowed: readonly string[] = []): void {
  if (response.writableEnded) return; // it is being refused already
  if (response.headersSent || response.destroyed) {
    response.destroy();
    return;
  }
  const body = toRefusalBody(refusal, allowed);
  response.writeHead(refusal.status, {
    "content-type": "application/json",
    "content-length": Buffer.byteLength(body),
    "pillion-refused": refusal.code,
    ...(refusal.status === 407 ? { "proxy-authenticate": 'Basic realm="pillion"' } : {}),
    ...(refusal.status === 401 ? { "www-authenticate": 'Basic realm="pillion"' } : {}),
    connection: "close",
  });
  response.end(body);
}
