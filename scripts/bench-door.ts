// What the door costs: one program asks the same servers directly and from inside sandboxes, interleaved in one run.
// `node scripts/bench-door.ts [--rounds N] [--image NAME] [--no-docker] [--json]`; its `--help` says more.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { cpus, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { parseArgs } from "node:util";
import type { Run } from "#contract/run";
import type { ProbeOrder, ProbeResult } from "./bench-door-probe.ts";
import { type DoorServers, openDoorServers } from "./bench-door-server.ts";
import { PROJECT, type Running, startService } from "./bench-programs.ts";
import { percentile, type Row, toTable } from "./bench-report.ts";
import { readPeak, readRss, resetPeak } from "./process-usage.ts";

const HELP = `Usage: node scripts/bench-door.ts [--rounds N] [--image NAME] [--no-docker] [--json]

What the door costs, against the same servers asked directly. Needs a build (npm run build), openssl, and for the docker
sandbox an engine on this machine (DOCKER_HOST) with the image.

  --rounds N      rounds of every case, in turn (default 5: 500 calls of each kind)
  --image NAME    image with node and bash (default pillion-agent:slim)
  --no-docker     local sandboxes only
  --json          all figures

One program (scripts/bench-door-probe.ts) asks in every case, with the same Node. It makes its requests one after the other
on one kept connection. The floor of a local sandbox is that program on this machine; the floor of a docker sandbox is it
in a container of the same image, under the same seccomp profile and without capabilities, on the host's own network:
loopback, the fastest way that a container can have. So what is told as added is all that stands between: sandbox,
guard, pipe, broker, and the journal's line for each request. The servers are this bench's own, on loopback.
`;

const PROBE = join(PROJECT, "scripts/bench-door-probe.ts");
const CALLS = 100;
const STREAMS = 20;
const MEGABYTES = 32;
const SECRET = "bench-secret-0123456789abcdef";

type Case = "local floor" | "docker floor" | "local" | "docker" | "local plain" | "docker plain";
type Figures = { results: Record<Case, ProbeResult[]>; memory: Record<"local" | "docker", number[]> };

async function bench(rounds: number, image: string, hasDocker: boolean): Promise<Figures> {
  await using held = new AsyncDisposableStack();
  const scratch = await mkdtemp(join(tmpdir(), "pillion-bench-"));
  held.defer(() => rm(scratch, { recursive: true, force: true }));
  const servers = held.use(await openDoorServers(scratch));
  const order: ProbeOrder = { ports: servers.ports, calls: CALLS, streams: STREAMS, megabytes: MEGABYTES };
  const found: Figures = {
    results: {
      "local floor": [],
      "docker floor": [],
      local: [],
      docker: [],
      "local plain": [],
      "docker plain": [],
    },
    memory: { local: [], docker: [] },
  };
  const kinds = hasDocker ? (["local", "docker"] as const) : (["local"] as const);
  const cases: [Case, () => Promise<ProbeResult>][] = [];
  for (const kind of kinds) {
    const env = toServiceEnv(kind, image, order.ports);
    const service = held.use((await startService(join(scratch, kind), order.ports.model, env)).running);
    const inside = (hasSecrets: boolean) => async (): Promise<ProbeResult> => {
      await resetPeak(service.pid);
      const before = await readRss(service.pid);
      const result = await probeInside(service, kind, servers, order, hasSecrets);
      found.memory[kind].push((await readPeak(service.pid)) - before);
      return result;
    };
    cases.push([
      `${kind} floor`,
      () => (kind === "local" ? probeHere(order) : probeInContainer(image, order)),
    ]);
    cases.push([kind, inside(true)], [`${kind} plain`, inside(false)]);
  }
  for (const [, one] of cases) await one(); // unmeasured: what is loaded once is loaded
  found.memory = { local: [], docker: [] };
  for (let round = 0; round < rounds; round += 1) {
    // The order alternates, so that a drift of the machine hits all alike.
    for (const [name, one] of round % 2 === 0 ? cases : cases.toReversed())
      found.results[name].push(await one());
  }
  return found;
}

function toServiceEnv(kind: string, image: string, ports: ProbeOrder["ports"]): Record<string, string> {
  const { model, files, tls } = ports;
  return {
    PILLION_SANDBOX: kind,
    PILLION_IMAGE: image,
    DOCKER_HOST: process.env.DOCKER_HOST ?? "",
    PILLION_ALLOWED_PROGRAMS: "bash",
    PILLION_STEPS: "100000",
    PILLION_REQUESTS: "1000000",
    PILLION_EGRESS_BYTES: "64g",
    PILLION_EGRESS: `http://127.0.0.1:${files},localhost:${tls}`,
    PILLION_PRIVATE_TARGETS: `http://127.0.0.1:${model},http://127.0.0.1:${files},https://localhost:${tls}`,
  };
}

// --- the places where the probe runs

async function probeHere(order: ProbeOrder): Promise<ProbeResult> {
  return readResult(
    spawn(process.execPath, [PROBE, JSON.stringify(order)], { stdio: ["ignore", "pipe", "inherit"] }),
  );
}

async function probeInContainer(image: string, order: ProbeOrder): Promise<ProbeResult> {
  const locks = [
    "--cap-drop",
    "ALL",
    "--security-opt",
    "no-new-privileges",
    "--user",
    "1000:1000",
    "--read-only",
  ];
  const seccomp = ["--security-opt", `seccomp=${join(PROJECT, "docker/seccomp.json")}`];
  const program = [
    "--entrypoint",
    "node",
    image,
    "--input-type=module-typescript",
    "-",
    JSON.stringify(order),
  ];
  const flags = ["run", "--rm", "-i", "--init", "--network", "host", ...locks, ...seccomp, ...program];
  const child = spawn("docker", flags, { stdio: ["pipe", "pipe", "inherit"] });
  child.stdin.end(await readFile(PROBE));
  return readResult(child);
}

async function readResult(child: ChildProcess): Promise<ProbeResult> {
  if (child.stdout === null) throw new Error("the probe has no output");
  const [said] = await Promise.all([text(child.stdout), once(child, "exit")]);
  return toResult(said);
}

/** A run whose agent is told by its model to start the probe in its shell. */
async function probeInside(
  service: Running,
  kind: string,
  servers: DoorServers,
  order: ProbeOrder,
  hasSecrets: boolean,
): Promise<ProbeResult> {
  const { model, files } = order.ports;
  const node = kind === "local" ? "/proc/$PPID/exe" : "node"; // a machine may have another one
  servers.command = `${node} probe.ts '${JSON.stringify(order)}'`;
  const credentials = [
    { host: `127.0.0.1:${model}`, header: "authorization", value: `Bearer ${SECRET}` },
    { host: `127.0.0.1:${files}`, header: "x-api-key", value: SECRET.toUpperCase() },
  ];
  const body = {
    prompt: "Run the probe.",
    model: { name: "bench/door", baseUrl: `http://127.0.0.1:${model}/v1`, api: "openai-completions" },
    agent: { tools: ["bash"] },
    execution: { allowedPrograms: ["bash"] },
    egress: [`http://127.0.0.1:${files}`, `localhost:${order.ports.tls}`],
    workspace: { kind: "files", files: [{ path: "probe.ts", content: await readFile(PROBE, "utf8") }] },
    sandbox: { kind },
    ...(hasSecrets ? { credentials } : {}),
  };
  const headers = { "content-type": "application/json" };
  const sent = { method: "POST", headers, body: JSON.stringify(body) };
  const answer = await fetch(`http://127.0.0.1:${service.port}/run`, sent);
  const run = (await answer.json()) as Run;
  if (run.outcome !== "succeeded") throw new Error(`a run failed: ${JSON.stringify(run)}`);
  return toResult(servers.told);
}

function toResult(said: string): ProbeResult {
  if (!said.startsWith("{")) throw new Error(`the probe failed: ${said}`);
  return JSON.parse(said) as ProbeResult;
}

// --- what came of it

type TimeName = "model" | "baseUrl" | "fresh" | "firstDelta";

function toRows({ results, memory }: Figures): Row[] {
  const kinds = (["local", "docker"] as const).filter((kind) => results[kind].length > 0);
  return kinds.flatMap((kind) => {
    const [floor, door, plain] = [results[`${kind} floor`], results[kind], results[`${kind} plain`]];
    const time = (what: string, name: TimeName, mostMs?: number): Row[] =>
      toTimeRows(kind, what, name, floor, door, mostMs);
    const rate = (samples: readonly ProbeResult[], name: "largeRate" | "tunnelRate"): number =>
      percentile(
        samples.map((one) => one[name]),
        0.5,
      );
    const rates = (what: string, samples: readonly ProbeResult[], name: "largeRate" | "tunnelRate"): Row => {
      const [ours, theirs] = [rate(samples, name), rate(floor, name)];
      const said = `${ours.toFixed(0)} MB/s of ${theirs.toFixed(0)} directly (${((100 * ours) / theirs).toFixed(0)} %)`;
      return { what: `${kind}: ${what}`, reached: said, goal: "", met: null };
    };
    const mostMb = Math.max(...memory[kind]) / 1e6;
    return [
      ...time("model call", "model", 5),
      ...time("base URL", "baseUrl", 5),
      ...time("base URL, a connection each", "fresh"),
      ...time("first delta", "firstDelta", 10),
      rates("large answer, two secrets to look for", door, "largeRate"),
      rates("large answer, no secret", plain, "largeRate"),
      rates("tunnel", door, "tunnelRate"),
      {
        what: `${kind}: memory of the service, most added by a run`,
        reached: `${mostMb.toFixed(0)} MB`,
        goal: "",
        met: null,
      },
    ];
  });
}

function toTimeRows(
  kind: string,
  what: string,
  name: TimeName,
  floor: readonly ProbeResult[],
  door: readonly ProbeResult[],
  mostMs?: number,
): Row[] {
  const at = (samples: readonly ProbeResult[], share: number): number =>
    percentile(
      samples.flatMap((one) => one[name]),
      share,
    );
  const added = (share: number): number => at(door, share) - at(floor, share);
  const [median, p90] = [added(0.5), added(0.9)];
  const floorSaid = `directly ${at(floor, 0.5).toFixed(2)} ms, p90 ${at(floor, 0.9).toFixed(2)}`;
  return [
    {
      what: `${kind}: ${what}, added`,
      reached: `median ${median.toFixed(2)} ms, p90 ${p90.toFixed(2)} ms (${floorSaid})`,
      goal: mostMs === undefined ? "" : `≤ ${mostMs} ms median`,
      met: mostMs === undefined ? null : median <= mostMs,
    },
  ];
}

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "5" },
    image: { type: "string", default: "pillion-agent:slim" },
    "no-docker": { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    help: { type: "boolean", short: "h", default: false },
  },
});
if (values.help) {
  process.stdout.write(HELP);
  process.exit();
}
const rounds = Number(values.rounds);
if (!Number.isInteger(rounds) || rounds < 1) throw new Error("--rounds must be a whole number from 1 on");
const machine = `${cpus().length} × ${cpus()[0]?.model ?? "unknown"}, load ${loadavg()[0]?.toFixed(2)} before`;
const figures = await bench(rounds, values.image, !values["no-docker"]);
process.stdout.write(
  values.json
    ? `${JSON.stringify({ date: new Date().toISOString(), machine, figures }, null, 2)}\n`
    : `The door, ${rounds} rounds of each case in turn, ${rounds * CALLS} calls of each kind; ${machine}.\n` +
        "Added: over the same program asking the same server directly; for docker in a container of the same image on\n" +
        `loopback. Two credentials are put in; a large answer has ${MEGABYTES} MB.\n\n${toTable(toRows(figures))}`,
);
