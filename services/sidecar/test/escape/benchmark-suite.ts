/** The CIS Docker Benchmark on a live run of the whole service; and on containers as careless people make them. */
import type { ContainerInspectInfo } from "dockerode";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { AGENT_IMAGE, docker } from "../behaviours/open-places.ts";
import { toDockerEnv } from "../fakes/docker-env.ts";
import { type LiveService, openLiveService, post, readEvents } from "../fakes/live-service.ts";
import { openScriptedModel, type ScriptedModel } from "../fakes/scripted-model.ts";
import { toRun, toScriptedRequest } from "../fakes/scripted-request.ts";
import { type ContainerFacts, RECOMMENDATIONS } from "./benchmark.ts";
import type { Tally } from "./tally.ts";

const TEST_LABEL = "org.pillion.test=escape";

/** Made and never started: everything that a container should not have. */
const CARELESS: readonly string[] = [
  ...[
    "--privileged",
    "--network",
    "host",
    "--pid",
    "host",
    "--ipc",
    "host",
    "--uts",
    "host",
    "--userns",
    "host",
  ],
  ...["--volume", "/etc:/host/etc", "--volume", "/var/run/docker.sock:/var/run/docker.sock"],
  ...["--mount", "type=bind,source=/mnt,target=/host/mnt,bind-propagation=shared", "--device", "/dev/null"],
  ...["--restart", "always", "--cgroup-parent", "/careless", "--security-opt", "seccomp=unconfined"],
];
const CARELESS_PORTS: readonly string[] = ["--publish", "80:80"];

export function checkBenchmark(tally: Tally): void {
  describe("S2.3 the CIS Docker Benchmark, section 5, on a live run", () => {
    const held = new AsyncDisposableStack();
    let run: ContainerFacts | undefined;
    let others: readonly ContainerFacts[] = [];

    beforeAll(async () => {
      const model = held.use(await openScriptedModel({}));
      const service = held.use(await openLiveService({ env: toDockerEnv(model) }));
      run = await readLiveRun(service, model);
      const plain = create(
        held,
        "run",
        ["--detach", "--entrypoint", "sh"],
        ["-c", "ln -s /usr/bin/sleep /tmp/sshd; exec /tmp/sshd 600"],
      );
      docker(["exec", "--detach", "--user", "0", plain, "sleep", "600"]);
      const careless = create(held, "create", CARELESS, []);
      const ports = create(held, "create", CARELESS_PORTS, []);
      others = [readFacts(plain), readFacts(careless), readFacts(ports)];
    });
    afterAll(() => held.disposeAsync());

    test.each(RECOMMENDATIONS)("$id $wants", ({ id, holds, notApplicable }) => {
      const reason = notApplicable?.(run!);
      if (reason !== undefined) {
        tally.lack("CIS", `${id} (${reason})`);
        expect(run!.engineSecurity).not.toEqual([]); // the engine did tell what it has
        return;
      }
      tally.begin("CIS");
      expect(holds(run!)).toBe(true);
      expect(others.some((facts) => !holds(facts))).toBe(true);
      tally.hold("CIS");
    });
  });
}

/** The facts of a run that waits for its model. Its container is killed at the end, to see whether that is noticed. */
async function readLiveRun(service: LiveService, model: ScriptedModel): Promise<ContainerFacts> {
  model.reset({ script: [{ fail: "hang" }] });
  const { id } = await toRun(await post(service, "/v1/runs", toScriptedRequest(model)));
  await vi.waitFor(() => expect(model.requests).toHaveLength(1), 20_000);
  const container = docker(["ps", "-q", "--filter", `label=org.pillion.run=${id}`]);
  const facts = readFacts(container);
  docker(["kill", container]);
  const last = (await readEvents(service, id)).at(-1);
  return { ...facts, isWatched: JSON.stringify(last).includes("sandbox_lost") };
}

function create(
  held: AsyncDisposableStack,
  how: "run" | "create",
  flags: readonly string[],
  command: string[],
): string {
  const id = docker([how, "--label", TEST_LABEL, ...flags, AGENT_IMAGE, ...command]);
  held.defer(() => void docker(["rm", "--force", id]));
  return id;
}

function readFacts(container: string): ContainerFacts {
  const inspected: ContainerInspectInfo = JSON.parse(docker(["inspect", container]))[0];
  return {
    inspected,
    programs: inspected.State.Running ? readPrograms(container) : [],
    engineSecurity: JSON.parse(docker(["info", "--format", "{{json .SecurityOptions}}"])),
    newestImage: docker(["image", "inspect", "--format", "{{.Id}}", AGENT_IMAGE]),
    isWatched: false,
  };
}

/** The program of each command line, without its folder. */
function readPrograms(container: string): string[] {
  const lines = docker(["top", container, "-eo", "pid,args"]).split("\n").slice(1);
  return lines.map((line) => line.trim().split(/\s+/)[1]?.split("/").at(-1) ?? "");
}
