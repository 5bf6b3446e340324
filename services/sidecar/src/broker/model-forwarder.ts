/** Carries a run's model calls to its provider and nothing else; the placeholder becomes the real key here. */
import { lookup } from "node:dns";
import {
  type ClientRequest,
  request as httpRequest,
  type IncomingMessage,
  type ServerResponse,
} from "node:http";
import { request as httpsRequest } from "node:https";
import { isIP, type LookupFunction } from "node:net";
import { pipeline } from "node:stream";
import type { ModelApi } from "#contract/extension";
import type { ModelEndpoint } from "../model-endpoint.ts";
import { toSecretForms } from "../secret-forms.ts";
import { isPublicAddress } from "./address-rule.ts";
import type { Lease } from "./broker.ts";
import { judgeCall } from "./call-rule.ts";
import { answerDemoRequest } from "./demo-model.ts";
import { SecretScrubber, scrubText } from "./secret-scrubber.ts";

/** Path under the door that stands for the provider's base URL. */
export const MODEL_PREFIX = "/model";

const CALL_PATH: Record<ModelApi, string> = {
  "openai-completions": "/chat/completions",
  "openai-responses": "/responses",
  "anthropic-messages": "/v1/messages",
};
const MAX_BODY_BYTES = 32 * 1024 * 1024;
/** At once for one run: a hostile one must not fill the memory with half-sent bodies. */
const MAX_CALLS = 8;
const REQUEST_HEADERS = [
  "content-type",
  "accept",
  "anthropic-version",
  "anthropic-beta",
  "openai-beta",
  "user-agent",
];
const RESPONSE_HEADERS = ["content-type", "retry-after", "request-id", "x-request-id"];

/** Answers one request that came through the door of the lease's sandbox. Never throws; refusals are JSON for the agent. */
export async function forwardModelCall(
  lease: Lease,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { authorization, "x-api-key": apiKey } = request.headers;
  if (!lease.isShownBy(authorization, typeof apiKey === "string" ? apiKey : undefined)) {
    return refuse(response, 401, "The run's placeholder is missing.");
  }
  const { api, model, upstream } = lease.request;
  const [path] = (request.url ?? "").split("?", 1); // a query means nothing to these calls and is dropped
  if (request.method !== "POST" || path !== `${MODEL_PREFIX}${CALL_PATH[api]}`) {
    return refuse(response, 403, "Only calls of this run's own model are forwarded.");
  }
  if (lease.calls >= MAX_CALLS) return refuse(response, 429, "Too many model calls at once.");
  lease.calls += 1;
  response.once("close", () => {
    lease.calls -= 1;
  });
  const body = await readBody(request);
  if (body === null) return refuse(response, 413, "The model call is too large.");
  const judged = judgeCall(body, model);
  if ("refused" in judged) return refuse(response, 403, judged.refused);
  if (!lease.request.onModelCall()) return refuse(response, 403, "The run's steps are used up.");
  if (upstream.kind === "demo") return answerAsDemo(judged.call, response);
  const target = new URL(`${upstream.baseUrl.href.replace(/\/$/, "")}${CALL_PATH[api]}`);
  forward(lease, upstream, target, request, judged.body, response);
}

function forward(
  lease: Lease,
  upstream: Extract<ModelEndpoint, { kind: "http" }>,
  target: URL,
  request: IncomingMessage,
  body: Buffer,
  response: ServerResponse,
): void {
  // Node looks a name up, but dials a literal address without asking; it is checked here.
  const literal = target.hostname.replace(/^\[|\]$/g, "");
  if (!upstream.privateAllowed && isIP(literal) !== 0 && !isPublicAddress(literal)) {
    return refuse(
      response,
      502,
      `The model's provider at ${target.host} cannot be reached (ADDRESS_REFUSED).`,
    );
  }
  const headers: Record<string, string> = {
    ...pick(request.headers, REQUEST_HEADERS),
    "accept-encoding": "identity", // an encoded answer could not be scrubbed
    "content-length": String(body.length),
    ...(upstream.header === null ? {} : { [upstream.header.name]: upstream.header.value }),
  };
  const send = target.protocol === "https:" ? httpsRequest : httpRequest;
  const outgoing: ClientRequest = send(target, {
    method: "POST",
    headers,
    signal: lease.ended,
    ...(upstream.privateAllowed ? {} : { lookup: lookupPublic }),
  });
  response.once("close", () => outgoing.destroy());
  outgoing.once("error", (error) =>
    refuse(response, 502, `The model's provider at ${target.host} cannot be reached (${toCode(error)}).`),
  );
  outgoing.once("response", (incoming) => {
    const secrets = upstream.header === null ? [] : toSecretForms(upstream.header.value);
    const kept = Object.entries(pick(incoming.headers, RESPONSE_HEADERS));
    const scrubbed = kept.map(([name, value]) => [name, scrubText(value, secrets)]);
    response.writeHead(incoming.statusCode ?? 502, Object.fromEntries(scrubbed));
    response.flushHeaders();
    // A cut answer must look cut inside too: the connection is destroyed, not ended.
    pipeline([incoming, new SecretScrubber(secrets), response], (error) => error && response.destroy());
  });
  outgoing.end(body);
}

/** Resolves once and dials exactly what was checked. */
const lookupPublic: LookupFunction = (hostname, options, callback) => {
  lookup(hostname, { ...options, all: true }, (error, addresses) => {
    if (error !== null) return callback(error, "", 0);
    const [first] = addresses;
    if (first === undefined || !addresses.every(({ address }) => isPublicAddress(address))) {
      const refused = Object.assign(new Error("not a public address"), { code: "ADDRESS_REFUSED" });
      return callback(refused, "", 0);
    }
    if (options.all) return callback(null, addresses);
    callback(null, first.address, first.family);
  });
};

async function answerAsDemo(call: unknown, response: ServerResponse): Promise<void> {
  response.writeHead(200, { "content-type": "text/event-stream" });
  response.flushHeaders();
  try {
    for await (const chunk of answerDemoRequest(call)) {
      if (response.destroyed) return;
      response.write(chunk);
    }
    response.end();
  } catch {
    response.destroy();
  }
}

async function readBody(request: IncomingMessage): Promise<Buffer | null> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > MAX_BODY_BYTES) return null;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function pick(headers: IncomingMessage["headers"], names: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    names.flatMap((name) => {
      const value = headers[name];
      return typeof value === "string" ? [[name, value]] : [];
    }),
  );
}

function toCode(error: Error): string {
  return "code" in error && typeof error.code === "string" ? error.code : "failed";
}

/** Both dialects read `error.message`. */
export function refuse(response: ServerResponse, status: number, message: string): void {
  if (response.headersSent || response.destroyed) {
    response.destroy();
    return;
  }
  const body = JSON.stringify({ type: "error", error: { type: "pillion_refused", message } });
  response.writeHead(status, {
    "content-type": "application/json",
    "content-length": Buffer.byteLength(body),
  });
  response.end(body);
}
