// The program that asks through the door, or directly where nothing stands between: `bench-door.ts` runs the same one in
// each place, and what it takes away is one line of JSON.

import { once } from "node:events";
import { type Agent, type ClientRequest, type IncomingMessage, Agent as KeptAgent, request } from "node:http";
import type { Socket } from "node:net";
import { connect } from "node:tls";

export type ProbeOrder = {
  /** Ports of the servers: the model's, and those of a large answer as HTTP and as HTTPS. */
  readonly ports: { readonly model: number; readonly files: number; readonly tls: number };
  readonly calls: number;
  readonly streams: number;
  readonly megabytes: number;
};

/** Milliseconds, each list in the order of its requests, and megabytes a second. */
export type ProbeResult = {
  readonly model: readonly number[];
  readonly baseUrl: readonly number[];
  readonly fresh: readonly number[];
  readonly firstDelta: readonly number[];
  readonly largeRate: number;
  readonly tunnelRate: number;
};

/** How the servers are reached; without a door, as they are. */
type Way = {
  readonly model: string;
  readonly files: string;
  readonly headers: Readonly<Record<string, string>>;
  openTunnel(): Promise<Socket | undefined>;
};

const TUNNELLED = "localhost"; // a tunnel needs a name

function toWay({ model, files, tls }: ProbeOrder["ports"]): Way {
  const { PILLION_DOOR: door, HTTP_PROXY: proxy } = process.env;
  if (door === undefined || proxy === undefined) {
    const [modelUrl, filesUrl] = [`http://127.0.0.1:${model}/v1`, `http://127.0.0.1:${files}`];
    return { model: modelUrl, files: filesUrl, headers: {}, openTunnel: async () => undefined };
  }
  const { password, port } = new URL(proxy);
  const basic = Buffer.from(`pillion:${password}`).toString("base64");
  return {
    model: `${door}/model`,
    files: `${door}/to/http/127.0.0.1:${files}`,
    headers: { authorization: `Bearer ${password}` },
    openTunnel: async () => {
      const path = `${TUNNELLED}:${tls}`;
      const headers = { host: path, "proxy-authorization": `Basic ${basic}` };
      const asked = request({
        host: "127.0.0.1",
        port,
        method: "CONNECT",
        path,
        headers,
        agent: false,
      }).end();
      const [response, socket] = (await once(asked, "connect")) as [IncomingMessage, Socket];
      if (response.statusCode !== 200) throw new Error(`no tunnel: ${response.statusMessage}`);
      return socket;
    },
  };
}

async function probe({ ports, calls, streams, megabytes }: ProbeOrder): Promise<ProbeResult> {
  const way = toWay(ports);
  const agent = new KeptAgent({ keepAlive: true, maxSockets: 1 });
  const call = (word: string): ClientRequest =>
    ask(`${way.model}/chat/completions`, { ...way, agent, body: toCall(word) });
  const get = (path: string, kept: Agent | false = agent): ClientRequest =>
    ask(`${way.files}${path}`, { ...way, agent: kept, body: undefined });
  const timeEach = async (count: number, one: () => ClientRequest): Promise<number[]> => {
    const found: number[] = [];
    for (let at = 0; at < count; at += 1) found.push((await readAll(one())).ms);
    return found;
  };
  await timeEach(10, () => call("small")); // unmeasured: code is compiled and connections stand, in each place alike
  await timeEach(10, () => get("/small"));
  const model = await timeEach(calls, () => call("small"));
  const baseUrl = await timeEach(calls, () => get("/small"));
  const fresh = await timeEach(calls, () => get("/small", false));
  const firstDelta: number[] = [];
  for (let at = 0; at < streams; at += 1) firstDelta.push((await readAll(call("slow"))).firstMs);
  const large = await readAll(get(`/large?mb=${megabytes}`));
  agent.destroy();
  return {
    model,
    baseUrl,
    fresh,
    firstDelta,
    largeRate: toRate(large),
    tunnelRate: await tunnel(way, ports.tls, megabytes),
  };
}

function toCall(word: string): string {
  const filler = "x".repeat(1_000); // a short question with a short history
  const messages = [
    { role: "system", content: filler },
    { role: "user", content: word },
  ];
  return JSON.stringify({ model: "door", stream: true, messages });
}

type Asking = Pick<Way, "headers"> & { readonly agent: Agent | false; readonly body: string | undefined };

function ask(url: string, { headers, agent, body }: Asking): ClientRequest {
  const typed = body === undefined ? headers : { ...headers, "content-type": "application/json" };
  return request(url, { agent, headers: typed, method: body === undefined ? "GET" : "POST" }).end(body);
}

type Read = { readonly ms: number; readonly firstMs: number; readonly bytes: number };

/** From the request to the last byte, and to the first of the body. */
async function readAll(asked: ClientRequest): Promise<Read> {
  const began = performance.now();
  const [response] = (await once(asked, "response")) as [IncomingMessage];
  if (response.statusCode !== 200)
    throw new Error(`${response.statusCode} for ${asked.path}: ${await toText(response)}`);
  return measure(response, began);
}

async function measure(source: AsyncIterable<Buffer>, began: number): Promise<Read> {
  let [bytes, firstMs] = [0, Number.NaN];
  for await (const chunk of source) {
    if (bytes === 0) firstMs = performance.now() - began;
    bytes += chunk.length;
  }
  return { ms: performance.now() - began, firstMs, bytes };
}

async function toText(response: IncomingMessage): Promise<string> {
  let text = "";
  for await (const chunk of response) text += chunk;
  return text;
}

async function tunnel(way: Way, port: number, megabytes: number): Promise<number> {
  const socket = await way.openTunnel();
  const place = socket === undefined ? { host: "127.0.0.1", port } : { socket };
  const tls = connect({ ...place, servername: TUNNELLED, rejectUnauthorized: false }); // a server of the bench's own
  await once(tls, "secureConnect");
  const began = performance.now();
  tls.write(`GET /large?mb=${megabytes} HTTP/1.1\r\nhost: ${TUNNELLED}\r\nconnection: close\r\n\r\n`);
  return toRate(await measure(tls, began));
}

function toRate({ bytes, ms }: Read): number {
  return bytes / 1e6 / (ms / 1e3);
}

process.stdout.write(`${JSON.stringify(await probe(JSON.parse(process.argv[2] ?? "")))}\n`);
