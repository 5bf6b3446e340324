import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { EventBody } from "#contract/event";
import { EMPTY_FOLD, foldPiRecord, type PiFold } from "../../../src/harnesses/pi/pi-events.ts";
import { toPiRecord } from "../../../src/harnesses/pi/pi-records.ts";

/** Folds what the real Pi once said; see scripts/record-pi-rpc.ts. */
function foldRecording(name: string): { fold: PiFold; events: EventBody[] } {
  const file = join(import.meta.dirname, "../../fixtures/pi-rpc", `${name}.jsonl`);
  let fold = EMPTY_FOLD;
  const events: EventBody[] = [];
  for (const line of readFileSync(file, "utf8").split("\n").filter(Boolean)) {
    const record = toPiRecord(line);
    if (record === null) continue;
    const step = foldPiRecord(fold, record);
    fold = step.fold;
    events.push(...step.events);
  }
  return { fold, events };
}

describe("recorded Pi traffic", () => {
  test("with tools gives its calls, results and final text", () => {
    const { fold, events } = foldRecording("tools");
    expect(fold).toMatchObject({
      output: "The file says hello.",
      stopReason: "stop",
      errorMessage: null,
      settled: true,
    });
    const calls = events.filter((event) => event.type === "tool.call");
    const results = events.filter((event) => event.type === "tool.result");
    expect(calls.map(({ tool, arguments: given }) => [tool, given])).toEqual([
      ["write", { path: "hello.txt", content: "hello\n" }],
      ["read", { path: "hello.txt" }],
      ["read", { path: "missing.txt" }],
    ]);
    expect(results.map(({ callId }) => callId).toSorted()).toEqual(
      calls.map(({ callId }) => callId).toSorted(),
    );
    expect(results.filter(({ isError }) => isError)).toHaveLength(1);
  });

  test.each(["status-401", "status-429", "status-500", "dropped", "garbage"])(
    "of a model that failed (%s) is an error with a reason, never a quiet end",
    (name) => {
      const { fold } = foldRecording(name);
      expect(fold).toMatchObject({ stopReason: "error", settled: true });
      expect(fold.errorMessage).toBeTruthy();
    },
  );

  test("of an aborted answer says so", () => {
    expect(foldRecording("abort").fold).toMatchObject({ stopReason: "aborted", settled: true });
  });
});
