/** System calls, each issued in a real run and in a container that nothing protects. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { PRODUCT_DIR } from "../behaviours/open-places.ts";
import { isLacking, isReached } from "./call-probe.ts";
import { CALL_PROBES, NEVER_ISSUED } from "./call-probes.ts";
import { openControl, openRun, UNPROTECTED } from "./containers.ts";
import { issueCalls } from "./probe-calls.ts";
import type { Tally } from "./tally.ts";

export function probeSystemCalls(tally: Tally): void {
  describe("S2.3 S3.4 system calls", () => {
    let [inside, outside]: (readonly string[])[] = [[], []];

    beforeAll(async () => {
      const calls = CALL_PROBES.map(({ steps }) => steps);
      await using run = await openRun();
      await using control = await openControl([...UNPROTECTED, "--network", "none"]);
      inside = await issueCalls(run.hand, calls);
      outside = await issueCalls(control.hand(), calls);
    });

    test.each(CALL_PROBES.map((probe, index) => ({ ...probe, probe, index })))(
      "$class: refused in a run, and there without protection",
      ({ probe, index }) => {
        const control = outside?.[index] ?? "";
        if (isLacking(control)) tally.lack("syscalls", `${probe.class} (${control})`);
        else tally.begin("syscalls");
        expect(inside?.[index]).toBeOneOf([...probe.inside]);
        expect([control, isReached(probe, control) || isLacking(control)]).toEqual([control, true]);
        if (!isLacking(control)) tally.hold("syscalls");
      },
    );

    test("are probed in at least 45 classes, all of them different", () => {
      expect(new Set(CALL_PROBES.map((probe) => probe.class)).size).toBe(CALL_PROBES.length);
      expect(tally.total("syscalls")).toBeGreaterThanOrEqual(45);
    });

    test("that could harm the machine are in no rule of the profile, and so never issued here", () => {
      const profile = JSON.parse(readFileSync(join(PRODUCT_DIR, "docker/seccomp.json"), "utf8"));
      const allowed = toAllowed(profile);
      expect(profile.defaultAction).toBe("SCMP_ACT_ERRNO");
      expect(NEVER_ISSUED.filter((name) => allowed.has(name))).toEqual([]);
      expect(allowed).toContain("read"); // the control: what is allowed is seen
    });
  });
}

function toAllowed(profile: { syscalls: { names: string[]; action: string }[] }): Set<string> {
  return new Set(
    profile.syscalls.filter(({ action }) => action !== "SCMP_ACT_ERRNO").flatMap(({ names }) => names),
  );
}
