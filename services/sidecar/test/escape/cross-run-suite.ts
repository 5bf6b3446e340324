/** Two real runs at once that look for each other; and two processes of one container, which find each other. */
import { randomInt, randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { type Argument, type Step, step, text } from "./call-program.ts";
import { type OpenedControl, type OpenedRun, openControl, openRun, UNPROTECTED } from "./containers.ts";
import { CROSS_RUN_PROBES } from "./cross-run-probes.ts";
import type { Hand } from "./hand.ts";
import { issueCalls, startCalls } from "./probe-calls.ts";
import type { Tally } from "./tally.ts";

const [CREATE, HERE, EXCLUSIVE_NOW] = [0o1000, -100, 6];
const USER_KEYRING = -4;
const KEY = randomInt(1, 2 ** 31);
const NAME = `pillion-${randomUUID()}`;
const key = (...more: Argument[]): Argument[] => [text("user"), text(NAME), ...more];

/** What needs calls that Node does not have: left by the first steps, found by the second. */
const BY_CALL: readonly { class: string; leave: readonly Step[]; look: readonly Step[] }[] = [
  {
    class: "shared memory of System V",
    leave: [["shmget", KEY, 4096, CREATE | 0o600]],
    look: [["shmget", KEY, 4096, 0]],
  },
  {
    class: "semaphores of System V",
    leave: [["semget", KEY, 1, CREATE | 0o600]],
    look: [["semget", KEY, 1, 0]],
  },
  {
    class: "message queues of System V",
    leave: [["msgget", KEY, CREATE | 0o600]],
    look: [["msgget", KEY, 0]],
  },
  {
    class: "message queues of POSIX",
    leave: [["mq_open", text(NAME), 0o102, 0o600, 0]],
    look: [["mq_open", text(NAME), 0]],
  },
  {
    class: "keys of the user",
    // The kernel forgets it after some seconds.
    leave: [
      ["add_key", ...key(text("x"), 1, USER_KEYRING)],
      ["keyctl", 15, step(0), 20],
    ],
    look: [["keyctl", 10, USER_KEYRING, ...key(0)]],
  },
];

/** Held until its process is ended. */
const HOLD_LOCK: readonly Step[] = [
  ["openat", HERE, text("/etc/passwd"), 0],
  ["flock", step(0), EXCLUSIVE_NOW],
  ["ppoll", 0, 0, 0, 0, 8],
];
const TRY_LOCK: readonly Step[] = [
  ["openat", HERE, text("/etc/passwd"), 0],
  ["flock", step(0), EXCLUSIVE_NOW],
];

type Pair = { readonly first: Hand; readonly second: Hand };

export function probeOtherRuns(tally: Tally): void {
  describe("S3.5 S2.3 another run", () => {
    let [one, other, both]: [OpenedRun?, OpenedRun?, OpenedControl?] = [];
    let [apart, together]: [Pair?, Pair?] = [];
    beforeAll(async () => {
      [one, other, both] = await Promise.all([openRun(), openRun(), openControl(UNPROTECTED)]);
      apart = { first: one.hand, second: other.hand };
      together = { first: both.hand("1000:1000"), second: both.hand("1000:1000") };
    });
    afterAll(async () => {
      for (const opened of [one, other, both]) await opened?.[Symbol.asyncDispose]();
    });

    test.each(CROSS_RUN_PROBES)(
      "$class: not shared with another run, and shared inside one container",
      async (probe) => {
        tally.begin("cross-run");
        const isFound = async ({ first, second }: Pair): Promise<boolean> => {
          const token = randomUUID();
          const seen = await probe.look(second, token, await probe.leave(first, token));
          return (probe.notice === undefined ? seen : await probe.notice(first, token)) === "found";
        };
        expect([await isFound(apart!), await isFound(together!)]).toEqual([false, true]);
        tally.hold("cross-run");
      },
    );

    test.each(BY_CALL)(
      "$class: not shared with another run, and shared inside one container",
      async ({ leave, look }) => {
        tally.begin("cross-run");
        const isFound = async ({ first, second }: Pair): Promise<boolean> => {
          await issueCalls(first, [leave]);
          return (await issueCalls(second, [look]))[0] === "ok";
        };
        expect([await isFound(apart!), await isFound(together!)]).toEqual([false, true]);
        tally.hold("cross-run");
      },
    );

    test("locks on a file of the image: not shared with another run, and shared inside one container", async () => {
      tally.begin("cross-run");
      const isHeld = async (hand: Hand): Promise<boolean> =>
        (await issueCalls(hand, [TRY_LOCK]))[0] === "EAGAIN";
      for (const { first } of [apart!, together!]) {
        await startCalls(first, HOLD_LOCK);
        await vi.waitFor(async () => expect(await isHeld(first)).toBe(true), 5_000);
      }
      expect([await isHeld(apart!.second), await isHeld(together!.second)]).toEqual([false, true]);
      tally.hold("cross-run");
    });

    test("the door: a run reaches its own, and no other's", async () => {
      tally.begin("cross-run");
      const call = (hand: Hand, port: number): Promise<string> =>
        hand.do(
          (to) =>
            new Promise((resolve) => {
              const socket = process.getBuiltinModule("node:net").connect(to, "127.0.0.1");
              socket.once("error", () => resolve("")).once("close", () => resolve(""));
            }),
          port,
        );
      await call(apart!.second, one!.sandbox.doorPort);
      expect(one!.doorCalls()).toBe(0);
      await call(apart!.first, one!.sandbox.doorPort);
      expect(one!.doorCalls()).toBe(1);
      tally.hold("cross-run");
    });

    test("are probed in at least 15 classes, all of them different", () => {
      const classes = [...CROSS_RUN_PROBES, ...BY_CALL].map((probe) => probe.class);
      expect(new Set(classes).size).toBe(classes.length);
      expect(tally.total("cross-run")).toBeGreaterThanOrEqual(15);
    });
  });
}
