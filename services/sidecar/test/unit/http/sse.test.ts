import { describe, expect, test } from "vitest";
import type { RunEvent } from "#contract/event";
import { toSseFrames } from "../../../src/http/sse.ts";

const event = (seq: number): RunEvent => ({
  type: "message.delta",
  seq,
  at: "2026-01-02T03:04:05.678Z",
  text: "a\nb\u2028c",
});

async function* give(events: RunEvent[]): AsyncGenerator<RunEvent> {
  yield* events;
}

describe("SSE frames", () => {
  test("begin with the retry time; each event is one frame with its number as id", async () => {
    const frames = await Array.fromAsync(toSseFrames(give([event(1), event(2)]), 1_000));
    expect(frames).toEqual([
      "retry: 1000\n\n",
      `id: 1\ndata: ${JSON.stringify(event(1))}\n\n`,
      `id: 2\ndata: ${JSON.stringify(event(2))}\n\n`,
    ]);
    expect(frames[1]?.split("\n")).toHaveLength(4);
  });

  test("are comments in silence, and nothing is lost by them", async () => {
    const quiet = Promise.withResolvers<void>();
    async function* late(): AsyncGenerator<RunEvent> {
      await quiet.promise;
      yield event(1);
    }
    const frames: string[] = [];
    for await (const frame of toSseFrames(late(), 5)) {
      frames.push(frame);
      if (frames.length === 3) quiet.resolve();
    }
    expect(frames.slice(0, 3)).toEqual(["retry: 1000\n\n", ": heartbeat\n\n", ": heartbeat\n\n"]);
    expect(frames.at(-1)).toBe(`id: 1\ndata: ${JSON.stringify(event(1))}\n\n`);
  });

  test("pass a failure on and close their source", async () => {
    let closed = false;
    async function* failing(): AsyncGenerator<RunEvent> {
      try {
        yield event(1);
        throw new Error("the journal is gone");
      } finally {
        closed = true;
      }
    }
    await expect(Array.fromAsync(toSseFrames(failing(), 1_000))).rejects.toThrow("the journal is gone");
    expect(closed).toBe(true);
  });
});
