import { expect, test } from "vitest";
import { openDeadline } from "../../../src/kernel/deadline.ts";
import { Fault } from "../../../src/kernel/fault.ts";

const late = () => new Fault("sandbox_unavailable", "Too late.");

test("a deadline aborts with its own fault when the time is up", async () => {
  using deadline = openDeadline(1, late, new AbortController().signal);
  await new Promise((resolve) => deadline.signal.addEventListener("abort", resolve));
  expect(deadline.signal.reason).toEqual(late());
});

test("a deadline aborts as the signal that it was given, with that one's reason", () => {
  const given = new AbortController();
  using deadline = openDeadline(60_000, late, given.signal);
  given.abort(new Fault("cancelled", "Not wanted any more."));
  expect(deadline.signal.reason).toBe(given.signal.reason);
});

test("a deadline that was disposed never aborts", async () => {
  const deadline = openDeadline(1, late, new AbortController().signal);
  deadline[Symbol.dispose]();
  await new Promise((resolve) => setTimeout(resolve, 5)); // later than its time
  expect(deadline.signal.aborted).toBe(false);
});
