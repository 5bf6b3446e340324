/** Paths, each tried in a real run and in a container that nothing protects. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openControl, openRun, UNPROTECTED } from "./containers.ts";
import { openHostTraces } from "./host-traces.ts";
import { GUARD_PROBES, PATH_PROBES, toHostProbes } from "./path-probes.ts";
import { probePathsInside, probePathsOutside } from "./probe-paths.ts";
import type { Tally } from "./tally.ts";

export function probePaths(tally: Tally): void {
  describe("S3.5 paths", () => {
    const host = openHostTraces();
    afterAll(() => host[Symbol.dispose]());
    const probes = [...PATH_PROBES, ...toHostProbes(host.facts), ...GUARD_PROBES];
    let [inside, outside]: (readonly string[])[] = [[], []];

    beforeAll(async () => {
      await using control = await openControl([...UNPROTECTED, ...host.flags]);
      await using run = await openRun();
      const found = await probePathsOutside(control, probes, host.facts.canary);
      outside = found.answers;
      inside = await probePathsInside(run, found.chosen, host.facts.canary);
    });

    test.each(probes.map((probe, index) => ({ ...probe, probe, index })))(
      "$class: closed in a run, and open without protection",
      ({ probe, index }) => {
        const control = outside?.[index] ?? "";
        const isThere = !["ENOENT", "ENXIO", "ENODEV"].includes(control);
        if (isThere) tally.begin("paths");
        else tally.lack("paths", `${probe.class} (${control})`);
        expect(inside?.[index]).toBeOneOf([...probe.inside]);
        expect([control, control === "ok" || !isThere]).toEqual([control, true]);
        if (isThere) tally.hold("paths");
      },
    );

    test("are probed in at least 40 classes, all of them different", () => {
      expect(new Set(probes.map((probe) => probe.class)).size).toBe(probes.length);
      expect(tally.total("paths")).toBeGreaterThanOrEqual(40);
    });
  });
}
