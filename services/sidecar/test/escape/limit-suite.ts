/** Limits, each reached in a real run; and passed in a container with a larger one. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type OpenedControl, type OpenedRun, openControl, openRun } from "./containers.ts";
import type { Hand } from "./hand.ts";
import { keepBusy, openFiles, readSwap, spawnMany, takeMemory, tryShell, writeBytes } from "./limit-works.ts";
import type { Tally } from "./tally.ts";

const MiB = 1024 * 1024;

type LimitProbe = {
  readonly class: string;
  /** How the run's container answers. */
  readonly inside: string;
  readonly work: (hand: Hand) => Promise<string>;
};

const PROBES: readonly LimitProbe[] = [
  { class: "memory", inside: "SIGKILL", work: (hand) => hand.do(takeMemory, 600 * MiB) },
  { class: "swap", inside: "none", work: (hand) => hand.do(readSwap) },
  { class: "processes", inside: "EAGAIN", work: (hand) => hand.do(spawnMany, 100) },
  { class: "open files", inside: "EMFILE", work: (hand) => hand.do(openFiles, 5_000) },
  { class: "core files", inside: "refused", work: (hand) => hand.do(tryShell, "ulimit -c 1") },
  { class: "processor time", inside: "throttled", work: (hand) => hand.do(keepBusy, 1_000) },
  { class: "bytes in temp", inside: "ENOSPC", work: (hand) => hand.do(writeBytes, "/tmp", 257) },
  { class: "bytes in home", inside: "ENOSPC", work: (hand) => hand.do(writeBytes, "/home/agent", 129) },
  {
    class: "bytes in the workspace",
    inside: "ENOSPC",
    work: (hand) => hand.do(writeBytes, "/workspace", 65),
  },
  { class: "bytes of shared memory", inside: "ENOSPC", work: (hand) => hand.do(writeBytes, "/dev/shm", 65) },
];

/** Above the run's in everything, and finite. */
const LARGER: readonly string[] = [
  ...["--memory", "1200m", "--memory-swap", "1400m", "--cpus", "2", "--pids-limit", "300"],
  ...["--ulimit", "nofile=8192", "--ulimit", "core=1048576", "--shm-size", "128m", "--network", "none"],
  ...["--tmpfs", "/tmp:size=300m,mode=1777", "--tmpfs", "/home/agent:size=200m,mode=1777"],
  ...["--tmpfs", "/workspace:size=128m,mode=1777"],
];

export function probeLimits(tally: Tally): void {
  describe("S3.3 S2.3 limits", () => {
    let [run, control]: [OpenedRun?, OpenedControl?] = [];
    let user: Hand | undefined;
    beforeAll(async () => {
      // One thread can use more than that, also on a machine that others use.
      run = await openRun({ limits: { cpus: 0.25, memoryBytes: 512 * MiB }, spec: { pids: 64 } });
      control = await openControl(LARGER);
      user = control.hand("1000:1000");
    });
    afterAll(async () => {
      await run?.[Symbol.asyncDispose]();
      await control?.[Symbol.asyncDispose]();
    });

    test.each(PROBES)("$class: no more than the run's share, and more where more is given", async (probe) => {
      tally.begin("limits");
      expect(await probe.work(run!.hand)).toBe(probe.inside);
      expect(await probe.work(user!)).toBe("ok");
      tally.hold("limits");
    });
  });
}
