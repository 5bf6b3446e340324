// What a container costs: runs in docker and local sandboxes against bare Pi and a bare `docker run`, interleaved in one run.
// `node scripts/bench-docker.ts [--rounds N] [--image NAME] [--json]`; uses the engine that DOCKER_HOST names.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { cpus, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { Run } from "#contract/run";
import {
  type Running,
  runBare,
  runPillion,
  script,
  startModel,
  startService,
  writeBareHome,
} from "./bench-programs.ts";
import { percentile, type Row, toTable } from "./bench-report.ts";

/** Milliseconds of one run, by what they were spent on. */
type Parts = { create: number; start: number; guard: number; pi: number; model: number };
type Figures = {
  image: string;
  bareStart: number[];
  barePi: number[];
  local: number[];
  docker: number[];
  parts: Parts[];
};

async function bench(rounds: number, image: string): Promise<Figures> {
  await using held = new AsyncDisposableStack();
  const scratch = await mkdtemp(join(tmpdir(), "pillion-bench-"));
  held.defer(() => rm(scratch, { recursive: true, force: true }));
  const scriptFile = join(scratch, "script.json");
  await writeFile(scriptFile, JSON.stringify(script));
  const model = held.use(await startModel(scriptFile));
  const baseUrl = `http://127.0.0.1:${model.port}/v1`;
  const agentDir = await writeBareHome(scratch, baseUrl);
  const open = async (kind: string): Promise<Running> => {
    const env = { PILLION_SANDBOX: kind, PILLION_IMAGE: image, DOCKER_HOST: process.env.DOCKER_HOST ?? "" };
    return held.use((await startService(join(scratch, kind), model.port, env)).running);
  };
  const [local, docker] = [await open("local"), await open("docker")];
  const found: Figures = { image, bareStart: [], barePi: [], local: [], docker: [], parts: [] };
  const cases = [
    async (kept: boolean) => keep(kept, found.bareStart, await startBare(image)),
    async (kept: boolean) => keep(kept, found.barePi, (await runBare(scratch, agentDir, "fast")).firstTextMs),
    async (kept: boolean) => keep(kept, found.local, (await runPillion(local, baseUrl, "fast")).firstTextMs),
    async (kept: boolean) => {
      const began = Date.now();
      const { firstTextMs, runId } = await runPillion(docker, baseUrl, "fast");
      keep(kept, found.docker, firstTextMs);
      if (kept) found.parts.push(await readParts(docker, runId, began));
    },
  ];
  for (const one of cases) await one(false); // unmeasured: caches are warm for all or for none
  for (let round = 0; round < rounds; round += 1) {
    for (const one of round % 2 === 0 ? cases : cases.toReversed()) await one(true);
  }
  return found;
}

function keep(kept: boolean, list: number[], value: number): void {
  if (kept) list.push(value);
}

/** From the command until its first output: what any program in a container has to wait for. */
async function startBare(image: string): Promise<number> {
  const began = performance.now();
  const flags = ["--rm", "--init", "--network", "none", "--entrypoint", "echo", image, "up"];
  const child = spawn("docker", ["run", ...flags], { stdio: ["ignore", "pipe", "inherit"] });
  const ended = once(child, "exit");
  await once(child.stdout, "data");
  const ms = performance.now() - began;
  child.stdout.resume();
  await ended;
  return ms;
}

/** By the engine's own events and the run's own record. */
async function readParts(service: Running, runId: string, began: number): Promise<Parts> {
  const { timings } = (await (
    await fetch(`http://127.0.0.1:${service.port}/v1/runs/${runId}`)
  ).json()) as Run;
  const format = ["--format", "{{.Action}} {{.TimeNano}}", "--filter", `label=org.pillion.run=${runId}`];
  const span = [
    "--since",
    String(Math.floor(began / 1000) - 1),
    "--until",
    String(Math.ceil(Date.now() / 1000)),
  ];
  const events = execFileSync("docker", ["events", ...span, ...format], { encoding: "utf8" });
  const at = (action: string): number => {
    const line = events.split("\n").find((text) => text.startsWith(`${action} `));
    if (line === undefined) throw new Error(`the engine tells of no ${action} of ${runId}`);
    return Number(line.split(" ")[1]) / 1e6;
  };
  const started = Date.parse(timings.startedAt ?? "");
  const { sandboxMs, preparingMs, firstOutputMs } = timings;
  if (sandboxMs === null || preparingMs === null || firstOutputMs === null)
    throw new Error("the run has no times");
  return {
    create: at("create") - started,
    start: at("start") - at("create"),
    guard: started + sandboxMs - at("start"),
    pi: preparingMs - sandboxMs,
    model: firstOutputMs - preparingMs,
  };
}

function toRows({ image, bareStart, barePi, local, docker, parts }: Figures): Row[] {
  const median = (values: readonly number[]): number => percentile(values, 0.5);
  const said = (values: readonly number[]): string =>
    `median ${median(values).toFixed(0)} ms, p95 ${percentile(values, 0.95).toFixed(0)} ms`;
  const floor = median(bareStart) + median(barePi);
  const ratio = median(docker) / floor;
  const row = (what: string, reached: string, goal = "", met: boolean | null = null): Row => ({
    what,
    reached,
    goal,
    met,
  });
  const part = (name: keyof Parts): string => said(parts.map((each) => each[name]));
  const bytes = Number(
    execFileSync("docker", ["image", "inspect", "-f", "{{.Size}}", image], { encoding: "utf8" }),
  );
  return [
    row("first text in docker, against bare start + bare Pi", ratio.toFixed(2), "≤ 1.15", ratio <= 1.15),
    row("first text in docker, against local", (median(docker) / median(local)).toFixed(2)),
    row("bare `docker run` to first output", said(bareStart), "the floor"),
    row("bare Pi to first text", said(barePi), "the floor"),
    row("first text, local sandbox", said(local)),
    row("first text, docker sandbox", said(docker)),
    row("  engine creates the container", part("create")),
    row("  engine starts it", part("start")),
    row("  guard is heard, receipt made", part("guard")),
    row("  Pi is up and has taken the claim", part("pi")),
    row("  prompt to first text", part("model")),
    row(`size of ${image}`, `${(bytes / 1e6).toFixed(0)} MB`),
  ];
}

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "12" },
    image: { type: "string", default: "pillion-agent:base" },
    json: { type: "boolean", default: false },
  },
});
const rounds = Number(values.rounds);
if (!Number.isInteger(rounds) || rounds < 1) throw new Error("--rounds must be a whole number from 1 on");
const machine = `${cpus().length} × ${cpus()[0]?.model ?? "unknown"}, load ${loadavg()[0]?.toFixed(2)} before`;
const figures = await bench(rounds, values.image);
process.stdout.write(
  values.json
    ? `${JSON.stringify({ date: new Date().toISOString(), machine, figures }, null, 2)}\n`
    : `Docker sandboxes, ${rounds} rounds of each case in turn; ${machine}.\n\n${toTable(toRows(figures))}`,
);
