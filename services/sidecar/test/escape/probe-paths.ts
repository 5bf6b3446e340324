/** Looks at the probes' paths in a run and in the container without protection. */
import type { OpenedControl, OpenedRun } from "./containers.ts";
import type { Hand } from "./hand.ts";
import { OPEN_FILE_SYSTEMS } from "./host-traces.ts";
import { lookAtPaths, type PathProbe } from "./path-probe.ts";

type Found = {
  readonly answers: readonly string[];
  /** The probes with the one path each that is there. */
  readonly chosen: readonly PathProbe[];
};

const USER = "1000:1000";

export async function probePathsOutside(
  control: OpenedControl,
  probes: readonly PathProbe[],
  canary: string,
): Promise<Found> {
  const root = control.hand();
  await root.do((script) => {
    process.getBuiltinModule("node:child_process").spawnSync("sh", ["-c", script]);
  }, OPEN_FILE_SYSTEMS);
  await link(root, "/tmp/link", canary);
  const there = await root.do(
    (list) => list.filter((path) => process.getBuiltinModule("node:fs").existsSync(path)),
    probes.flatMap(({ paths, outside }) => paths.map((path) => outside?.(path) ?? path)),
  );
  const chosen = probes.map((probe) => ({
    ...probe,
    paths: [
      probe.paths.find((path) => there.includes(probe.outside?.(path) ?? path)) ?? probe.paths[0] ?? "",
    ],
  }));
  const user = control.hand(USER);
  const neighbour = await user.do(() => {
    const { spawn } = process.getBuiltinModule("node:child_process");
    const input = process.getBuiltinModule("node:fs").openSync("/etc/passwd", "r");
    return spawn("sleep", ["60"], { stdio: [input, "ignore", "ignore"] }).pid ?? 0;
  });
  const looks = chosen.map((probe) => ({ way: probe.way, path: toOutside(probe, neighbour) }));
  const isGuards = (path: string): boolean => path.startsWith(`/proc/${neighbour}/`);
  const byRoot = await lookAtPaths(root, looks);
  const byUser = await lookAtPaths(
    user,
    looks.map((look) => (isGuards(look.path) ? look : NOWHERE)),
  );
  const answers = looks.map(({ path }, index) => (isGuards(path) ? byUser : byRoot)[index] ?? "");
  return { answers, chosen };
}

const NOWHERE = { way: "list", path: "/nowhere" } as const;

export async function probePathsInside(
  run: OpenedRun,
  probes: readonly PathProbe[],
  canary: string,
): Promise<readonly string[]> {
  await link(run.hand, "/workspace/link", canary);
  const guard = await run.hand.do(() => process.ppid);
  return lookAtPaths(
    run.hand,
    probes.map(({ way, paths: [path = ""] }) => ({ way, path: path.replace("{guard}", String(guard)) })),
  );
}

function toOutside({ paths: [path = ""], outside }: PathProbe, neighbour: number): string {
  return (outside?.(path) ?? path).replace("{guard}", String(neighbour));
}

function link(hand: Hand, at: string, to: string): Promise<void> {
  return hand.do((from, target) => process.getBuiltinModule("node:fs").symlinkSync(target, from), at, to);
}
