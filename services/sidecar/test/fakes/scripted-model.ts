// A model endpoint that plays a JSON script over real HTTP, in the three dialects harnesses speak.
import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import * as z from "zod";

/**
 * What a turn does instead of answering well. `drop` destroys the socket in the middle, `truncate` ends the
 * stream without its finish, `garbage` sends bytes that are no events and one broken event, `html` a sign-in
 * page with status 200, `hang` headers only, `hang-before` nothing at all.
 */
const Failure = z.union([
  z.strictObject({
    status: z.int().min(400).max(599),
    body: z.unknown().optional().describe("Sent as it is; left out, the vendor's own kind of error body"),
    headers: z.record(z.string(), z.string()).optional(),
  }),
  z.enum(["drop", "garbage", "truncate", "hang", "hang-before", "html"]),
]);

/** One answer of the model. Played in every dialect with the same tokens and the same words. */
export const Turn = z.strictObject({
  text: z
    .union([z.string(), z.array(z.string())])
    .optional()
    .describe("An array is streamed in those chunks"),
  thinking: z.string().optional(),
  toolCalls: z
    .array(
      z.strictObject({
        name: z.string().min(1),
        arguments: z.record(z.string(), z.unknown()),
        id: z.string().min(1).optional(),
      }),
    )
    .optional(),
  usage: z
    .strictObject({
      input: z.int().nonnegative().describe("Tokens that were not in the cache"),
      output: z.int().nonnegative(),
      cacheRead: z.int().nonnegative().default(0),
    })
    .optional(),
  delayMs: z.int().nonnegative().optional().describe("Before the first byte"),
  chunkDelayMs: z.int().nonnegative().optional(),
  fail: Failure.optional(),
  failTimes: z.int().positive().optional().describe("So many calls of this turn fail; without it, all"),
  refuseBody: z.boolean().optional().describe("413, as a vendor whose size limit was met"),
  echoHeaders: z.boolean().optional().describe("Repeats the request's credentials in the text"),
  repeat: z.int().positive().optional().describe("A stream's content is sent so many times"),
  keepsCap: z
    .boolean()
    .optional()
    .describe("Reports no more output than the call allowed, and stops as `length` where it would have"),
  stopReason: z.enum(["stop", "length", "toolUse", "refusal"]).optional(),
});
export type Turn = z.infer<typeof Turn>;

/** `scripts` wins over `script` for the model ids it names. A script that ran out says "done". */
export const ModelScript = z.strictObject({
  script: z.array(Turn).default([]),
  scripts: z.record(z.string(), z.array(Turn)).optional(),
});
export type ModelScript = z.input<typeof ModelScript>;

export interface ModelRequest {
  method: string;
  path: string;
  headers: IncomingHttpHeaders;
  /** Parsed JSON; the text where it is not JSON; undefined where there is none. */
  body: unknown;
  /** Milliseconds since the epoch. */
  at: number;
  /** Of a streamed answer, as far as it was handed to the system. */
  sentBytes: number;
  /** How the answer ended; null while it goes on. `cut`: the caller hung up before its end. */
  end: "whole" | "cut" | null;
}

export interface ScriptedModel extends AsyncDisposable {
  /** Origin without a slash at the end. */
  readonly url: string;
  readonly port: number;
  /** In the order in which the bodies were complete. */
  readonly requests: ModelRequest[];
  /** Plays another script from now on and forgets the requests. Answers that run finish their own. */
  reset(script: ModelScript): void;
}

const maxBodyBytes = 64 * 1024 * 1024;

/**
 * Opens the server on a free port of 127.0.0.1. The turn to play is the number of assistant turns already in
 * the request, so any number of runs can share one server. Disposing destroys every socket.
 * Throws a ZodError where the script has another shape.
 */
export async function openScriptedModel(script: ModelScript): Promise<ScriptedModel> {
  let current = ModelScript.parse(script);
  const requests: ModelRequest[] = [];
  const server = createServer((request, response) => {
    answer(request, response, () => current, requests).catch(() => response.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("The scripted model has no port");
  return {
    url: `http://127.0.0.1:${address.port}`,
    port: address.port,
    requests,
    reset(next) {
      current = ModelScript.parse(next);
      requests.length = 0;
    },
    async [Symbol.asyncDispose]() {
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  script: () => z.output<typeof ModelScript>,
  requests: ModelRequest[],
): Promise<void> {
  const path = request.url ?? "/";
  const text = await readBody(request);
  const dialect = toDialect(path.split("?")[0] ?? path);
  if (text === undefined) return answerJson(response, 413, dialect.error(413));
  const body = toJson(text);
  const noted: ModelRequest = {
    ...{ method: request.method ?? "", path, headers: request.headers, body },
    ...{ at: Date.now(), sentBytes: 0, end: null },
  };
  requests.push(noted);
  response.once("close", () => {
    noted.end = response.writableFinished ? "whole" : "cut";
  });
  if (request.method !== "POST" || dialect === unknownDialect)
    return answerJson(response, 404, dialect.error(404));
  const asked = ModelCall.safeParse(body);
  if (!asked.success) return answerJson(response, 400, dialect.error(400));

  const { script: common, scripts } = script();
  const turns = scripts?.[asked.data.model] ?? common;
  const index = dialect.countTurns(asked.data);
  const isSame = (other: ModelRequest): boolean => {
    const earlier = ModelCall.safeParse(other.body);
    return earlier.data?.model === asked.data.model && dialect.countTurns(earlier.data) === index;
  };
  const turn = toPlayed(turns[index] ?? { text: "done" }, requests.filter(isSame).length);
  const reply = toReply(turn, index, asked.data, request.headers);
  // A caller that hangs up must not leave a sleeping answer behind.
  const hungUp = new AbortController();
  response.on("close", () => hungUp.abort());
  const count = (bytes: number): void => {
    noted.sentBytes += bytes;
  };
  await playTurn(response, dialect, reply, { signal: hungUp.signal, count }).catch((error: unknown) => {
    if (!hungUp.signal.aborted) throw error;
  });
}

/** The turn as it goes the `time`th time it is asked for. */
function toPlayed(turn: Turn, time: number): Turn {
  if (turn.failTimes === undefined || time <= turn.failTimes) return turn;
  const { fail: _fail, ...rest } = turn;
  return rest;
}

async function playTurn(
  response: ServerResponse,
  dialect: Dialect,
  reply: Reply,
  { signal, count }: { readonly signal: AbortSignal; count(bytes: number): void },
): Promise<void> {
  const { delayMs = 0, chunkDelayMs = 0, fail, refuseBody } = reply.turn;
  if (delayMs > 0) await sleep(delayMs, undefined, { signal });
  if (refuseBody) return answerJson(response, 413, dialect.error(413));
  if (fail === "hang-before") return;
  if (typeof fail === "object") {
    const body = fail.body === undefined ? dialect.error(fail.status) : fail.body;
    return answerJson(response, fail.status, body, fail.headers);
  }
  if (fail === "html") {
    response.writeHead(200, { "content-type": "text/html" }).end("<!doctype html><title>Sign in</title>\n");
    return;
  }
  if (!reply.stream && fail === undefined) return answerJson(response, 200, dialect.whole(reply));

  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-cache" });
  response.flushHeaders();
  if (fail === "hang") return;
  if (fail === "garbage") {
    response.end(Buffer.from('\u0000\u0001{not: an event}\n\ndata: {"broken\n\n\u00ff\u00fe', "latin1"));
    return;
  }
  const { opening, content, closing } = dialect.stream(reply);
  const half = content.slice(0, Math.ceil(content.length / 2));
  const repeated = fail === "drop" ? half : content;
  const parts = [opening, ...Array(reply.turn.repeat ?? 1).fill(repeated), fail === undefined ? closing : []];
  for (const frame of toFrames(parts)) {
    if (chunkDelayMs > 0) await sleep(chunkDelayMs, undefined, { signal });
    signal.throwIfAborted();
    count(Buffer.byteLength(frame));
    if (!response.write(frame)) await once(response, "drain", { signal });
  }
  if (fail !== "drop") return void response.end();
  // Destroyed at once, the bytes above might never leave.
  await new Promise((sent) => response.write(": last words\n\n", sent));
  response.socket?.destroy();
}

function* toFrames(parts: readonly string[][]): Generator<string> {
  for (const part of parts) yield* part;
}

/** A turn made ready to be said: ids given, chunks cut, usage filled in. */
interface Reply {
  turn: Turn;
  model: string;
  stream: boolean;
  id: string;
  chunks: string[];
  toolCalls: { id: string; name: string; json: string }[];
  usage: { input: number; output: number; cacheRead: number };
  stopReason: NonNullable<Turn["stopReason"]>;
}

const ModelCall = z.looseObject({
  model: z.string(),
  max_tokens: z.int().optional(),
  max_completion_tokens: z.int().optional(),
  max_output_tokens: z.int().optional(),
  stream: z.boolean().optional(),
  messages: z.array(z.looseObject({ role: z.string() })).optional(),
  input: z
    .union([z.string(), z.array(z.looseObject({ role: z.string().optional(), type: z.string().optional() }))])
    .optional(),
});
type ModelCall = z.infer<typeof ModelCall>;

function toReply(turn: Turn, index: number, call: ModelCall, headers: IncomingHttpHeaders): Reply {
  // A stream that breaks in the middle needs a middle.
  const said = turn.text ?? (turn.fail === undefined ? "" : "This answer breaks off before its end.");
  const chunks = typeof said === "string" ? toChunks(said) : [...said];
  if (turn.echoHeaders) {
    chunks.push(`authorization=${headers.authorization ?? ""} x-api-key=${headers["x-api-key"] ?? ""}`);
  }
  const toolCalls = (turn.toolCalls ?? []).map((tool, position) => ({
    id: tool.id ?? `call_${index}_${position}`,
    name: tool.name,
    json: JSON.stringify(tool.arguments),
  }));
  return {
    turn,
    model: call.model,
    stream: call.stream ?? false,
    id: `scripted_${index}`,
    chunks,
    toolCalls,
    ...toCapped(turn, readCap(call)),
  };
}

/** What the call allows to be said, by the name that its dialect has for it; null where it does not say. */
export function readCap(call: unknown): number | null {
  const { data } = ModelCall.safeParse(call);
  return data?.max_completion_tokens ?? data?.max_tokens ?? data?.max_output_tokens ?? null;
}

function toCapped(turn: Turn, cap: number | null): Pick<Reply, "usage" | "stopReason"> {
  const usage = turn.usage ?? { input: 10, output: 5, cacheRead: 0 };
  const usual = turn.stopReason ?? (turn.toolCalls?.length ? "toolUse" : "stop");
  if (!turn.keepsCap || cap === null || usage.output <= cap) return { usage, stopReason: usual };
  return { usage: { ...usage, output: cap }, stopReason: "length" };
}

interface Dialect {
  /** Assistant turns already in the conversation. */
  countTurns(call: ModelCall): number;
  /** Server-sent events; without `closing` the answer looks cut off to a careful client. */
  stream(reply: Reply): { opening: string[]; content: string[]; closing: string[] };
  whole(reply: Reply): unknown;
  /** The vendor's own kind of error body. */
  error(status: number): unknown;
}

/** https://platform.openai.com/docs/api-reference/chat-streaming */
const chatDialect: Dialect = {
  countTurns: countAssistantMessages,
  stream(reply) {
    const chunk = (fields: object): string =>
      `data: ${JSON.stringify({ id: reply.id, object: "chat.completion.chunk", created: 0, model: reply.model, ...fields })}\n\n`;
    const delta = (fields: object): string =>
      chunk({ choices: [{ index: 0, delta: fields, finish_reason: null }] });
    const textField = reply.stopReason === "refusal" ? "refusal" : "content";
    const content = toChunks(reply.turn.thinking ?? "").map((piece) => delta({ reasoning_content: piece }));
    content.push(...reply.chunks.map((piece) => delta({ [textField]: piece })));
    for (const [index, { id, name, json }] of reply.toolCalls.entries()) {
      content.push(
        delta({ tool_calls: [{ index, id, type: "function", function: { name, arguments: "" } }] }),
        ...toChunks(json).map((piece) => delta({ tool_calls: [{ index, function: { arguments: piece } }] })),
      );
    }
    const closing = [
      chunk({ choices: [{ index: 0, delta: {}, finish_reason: chatFinish[reply.stopReason] }] }),
      chunk({ choices: [], usage: toChatUsage(reply) }),
      "data: [DONE]\n\n",
    ];
    return { opening: [delta({ role: "assistant", content: "" })], content, closing };
  },
  whole(reply) {
    const text = reply.chunks.join("");
    const refused = reply.stopReason === "refusal";
    const message = {
      role: "assistant",
      content: refused || text === "" ? null : text,
      refusal: refused ? text : null,
      ...(reply.turn.thinking === undefined ? {} : { reasoning_content: reply.turn.thinking }),
      ...(reply.toolCalls.length === 0
        ? {}
        : {
            tool_calls: reply.toolCalls.map(({ id, name, json }) => ({
              id,
              type: "function",
              function: { name, arguments: json },
            })),
          }),
    };
    const choices = [{ index: 0, message, finish_reason: chatFinish[reply.stopReason] }];
    const { id, model } = reply;
    return { id, object: "chat.completion", created: 0, model, choices, usage: toChatUsage(reply) };
  },
  error: toOpenAiError,
};

const chatFinish = { stop: "stop", length: "length", toolUse: "tool_calls", refusal: "content_filter" };

function toChatUsage({ usage: { input, output, cacheRead } }: Reply): object {
  return {
    prompt_tokens: input + cacheRead,
    completion_tokens: output,
    total_tokens: input + cacheRead + output,
    prompt_tokens_details: { cached_tokens: cacheRead },
  };
}

/** https://platform.openai.com/docs/api-reference/responses-streaming */
const responsesDialect: Dialect = {
  countTurns({ input }) {
    if (!Array.isArray(input)) return 0;
    // One turn comes back as several items: reasoning, message, one per call.
    const isOurs = input.map(
      ({ role, type }) => role === "assistant" || type === "reasoning" || type === "function_call",
    );
    return isOurs.filter((ours, index) => ours && !isOurs[index - 1]).length;
  },
  stream(reply) {
    let sequence_number = 0;
    const event = (type: string, fields: object): string =>
      `event: ${type}\ndata: ${JSON.stringify({ type, sequence_number: sequence_number++, ...fields })}\n\n`;
    const opening = [
      event("response.created", { response: toResponse(reply, "in_progress", []) }),
      event("response.in_progress", { response: toResponse(reply, "in_progress", []) }),
    ];
    const items = toResponseItems(reply);
    const content = items.flatMap(({ item, empty, part, kind, pieces }, output_index) => {
      const at = { output_index, item_id: item.id };
      const done = `${kind}.done`;
      const deltas = pieces.map((delta) => event(`${kind}.delta`, { ...at, ...part?.at, delta }));
      const whole = pieces.join("");
      const added = event("response.output_item.added", { output_index, item: empty });
      const finished = event("response.output_item.done", { output_index, item });
      if (part === undefined) return [added, ...deltas, event(done, { ...at, arguments: whole }), finished];
      return [
        added,
        event(`response.${part.kind}.added`, { ...at, ...part.at, part: part.empty }),
        ...deltas,
        event(done, { ...at, ...part.at, [part.field]: whole }),
        event(`response.${part.kind}.done`, { ...at, ...part.at, part: part.full }),
        finished,
      ];
    });
    const short = reply.stopReason === "length";
    const closing = [
      event(short ? "response.incomplete" : "response.completed", { response: toFinishedResponse(reply) }),
    ];
    return { opening, content, closing };
  },
  whole: toFinishedResponse,
  error: toOpenAiError,
};

function toFinishedResponse(reply: Reply): object {
  const output = toResponseItems(reply).map(({ item }) => item);
  return toResponse(reply, reply.stopReason === "length" ? "incomplete" : "completed", output);
}

function toResponse(reply: Reply, status: string, output: object[]): object {
  const { input, output: said, cacheRead } = reply.usage;
  return {
    id: reply.id,
    object: "response",
    created_at: 0,
    model: reply.model,
    status,
    output,
    error: null,
    incomplete_details: status === "incomplete" ? { reason: "max_output_tokens" } : null,
    usage:
      status === "in_progress"
        ? null
        : {
            input_tokens: input + cacheRead,
            input_tokens_details: { cached_tokens: cacheRead },
            output_tokens: said,
            output_tokens_details: { reasoning_tokens: 0 },
            total_tokens: input + cacheRead + said,
          },
  };
}

interface ResponseItem {
  item: { id: string; [field: string]: unknown };
  empty: object;
  kind: string;
  pieces: string[];
  part?: { kind: string; at: object; field: string; empty: object; full: object };
}

function toResponseItems(reply: Reply): ResponseItem[] {
  const { turn, id, chunks, toolCalls } = reply;
  const items: ResponseItem[] = [];
  if (turn.thinking !== undefined) {
    const shell = { id: `rs_${id}`, type: "reasoning" };
    const full = { type: "summary_text", text: turn.thinking };
    items.push({
      item: { ...shell, summary: [full] },
      empty: { ...shell, summary: [] },
      kind: "response.reasoning_summary_text",
      pieces: toChunks(turn.thinking),
      part: {
        kind: "reasoning_summary_part",
        at: { summary_index: 0 },
        field: "text",
        empty: { ...full, text: "" },
        full,
      },
    });
  }
  if (chunks.length > 0) {
    const shell = { id: `msg_${id}`, type: "message", role: "assistant" };
    const refused = reply.stopReason === "refusal";
    const field = refused ? "refusal" : "text";
    const toPart = (text: string): object =>
      refused ? { type: "refusal", refusal: text } : { type: "output_text", text, annotations: [] };
    const full = toPart(chunks.join(""));
    items.push({
      item: { ...shell, status: "completed", content: [full] },
      empty: { ...shell, status: "in_progress", content: [] },
      kind: refused ? "response.refusal" : "response.output_text",
      pieces: chunks,
      part: { kind: "content_part", at: { content_index: 0 }, field, empty: toPart(""), full },
    });
  }
  for (const { id: call_id, name, json } of toolCalls) {
    const shell = { id: `fc_${call_id}`, type: "function_call", call_id, name };
    items.push({
      item: { ...shell, status: "completed", arguments: json },
      empty: { ...shell, status: "in_progress", arguments: "" },
      kind: "response.function_call_arguments",
      pieces: toChunks(json),
    });
  }
  return items;
}

/** https://docs.anthropic.com/en/docs/build-with-claude/streaming */
const messagesDialect: Dialect = {
  countTurns: countAssistantMessages,
  stream(reply) {
    const event = (type: string, fields: object): string =>
      `event: ${type}\ndata: ${JSON.stringify({ type, ...fields })}\n\n`;
    const message = { ...toMessage(reply), content: [], stop_reason: null, stop_sequence: null };
    const usage = { ...toMessageUsage(reply), output_tokens: 1 };
    const content = toBlocks(reply).flatMap(({ empty, deltas }, index) => [
      event("content_block_start", { index, content_block: empty }),
      ...deltas.map((delta) => event("content_block_delta", { index, delta })),
      event("content_block_stop", { index }),
    ]);
    const closing = [
      event("message_delta", {
        delta: { stop_reason: messagesStop[reply.stopReason], stop_sequence: null },
        usage: toMessageUsage(reply),
      }),
      event("message_stop", {}),
    ];
    return { opening: [event("message_start", { message: { ...message, usage } })], content, closing };
  },
  whole(reply) {
    const stop_reason = messagesStop[reply.stopReason];
    const content = toBlocks(reply).map(({ full }) => full);
    return { ...toMessage(reply), content, stop_reason, stop_sequence: null, usage: toMessageUsage(reply) };
  },
  error: (status) => {
    const [type, message] = messagesErrors[status] ?? ["api_error", `Scripted failure ${status}`];
    return { type: "error", error: { type, message } };
  },
};

const messagesStop = { stop: "end_turn", length: "max_tokens", toolUse: "tool_use", refusal: "refusal" };

function toMessage({ id, model }: Reply): object {
  return { id: `msg_${id}`, type: "message", role: "assistant", model };
}

function toMessageUsage({ usage: { input, output, cacheRead } }: Reply): object {
  return {
    input_tokens: input,
    cache_creation_input_tokens: 0,
    cache_read_input_tokens: cacheRead,
    output_tokens: output,
  };
}

function toBlocks({ turn, chunks, toolCalls }: Reply): { empty: object; deltas: object[]; full: object }[] {
  const blocks: { empty: object; deltas: object[]; full: object }[] = [];
  if (turn.thinking !== undefined) {
    const signature = "c2NyaXB0ZWQ=";
    const deltas: object[] = toChunks(turn.thinking).map((thinking) => ({
      type: "thinking_delta",
      thinking,
    }));
    blocks.push({
      empty: { type: "thinking", thinking: "", signature: "" },
      deltas: [...deltas, { type: "signature_delta", signature }],
      full: { type: "thinking", thinking: turn.thinking, signature },
    });
  }
  if (chunks.length > 0) {
    const deltas = chunks.map((text) => ({ type: "text_delta", text }));
    const full = { type: "text", text: chunks.join("") };
    blocks.push({ empty: { type: "text", text: "" }, deltas, full });
  }
  for (const { id, name, json } of toolCalls) {
    const shell = { type: "tool_use", id, name };
    const deltas = toChunks(json).map((partial_json) => ({ type: "input_json_delta", partial_json }));
    blocks.push({ empty: { ...shell, input: {} }, deltas, full: { ...shell, input: JSON.parse(json) } });
  }
  return blocks;
}

const unknownDialect: Dialect = {
  countTurns: () => 0,
  stream: () => ({ opening: [], content: [], closing: [] }),
  whole: () => ({}),
  error: toOpenAiError,
};

function toDialect(path: string): Dialect {
  if (path.endsWith("/chat/completions")) return chatDialect;
  if (path.endsWith("/responses")) return responsesDialect;
  if (path.endsWith("/v1/messages")) return messagesDialect;
  return unknownDialect;
}

function countAssistantMessages({ messages = [] }: ModelCall): number {
  return messages.filter(({ role }) => role === "assistant").length;
}

const openAiErrors: Record<number, [type: string, code: string | null, message: string]> = {
  400: ["invalid_request_error", null, "Invalid request."],
  401: ["invalid_request_error", "invalid_api_key", "Incorrect API key provided."],
  403: [
    "invalid_request_error",
    "unsupported_country_region_territory",
    "Country, region, or territory not supported",
  ],
  413: ["invalid_request_error", null, "Request body too large."],
  429: ["requests", "rate_limit_exceeded", "Rate limit reached for requests."],
  500: ["server_error", null, "The server had an error while processing your request."],
  503: ["server_error", null, "The engine is currently overloaded, please try again later."],
};

function toOpenAiError(status: number): object {
  const [type, code, message] = openAiErrors[status] ?? ["server_error", null, `Scripted failure ${status}`];
  return { error: { message, type, param: null, code } };
}

const messagesErrors: Record<number, [type: string, message: string]> = {
  400: ["invalid_request_error", "Invalid request."],
  401: ["authentication_error", "invalid x-api-key"],
  403: ["permission_error", "Your API key does not have permission to use the specified resource."],
  413: ["request_too_large", "Request exceeds the maximum size"],
  429: ["rate_limit_error", "This request would exceed your organization's rate limit."],
  500: ["api_error", "Internal server error"],
  529: ["overloaded_error", "Overloaded"],
};

/** Cuts into at most some twenty pieces, never inside a character. */
function toChunks(text: string): string[] {
  const size = Math.max(8, Math.ceil(text.length / 20));
  return text.match(new RegExp(`.{1,${size}}`, "gsu")) ?? [];
}

function toJson(text: string): unknown {
  if (text === "") return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** Undefined where the body is too large; the rest of it is read and thrown away. */
async function readBody(request: IncomingMessage): Promise<string | undefined> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of request) {
    bytes += part.length;
    if (bytes <= maxBodyBytes) parts.push(part);
    else parts.length = 0;
  }
  return bytes > maxBodyBytes ? undefined : Buffer.concat(parts).toString("utf8");
}

function answerJson(response: ServerResponse, status: number, body: unknown, headers = {}): void {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  response.writeHead(status, { "content-type": "application/json", ...headers }).end(text);
}
