/** What is written down of a run's ways out, however many end at once. */
import { expect, test } from "vitest";
import { EgressAudit, type EgressEvent } from "../../../src/broker/egress-audit.ts";

test("S3.11 no event is lost where thousands end at once and the journal has little room: one waits for the other", async () => {
  const told: EgressEvent[] = [];
  let waiting = 0;
  const audit = new EgressAudit(async (event) => {
    if (waiting >= 1) throw new Error("Events come faster than they are waited for.");
    waiting += 1;
    await new Promise(setImmediate);
    waiting -= 1;
    told.push(event);
  });
  const entries = Array.from({ length: 3_000 }, () => audit.open("proxy"));
  for (const [index, entry] of entries.entries()) {
    entry.method = `M${index}`;
    void entry.deny("host_not_allowed");
  }
  await audit.settle();
  expect(told.map(({ method }) => method)).toEqual(entries.map((_, index) => `M${index}`));
  expect(audit.summary().denied).toBe(3_000);
});

test("S3.11 an event that cannot be told does not hold back those behind it", async () => {
  const told: (string | null)[] = [];
  const audit = new EgressAudit(async ({ path }) => {
    if (path === "/first") throw new Error("no room");
    told.push(path);
  });
  for (const path of ["/first", "/second"]) {
    const entry = audit.open("proxy");
    entry.path = path;
    void entry.end();
  }
  await audit.settle();
  expect(told).toEqual(["/second"]);
});

test("what is still going on when all is settled is told as cut, and what ends it later tells nothing more", async () => {
  const told: EgressEvent[] = [];
  const audit = new EgressAudit(async (event) => void told.push(event));
  const entry = audit.open("connect");
  await audit.settle();
  await entry.end();
  expect(told).toMatchObject([{ way: "connect", allowed: true, failure: "cut" }]);
  expect(audit.summary()).toMatchObject({ allowed: 1, denied: 0 });
});
