// How the answer of a run's model is carried to its end, and what is told of that end.
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { gzipSync } from "node:zlib";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import type { LeaseRequest } from "../../src/broker/lease.ts";
import { type LeaseWishes, openDoor, openLease, type ToldLease, toPort } from "../fakes/told-lease.ts";

type Model = ToldLease & { call(fields?: object, signal?: AbortSignal): Promise<Response> };

/** A provider on loopback that answers so, and the door of a run that has a key for it. */
async function openModel(
  api: LeaseRequest["api"],
  answer: (request: IncomingMessage, response: ServerResponse) => void,
  wishes: LeaseWishes = {},
): Promise<Model> {
  const provider = createServer(answer).listen(0, "127.0.0.1");
  await once(provider, "listening");
  onTestFinished(() => {
    provider.close();
    provider.closeAllConnections();
  });
  const told = openLease({
    api,
    upstream: {
      kind: "http",
      baseUrl: new URL(`http://127.0.0.1:${toPort(provider)}/v1`),
      header: { name: "authorization", value: "Bearer sk-canary-0123456789", credential: "test" },
      privateAllowed: true,
    },
    ...wishes,
  });
  const door = `http://127.0.0.1:${await openDoor(told.lease)}/model${PATHS[api]}`;
  const headers = { authorization: `Bearer ${told.lease.placeholder}` };
  const call = (fields: object = { stream: true }, signal: AbortSignal | null = null) =>
    fetch(door, { method: "POST", headers, body: JSON.stringify({ model: "m", ...fields }), signal });
  return { ...told, call };
}

const PATHS: Record<LeaseRequest["api"], string> = {
  "openai-completions": "/chat/completions",
  "openai-responses": "/responses",
  "anthropic-messages": "/v1/messages",
};

test("S3.4 an answer that is decoded, measured and cleaned of the key makes Node warn of nothing", async () => {
  const warnings: string[] = [];
  const note = (warning: Error): void => void warnings.push(String(warning));
  process.on("warning", note);
  onTestFinished(() => void process.off("warning", note));
  const { call } = await openModel("openai-completions", (_request, response) => {
    response.writeHead(200, { "content-encoding": "gzip" }).end(gzipSync("data: [DONE]\n\n"));
  });
  expect(await (await call()).text()).toBe("data: [DONE]\n\n");
  process.emitWarning("the control: it would be heard");
  await expect.poll(() => warnings).toEqual(["Warning: the control: it would be heard"]);
});

test.each([
  ["all that it asked for, where the answer is made whole before it is sent", false, 4_000],
  ["nothing but its input, where the answer streams", true, 0],
])("S3.11 a caller that leaves before the answer has used %s", async (_what, stream, outputTokens) => {
  const reached: IncomingMessage[] = [];
  const limits = { requests: 10, bytes: 1024 ** 2, tokens: 100_000 };
  const { call, lease, events } = await openModel(
    "openai-completions",
    (request) => void reached.push(request),
    {
      limits,
    },
  );
  const leave = new AbortController();
  const left = call({ stream, max_tokens: 4_000 }, leave.signal).catch(({ name }: Error) => name);
  await expect.poll(() => reached.length).toBe(1);
  leave.abort();
  expect(await left).toBe("AbortError");
  await expect.poll(() => events).toMatchObject([{ failure: "cut" }]);
  expect(lease.budget.used).toMatchObject({ outputTokens, calls: 1 });
  expect(lease.budget.used.inputTokens).toBeGreaterThan(0);
});

const event = (data: object): string => `data: ${JSON.stringify(data)}\n\n`;

/** What each dialect says last but one, and last: nothing follows that. */
const WORDS: [LeaseRequest["api"], string, string][] = [
  [
    "openai-completions",
    event({ choices: [{ index: 0, delta: { content: "yes" }, finish_reason: "stop" }] }),
    "data: [DONE]\n\n",
  ],
  [
    "openai-responses",
    event({ type: "response.output_text.delta", delta: "yes" }),
    event({ type: "response.completed", response: { output: [] } }),
  ],
  [
    "anthropic-messages",
    event({ type: "message_delta", delta: { stop_reason: "end_turn" }, usage: { output_tokens: 1 } }),
    "event: message_stop\ndata: {}\n\n",
  ],
];

/** Calls a provider that says this and does not end; the caller has it all when this resolves. */
async function callLingering(api: LeaseRequest["api"], said: string) {
  const model = await openModel(api, (_request, response) => void response.writeHead(200).write(said));
  const { body } = await model.call();
  const reader = body?.getReader();
  let heard = "";
  for (const decoder = new TextDecoder(); heard.length < said.length; ) {
    const { value } = (await reader?.read()) ?? {};
    heard += decoder.decode(value, { stream: true });
  }
  expect(heard).toBe(said);
  return { ...model, leave: () => reader?.cancel() };
}

describe.each(WORDS)("S3.4 of a call in the dialect %s whose provider lingers", (api, almost, last) => {
  test.each([
    ["the caller leaves", ({ leave }: Awaited<ReturnType<typeof callLingering>>) => void leave()],
    ["the run ends", ({ lease }: Awaited<ReturnType<typeof callLingering>>) => void lease.settle()],
  ])("it is no cut when %s after the last word, and is one before it", async (_who, end) => {
    const [whole, half] = [await callLingering(api, almost + last), await callLingering(api, almost)];
    end(whole);
    end(half);
    await vi.waitFor(() => expect([whole.events, half.events].map(({ length }) => length)).toEqual([1, 1]));
    expect(whole.events).toMatchObject([{ allowed: true, failure: null, status: 200 }]);
    expect(half.events).toMatchObject([{ allowed: true, failure: "cut", status: 200 }]);
  });
});
