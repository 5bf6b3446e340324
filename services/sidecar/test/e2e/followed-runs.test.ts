/** Ways to follow a run and to stop it, with real clients over the built service. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { EventSource } from "eventsource";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import type { RunEvent } from "#contract/event";
import type { RunPage } from "#contract/routes";
import type { Run } from "#contract/run";
import { getJson, type LiveService, openLiveService, post, readEvents } from "../fakes/live-service.ts";
import { openScriptedModel, type ScriptedModel, type Turn } from "../fakes/scripted-model.ts";
import { toRun, toScriptedRequest } from "../fakes/scripted-request.ts";

let model: ScriptedModel;
let service: LiveService;

beforeAll(async () => {
  model = await openScriptedModel({});
  service = await openLiveService({
    env: { PILLION_PRIVATE_TARGETS: model.url, PILLION_ALLOWED_PROGRAMS: "bash", PILLION_CONCURRENCY: "8" },
  });
});
afterAll(async () => {
  await service[Symbol.asyncDispose]();
  await model[Symbol.asyncDispose]();
});

describe("ways to follow and to stop a run", () => {
  const slow: Turn[] = [
    { text: "Slowly. ".repeat(20), chunkDelayMs: 60, toolCalls: [{ name: "ls", arguments: {} }] },
    { text: "Nearly there. ".repeat(12), chunkDelayMs: 120 },
  ];

  test("S1.2 an EventSource that is cut twice resumes without a gap or a double", async () => {
    model.reset({ script: slow });
    const started = await toRun(await post(service, "/v1/runs", toScriptedRequest(model)));
    await using cuttable = await openCuttableProxy(service.port);
    const seen: RunEvent[] = [];
    const source = new EventSource(`${cuttable.url}/v1/runs/${started.id}/events`);
    await new Promise<void>((done) => {
      source.onmessage = ({ data }) => {
        const event: RunEvent = JSON.parse(data);
        seen.push(event);
        if (event.seq === 5 || event.seq === 14) cuttable.cut();
        if (event.type === "run.ended") done();
      };
    });
    source.close();
    const events = await readEvents(service, started.id);
    expect(seen).toEqual(events);
    expect(seen.map(({ seq }) => seq)).toEqual(seen.map((_, index) => index + 1));
    const lastIds = cuttable.heads().map((head) => /^last-event-id: (\d+)/im.exec(head)?.[1]);
    expect(lastIds[0]).toBeUndefined();
    expect(lastIds).toHaveLength(3);
    expect(lastIds.slice(1).map(Number)).toEqual([expect.any(Number), expect.any(Number)]);
  });

  test("S1.2 curl gets every event as a line while the run goes on, and the result as the last", async () => {
    model.reset({ script: slow });
    const curl = spawn("curl", [
      ...["-sSN", `${service.url}/run`, "-H", "content-type: application/json"],
      ...["-H", "accept: application/x-ndjson", "--data-binary", "@-"],
    ]);
    curl.stdin.end(JSON.stringify(toScriptedRequest(model)));
    const lines: { kind: string; event?: RunEvent; run?: Run; stateThen?: string }[] = [];
    for await (const line of createInterface(curl.stdout)) {
      const parsed = JSON.parse(line);
      const isFirstText =
        parsed.event?.type === "message.delta" && lines.every(({ event }) => event?.type !== "message.delta");
      const id = lines[0]?.event?.type === "run.started" ? lines[0].event.runId : "";
      lines.push(
        isFirstText
          ? { ...parsed, stateThen: (await getJson<Run>(service, `/v1/runs/${id}`)).state }
          : parsed,
      );
    }
    expect(lines.flatMap(({ stateThen }) => stateThen ?? [])).toEqual(["running"]);
    const result = lines.at(-1)?.run;
    expect(lines.map(({ kind }) => kind)).toEqual([...lines.slice(1).map(() => "event"), "result"]);
    expect(lines.flatMap(({ event }) => event ?? [])).toEqual(await readEvents(service, result?.id ?? ""));
    expect(result).toMatchObject({ state: "ended", outcome: "succeeded" });
  });

  test("S1.2 `Prefer: wait` answers 200 with the ended run, or 202 with the run that goes on", async () => {
    model.reset({ scripts: { quick: [{ text: "Quick." }], hanging: [{ fail: "hang" }] } });
    const quick = await post(service, "/v1/runs", toScriptedRequest(model, { name: "quick" }), {
      prefer: "wait=20",
    });
    expect({ status: quick.status, applied: quick.headers.get("preference-applied") }).toEqual({
      status: 200,
      applied: "wait=20",
    });
    expect(await quick.json()).toMatchObject({ state: "ended", output: "Quick." });
    const hanging = await post(service, "/v1/runs", toScriptedRequest(model, { name: "hanging" }), {
      prefer: "wait=1",
    });
    const going = await toRun(hanging);
    expect({ status: hanging.status, outcome: going.outcome }).toEqual({ status: 202, outcome: null });
    await post(service, `/v1/runs/${going.id}/cancel`, {});
    await readEvents(service, going.id);
  });

  test("a run whose model hangs is cancelled within 5 s, proven", async () => {
    model.reset({ script: [{ fail: "hang" }] });
    const started = await toRun(await post(service, "/v1/runs", toScriptedRequest(model)));
    await vi.waitFor(() => expect(model.requests).toHaveLength(1), 10_000);
    const askedAt = performance.now();
    expect((await fetch(`${service.url}/v1/runs/${started.id}/cancel`, { method: "POST" })).status).toBe(202);
    const events = await readEvents(service, started.id);
    expect(performance.now() - askedAt).toBeLessThan(5000);
    expect(events.at(-1)).toMatchObject({
      type: "run.ended",
      outcome: "cancelled",
      stop: { verified: true },
      failure: { code: "cancelled" },
    });
    expect((await post(service, `/v1/runs/${started.id}/cancel`, {})).status).toBe(200);
  });

  test.each(["application/json", "application/x-ndjson"])(
    "a caller of POST /run (%s) who leaves cancels the run",
    async (accept) => {
      model.reset({ script: [{ fail: "hang" }] });
      const leaving = new AbortController();
      const answer = fetch(`${service.url}/run`, {
        method: "POST",
        headers: { "content-type": "application/json", accept },
        body: JSON.stringify(
          toScriptedRequest(model, { fields: { metadata: { test: accept.replace("/", "-") } } }),
        ),
        signal: leaving.signal,
      }).then((response) => response.text());
      await vi.waitFor(() => expect(model.requests).toHaveLength(1), 10_000);
      leaving.abort();
      await expect(answer).rejects.toThrow("aborted");
      const page = await getJson<RunPage>(service, `/v1/runs?limit=1`);
      const events = await readEvents(service, page.runs[0]?.id ?? "");
      expect(events.at(-1)).toMatchObject({ outcome: "cancelled", stop: { verified: true } });
    },
  );
});

/** Passes connections on and can cut them all; remembers what each began with. */
async function openCuttableProxy(
  port: number,
): Promise<AsyncDisposable & { url: string; cut(): void; heads(): string[] }> {
  const sockets = new Set<Socket>();
  const heads: string[] = [];
  const server = createServer((inside) => {
    const outside = connect(port, "127.0.0.1");
    inside.once("data", (bytes) => heads.push(bytes.toString("latin1")));
    inside.pipe(outside).pipe(inside);
    for (const socket of [inside, outside]) {
      sockets.add(socket);
      socket.on("error", () => undefined);
      socket.once("close", () => [inside, outside].forEach((end) => void end.destroy()));
    }
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the proxy has no port");
  const cut = (): void => {
    for (const socket of sockets) socket.destroy();
  };
  return {
    url: `http://127.0.0.1:${address.port}`,
    cut,
    heads: () => heads,
    async [Symbol.asyncDispose]() {
      cut();
      await new Promise((closed) => server.close(closed));
    },
  };
}
