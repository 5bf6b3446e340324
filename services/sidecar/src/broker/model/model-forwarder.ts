/** Carries a run's model calls to its provider and nothing else; the placeholder becomes the real key here, and the budget is kept. */
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from "node:http";
import type { ModelApi } from "#contract/extension";
import type { ModelEndpoint } from "../../model-endpoint.ts";
import { toDestination } from "../destination.ts";
import { type Denied, deny, judgeShape, NO_KEY, USED_UP } from "../door-routes.ts";
import type { EgressEntry } from "../egress-audit.ts";
import { type Failure, forward } from "../forwarder.ts";
import type { Lease } from "../lease.ts";
import type { Admission } from "./budget.ts";
import { judgeCall } from "./call-rule.ts";
import { answerDemoRequest } from "./demo-model.ts";
import { UsageReader } from "./usage-reader.ts";

/** Path under the door that stands for the provider's base URL. */
export const MODEL_PREFIX = "/model";

const CALL_PATH: Record<ModelApi, string> = {
  "openai-completions": "/chat/completions",
  "openai-responses": "/responses",
  "anthropic-messages": "/v1/messages",
};
/** Of one call, and of all that a run has under way: a hostile one must not fill the memory with them. */
const MAX_BODY_BYTES = 32 * 1024 * 1024;
/** At once for one run. */
const MAX_CALLS = 8;
const REQUEST_HEADERS = [
  "content-type",
  "accept",
  "anthropic-version",
  "anthropic-beta",
  "openai-beta",
  "user-agent",
];

/** Answers one request that came through the door of the lease's sandbox. Never throws; refusals are JSON for the agent. */
export async function forwardModelCall(
  lease: Lease,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const entry = lease.audit.open("model");
  entry.method = request.method ?? null;
  entry.path = request.url ?? null;
  const denied = judge(lease, request);
  if (denied !== undefined) return deny(lease, entry, denied, response);
  lease.calls += 1;
  response.once("close", () => {
    lease.calls -= 1;
  });
  const body = await readBody(lease, request, response).catch(() => "cut" as const);
  if (body === "cut") {
    response.destroy();
    return entry.end("cut");
  }
  if (body === null) return deny(lease, entry, TOO_LARGE, response);
  const judged = judgeCall(body, lease.request.model);
  const admission = "refused" in judged ? toCallFault(judged.refused) : admit(lease, judged.call);
  if ("reason" in admission) {
    lease.countBytes(body.length); // of what goes out, the forwarder does
    return deny(lease, entry, admission, response);
  }
  const meter = new CallMeter(lease, entry, admission);
  const { upstream, api } = lease.request;
  if (upstream.kind === "demo") return answerAsDemo(entry, admission.call, meter, response);
  await send(
    lease,
    entry,
    { upstream, api, headers: request.headers, call: admission.call },
    meter,
    response,
  );
}

function judge(lease: Lease, request: IncomingMessage): Denied | undefined {
  const [path] = (request.url ?? "").split("?", 1); // a query means nothing to these calls and is dropped
  if (!lease.countRequest()) return USED_UP;
  const misshapen = judgeShape(request);
  if (misshapen !== undefined) return misshapen;
  if (!lease.isShownBy(request.headers)) return NO_KEY;
  if (request.method !== "POST" || path !== `${MODEL_PREFIX}${CALL_PATH[lease.request.api]}`)
    return toCallFault("Only calls of this run's own model are forwarded.");
  if (lease.calls >= MAX_CALLS)
    return { reason: "limit", status: 429, message: "Too many model calls at once." };
  return undefined;
}

/** Steps first: what they refuse is no call to the budget. */
function admit(lease: Lease, call: Readonly<Record<string, unknown>>): Admission | Denied {
  if (!lease.request.onModelCall())
    return { reason: "limit", status: 403, message: "The run's steps are used up." };
  const admission = lease.budget.admit(lease.request.api, call);
  if (admission === "reserved")
    return {
      reason: "limit",
      status: 429,
      message: "What is left of the run's budget is held for its other calls.",
    };
  if (admission === "used_up") {
    lease.exceedBudget();
    return {
      reason: "limit",
      status: 403,
      message: "What is left of the run's budget does not pay for this call.",
    };
  }
  return admission;
}

const TOO_LARGE: Denied = { reason: "limit", status: 413, message: "The model call is too large." };

function toCallFault(message: string): Denied {
  return { reason: "call_not_allowed", status: 403, message };
}

/** Reads what a call spends while its answer streams; settles it once. */
class CallMeter {
  readonly #lease: Lease;
  readonly #entry: EgressEntry;
  readonly #admission: Admission;
  readonly #reader: UsageReader;
  #isSettled = false;

  constructor(lease: Lease, entry: EgressEntry, admission: Admission) {
    this.#lease = lease;
    this.#entry = entry;
    this.#admission = admission;
    this.#reader = new UsageReader(lease.request.api);
  }

  /** False where what has come proves that the budget is overrun. */
  take(bytes: Buffer): boolean {
    this.#reader.write(bytes);
    this.#entry.isOver = this.#reader.isOver;
    if (!this.#admission.isOverrun(this.#reader.estimate)) return true;
    this.settle();
    this.#lease.exceedBudget();
    return false;
  }

  /** `wasTaken`: the provider has the call, and bills its input whatever becomes of the answer. */
  settle(wasTaken = false): void {
    if (this.#isSettled) return;
    this.#isSettled = true;
    const reported = this.#reader.end();
    const { estimate } = this.#reader;
    const { call, cap } = this.#admission;
    // An answer that does not stream is made whole before its first byte is sent, and billed whoever has left by then.
    const isUnseen = wasTaken && reported === null && estimate === 0 && call.stream !== true;
    const { doubted } = this.#admission.settle(reported, isUnseen ? (cap ?? 0) : estimate, wasTaken);
    this.#lease.noteCall(doubted);
  }
}

type Call = {
  readonly upstream: Extract<ModelEndpoint, { kind: "http" }>;
  readonly api: ModelApi;
  readonly headers: IncomingMessage["headers"];
  readonly call: Readonly<Record<string, unknown>>;
};

async function send(
  lease: Lease,
  entry: EgressEntry,
  { upstream, api, headers, call }: Call,
  meter: CallMeter,
  response: ServerResponse,
): Promise<void> {
  const { baseUrl, header, privateAllowed } = upstream;
  const scheme = baseUrl.protocol === "https:" ? "https" : "http";
  const destination = toDestination(scheme, baseUrl.host);
  if ("refused" in destination) {
    meter.settle();
    entry.written = baseUrl.host;
    return deny(lease, entry, { reason: "bad_host", status: 403, message: destination.message }, response);
  }
  entry.destination = destination;
  entry.credential = header?.credential ?? null;
  const target = `${baseUrl.pathname.replace(/\/$/, "")}${CALL_PATH[api]}`;
  entry.path = target;
  const outgoing: OutgoingHttpHeaders = {
    ...pick(headers, REQUEST_HEADERS),
    "accept-encoding": "identity", // an encoded answer could not be read
    ...(header === null ? {} : { [header.name]: header.value }),
  };
  const body = Buffer.from(JSON.stringify(call));
  await forward(
    lease,
    entry,
    { destination, privateAllowed, method: "POST", target, headers: outgoing, body },
    response,
    { onBytes: (bytes) => meter.take(bytes), onOver: (failure) => meter.settle(isTaken(entry, failure)) },
  );
}

/** A caller that leaves before the answer begins does not get the call for nothing. */
function isTaken({ status, address }: EgressEntry, failure: Failure | null): boolean {
  if (status !== null) return status >= 200 && status < 300;
  return failure === "cut" && address !== null;
}

async function answerAsDemo(
  entry: EgressEntry,
  call: unknown,
  meter: CallMeter,
  response: ServerResponse,
): Promise<void> {
  entry.status = 200;
  response.writeHead(200, { "content-type": "text/event-stream" });
  response.flushHeaders();
  let isWhole = false;
  try {
    for await (const chunk of answerDemoRequest(call)) {
      if (response.destroyed || !meter.take(Buffer.from(chunk))) break;
      response.write(chunk);
    }
    isWhole = !response.destroyed;
  } catch {
    // not a request that the demo model understands: cut
  }
  meter.settle();
  await entry.end(isWhole ? null : "cut");
  if (isWhole) response.end();
  else response.destroy();
}

/** Null where the run's bodies would be too large together; each is held until its answer is over. */
async function readBody(
  lease: Lease,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<Buffer | null> {
  const chunks: Buffer[] = [];
  let size = 0;
  response.once("close", () => {
    lease.callBytes -= size;
  });
  for await (const chunk of request) {
    size += chunk.length;
    lease.callBytes += chunk.length;
    if (lease.callBytes > MAX_BODY_BYTES) {
      lease.countBytes(size);
      return null;
    }
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
