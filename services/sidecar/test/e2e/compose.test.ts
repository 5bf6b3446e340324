/** The compose file as an operator uses it: the service in a container drives the engine beside it, through the proxy only. */
import { spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import type { Run } from "#contract/run";
import { AGENT_IMAGE, docker, readEngine, readEngineHost } from "../behaviours/open-places.ts";
import { SIDECAR_IMAGE, send, waitForHealth } from "../fakes/sidecar-container.ts";

// Several containers start in one test.
vi.setConfig({ testTimeout: 120_000 });

const ROOT = join(import.meta.dirname, "../../../..");
const PROJECT = `pillion-compose-${process.pid}`;
const TOKEN = "token-of-this-test-0123456789";
const REQUEST = { model: "demo/tour", prompt: "Look" };
/** Made here with the authority that this machine's network may need; elsewhere it is empty. */
const AUTHORITY = process.env.NODE_EXTRA_CA_CERTS ?? "/dev/null";

let directory: string;
let url: string;

/** One compose command; throws with what it said where it fails. */
function compose(args: readonly string[], more: readonly string[] = []) {
  const files = ["-f", join(ROOT, "docker/compose.yaml"), ...more];
  const line = ["compose", "-p", PROJECT, "--env-file", join(directory, "env"), ...files, ...args];
  const { status, stdout, stderr } = spawnSync("docker", line, { encoding: "utf8", env: readEngine() });
  if (status !== 0) throw new Error(`docker ${line.join(" ")}: ${stderr}`);
  return { stdout: stdout.trim(), stderr };
}

async function start(): Promise<void> {
  compose(["up", "--detach", "--no-build", "sidecar"]);
  url = `http://${compose(["port", "sidecar", "8765"]).stdout}`;
  await waitForHealth(url);
}

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "pillion-compose-"));
  chmodSync(directory, 0o755);
  const settings = {
    PILLION_SIDECAR_IMAGE: SIDECAR_IMAGE,
    PILLION_IMAGE: AGENT_IMAGE,
    PILLION_ENGINE_SOCKET: readEngineHost().replace("unix://", ""),
    PILLION_TOKEN_FILE: join(directory, "token"),
    PILLION_PUBLISH: "127.0.0.1:0",
    PILLION_MEMORY: "1g",
  };
  writeFileSync(
    join(directory, "env"),
    Object.entries(settings)
      .map(([name, value]) => `${name}=${value}\n`)
      .join(""),
  );
  writeFileSync(join(directory, "token"), `${TOKEN}\n`);
  await start();
}, 120_000);
afterAll(() => {
  compose(["--profile", "*", "down", "--volumes", "--timeout", "10"]);
  rmSync(directory, { recursive: true, force: true });
  const label = `label=com.docker.compose.project=${PROJECT}`;
  expect(docker(["ps", "-aq", "--filter", label]) + docker(["volume", "ls", "-q", "--filter", label])).toBe(
    "",
  );
}, 60_000);

function inspect(service: string) {
  const [found] = JSON.parse(docker(["inspect", compose(["ps", "--all", "--quiet", service]).stdout]));
  return found;
}

const findOfRun = (id: string, ...flags: string[]): string =>
  docker(["ps", "-q", ...flags, "--filter", `label=org.pillion.run=${id}`]);

async function readRun(id: string): Promise<Run> {
  const answer = await fetch(`${url}/v1/runs/${id}`, { headers: { authorization: `Bearer ${TOKEN}` } });
  return (await answer.json()) as Run; // the test that asks compares what matters
}

describe("S2.11 the compose file", () => {
  test("brings up a service that is ready and does runs, with files too, in containers beside its own", async () => {
    expect((await fetch(`${url}/readyz`)).status).toBe(200);
    expect((await send(url, "/run", REQUEST)).status).toBe(401);
    const workspace = { kind: "files", files: [{ path: "a.txt", content: "a" }] };
    for (const more of [{}, { workspace }, { workspace, role: "reader" }]) {
      const run = (await (await send(url, "/run", { ...REQUEST, ...more }, TOKEN)).json()) as Run;
      expect(run).toMatchObject({
        outcome: "succeeded",
        receipt: { kind: "docker", isolated: true, network: "none" },
        stop: { verified: true },
      });
      expect(findOfRun(run.id, "--all")).toBe("");
    }
    expect(compose(["logs", "engine-proxy"]).stdout).not.toContain('"refused"');
  });

  test("S2.3 locks both down, gives the engine's socket to the proxy alone, and the proxy no network", () => {
    const [sidecar, proxy] = [inspect("sidecar"), inspect("engine-proxy")];
    for (const { HostConfig } of [sidecar, proxy])
      expect(HostConfig).toMatchObject({
        ReadonlyRootfs: true,
        CapDrop: ["ALL"],
        SecurityOpt: ["no-new-privileges:true"],
        Privileged: false,
        Memory: expect.any(Number),
        PidsLimit: expect.any(Number),
      });
    const toTargets = ({ Mounts }: { Mounts: { Destination: string; RW: boolean }[] }) =>
      Mounts.map(({ Destination, RW }) => `${Destination} ${RW ? "rw" : "ro"}`).toSorted();
    const [nothing, token] = ["/run/secrets/no-credentials ro", "/run/secrets/token ro"];
    expect(toTargets(sidecar)).toEqual(["/data rw", "/run/pillion ro", nothing, token]);
    expect(toTargets(proxy)).toEqual(["/run/pillion rw", "/var/run/docker.sock rw"]);
    expect(proxy.HostConfig.NetworkMode).toBe("none");
    expect(sidecar.Config.User).toBe("1000:1000");
    expect(JSON.stringify([sidecar, proxy])).not.toContain(TOKEN);
    expect(sidecar.NetworkSettings.Ports["8765/tcp"]).toMatchObject([{ HostIp: "127.0.0.1" }]);
  });

  test("S4.6 what an operator sets reaches the service: a list of hosts, a ceiling, a file of credentials", async () => {
    const file = join(directory, "credentials.json");
    const credential = {
      name: "tracker",
      host: "api.example",
      header: "authorization",
      value: "Bearer 0123456789",
    };
    writeFileSync(file, JSON.stringify([credential]));
    const settings = {
      PILLION_EGRESS: "api.example",
      PILLION_TOKENS: "5000000",
      PILLION_CREDENTIALS_FILE: file,
    };
    const before = readFileSync(join(directory, "env"), "utf8");
    const more = Object.entries(settings).map(([name, value]) => `${name}=${value}\n`);
    writeFileSync(join(directory, "env"), before + more.join(""));
    await start();
    const answer = await fetch(`${url}/v1/capabilities`, { headers: { authorization: `Bearer ${TOKEN}` } });
    expect(await answer.json()).toMatchObject({ egress: ["api.example"], limits: { tokens: 5_000_000 } });
    const request = {
      ...{ ...REQUEST, egress: ["api.example"] },
      credentials: [{ host: "api.example", header: "authorization", valueFrom: "tracker" }],
    };
    const run = (await (await send(url, "/run", request, TOKEN)).json()) as Run;
    expect(run).toMatchObject({ outcome: "succeeded" });
    writeFileSync(join(directory, "env"), before);
    await start();
  });

  test("what the proxy does not allow cannot be had from inside the service's container", () => {
    const ask = (path: string): string =>
      `const r = require("node:http").request({ socketPath: "/run/pillion/engine.sock", path: "${path}", method: "GET" },
        (a) => { console.log(a.statusCode); a.resume(); }); r.end();`;
    const say = (path: string) => compose(["exec", "-T", "sidecar", "node", "-e", ask(path)]).stdout;
    expect([say("/_ping"), say("/containers/json"), say("/secrets")]).toEqual(["200", "403", "403"]);
  });

  test("S4.4 does one run by another command of the same image", () => {
    const done = compose(["run", "--rm", "--no-deps", "-T", "sidecar", "run", "--demo", "--json"]);
    expect(JSON.parse(done.stdout)).toMatchObject({ outcome: "succeeded", receipt: { kind: "docker" } });
  });

  test("S3.12 a service that is killed leaves no container running, and its next start tells of the lost run", async () => {
    const created = (await (await send(url, "/v1/runs", REQUEST, TOKEN)).json()) as Run;
    await vi.waitFor(() => expect(findOfRun(created.id)).not.toBe(""), { timeout: 15_000, interval: 20 });
    docker(["kill", "--signal", "KILL", inspect("sidecar").Id]);
    await vi.waitFor(() => expect(findOfRun(created.id)).toBe(""), { timeout: 15_000, interval: 50 });
    await start();
    expect(await readRun(created.id)).toMatchObject({ state: "ended", outcome: "lost" });
    expect(findOfRun(created.id, "--all")).toBe("");
  });

  test("a proxy that is killed ends the runs, and is back by itself", async () => {
    const created = (await (await send(url, "/v1/runs", REQUEST, TOKEN)).json()) as Run;
    await vi.waitFor(() => expect(findOfRun(created.id)).not.toBe(""), { timeout: 15_000, interval: 20 });
    compose(["kill", "engine-proxy"]);
    await vi.waitFor(() => expect(findOfRun(created.id)).toBe(""), { timeout: 15_000, interval: 50 });
    await start();
    await vi.waitFor(async () => expect((await fetch(`${url}/readyz`)).status).toBe(200), 15_000);
    const run = (await (await send(url, "/run", REQUEST, TOKEN)).json()) as Run;
    expect(run.outcome).toBe("succeeded");
  });

  test("builds the image of runs in its profile, and nothing of that profile is up", () => {
    expect(compose(["config", "--services"]).stdout.split("\n").toSorted()).toEqual([
      "engine-proxy",
      "sidecar",
    ]);
    expect(compose(["config", "--profiles"]).stdout.split("\n").toSorted()).toEqual(["build", "dev"]);
    const secret = { secrets: { extra_ca: { file: AUTHORITY } } };
    const image = `${AGENT_IMAGE.split(":")[0]}:${PROJECT}`;
    const build = { secrets: ["extra_ca"], tags: [image] };
    const more = join(directory, "authority.json");
    writeFileSync(more, JSON.stringify({ ...secret, services: { "agent-image": { image, build } } }));
    compose(["--profile", "build", "build", "agent-image"], ["-f", more]);
    expect(docker(["image", "rm", image])).toContain("Untagged");
  }, 300_000);
});
