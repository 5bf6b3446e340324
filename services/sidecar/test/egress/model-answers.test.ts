// How the answer of a run's model is carried to its end, and what is told of that end.
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { gzipSync } from "node:zlib";
import { expect, onTestFinished, test } from "vitest";
import type { LeaseRequest } from "../../src/broker/lease.ts";
import { openDoor, openLease, type ToldLease, toPort } from "../fakes/told-lease.ts";

type Model = ToldLease & { call(): Promise<Response> };

/** A provider on loopback that answers so, and the door of a run that has a key for it. */
async function openModel(
  api: LeaseRequest["api"],
  answer: (request: IncomingMessage, response: ServerResponse) => void,
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
  });
  const door = `http://127.0.0.1:${await openDoor(told.lease)}/model${PATHS[api]}`;
  const headers = { authorization: `Bearer ${told.lease.placeholder}` };
  const call = () =>
    fetch(door, { method: "POST", headers, body: JSON.stringify({ model: "m", stream: true }) });
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
