// Runs of a service that is killed at any moment: what it had told of them, and whether all of that holds afterwards.
import type { IncomingMessage } from "node:http";
import { expect } from "vitest";
import { RunEvent } from "#contract/event";
import { Run } from "#contract/run";
import { call, openCall, type StormService } from "./storm-service.ts";

/** What the service had told about a run before it was killed. */
export type Acknowledged = { readonly id: string; readonly events: RunEvent[] };

/** Reads SSE until the stream breaks; what was not a whole frame was not told. */
async function listen(stream: IncomingMessage, told: RunEvent[]): Promise<void> {
  let rest = "";
  try {
    for await (const part of stream.setEncoding("utf8")) {
      const frames = `${rest}${part}`.split("\n\n");
      rest = frames.pop() ?? "";
      for (const frame of frames) {
        const data = /^data: ?(.*)$/m.exec(frame)?.[1];
        if (data !== undefined) told.push(RunEvent.parse(JSON.parse(data)));
      }
    }
  } catch (error) {
    if (error instanceof SyntaxError) throw error; // a broken connection is what is wanted here
  }
}

/** Asks for a run and keeps all that is told of it until the service dies. */
export async function startAndListen(
  service: StormService,
  acknowledged: Acknowledged[],
  fields: object = {},
): Promise<void> {
  const request = { model: "demo/tour", prompt: "Show me around", ...fields };
  const created = await call(`${service.url}/v1/runs`, "POST", request).catch(() => undefined);
  if (created === undefined) return; // killed before it answered
  if (created.status === 503 && created.body.includes('"draining"')) return; // stopped before it took it
  expect(created.status, created.body).toBe(202);
  const run: Acknowledged = { id: Run.parse(JSON.parse(created.body)).id, events: [] };
  acknowledged.push(run);
  const stream = await openCall(`${service.url}/v1/runs/${run.id}/events`, "GET", undefined, {
    accept: "text/event-stream",
  }).catch(() => undefined);
  if (stream !== undefined) await listen(stream, run.events);
}

/** What was told is there, without gaps and with one end. Resolves to how the run ended. */
export async function expectWhole(
  service: StormService,
  { id, events: told }: Acknowledged,
  outcomes: readonly string[] = ["lost", "succeeded"],
): Promise<string> {
  const run = Run.parse(JSON.parse((await call(`${service.url}/v1/runs/${id}`)).body));
  const accept = { accept: "application/x-ndjson" };
  const { body } = await call(`${service.url}/v1/runs/${id}/events`, "GET", undefined, accept);
  const events = body
    .trim()
    .split("\n")
    .map((line) => RunEvent.parse(JSON.parse(line)));
  expect(events.slice(0, told.length)).toEqual(told);
  expect(events.map(({ seq }) => seq)).toEqual(events.map((_, index) => index + 1));
  const ends = events.filter((event) => event.type === "run.ended");
  expect(ends).toEqual([events.at(-1)]);
  expect({ state: run.state, outcome: run.outcome, lastSeq: run.lastSeq }).toEqual({
    state: "ended",
    outcome: ends[0]?.outcome,
    lastSeq: events.length,
  });
  expect(outcomes).toContain(run.outcome);
  return String(run.outcome);
}

/** Random, but the same again with PILLION_TEST_SEED (mulberry32). */
export function createRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
