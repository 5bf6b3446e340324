/** The service's image as an operator starts it: at any uid, locked down, with and without what it needs. */
import { spawnSync } from "node:child_process";
import { chmodSync, cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { docker, readEngine } from "../behaviours/open-places.ts";
import { LOCKED, openSidecarContainer, SIDECAR_IMAGE, send } from "../fakes/sidecar-container.ts";

// Several containers start in one test.
vi.setConfig({ testTimeout: 120_000 });

const TOKEN = "token-of-this-test-0123456789";
const REQUEST = { model: "demo/tour", prompt: "Look" };
let directory: string;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "pillion-image-"));
  chmodSync(directory, 0o755);
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** Runs it to its end. */
function runImage(flags: readonly string[], ...args: string[]) {
  const line = ["run", "--rm", ...flags, SIDECAR_IMAGE, ...args];
  return spawnSync("docker", line, { encoding: "utf8", env: readEngine() });
}

describe("started", () => {
  test.each([
    ["plainly", []],
    ["at a uid that no list knows", ["--user", "12345"]],
    ["at a uid and gid that no list knows, locked", ["--user", "12345:54321", ...LOCKED]],
    ["as root without any right, locked", ["--user", "0:0", ...LOCKED]],
  ])("S1.10 %s, it answers the probes and says by name what is missing for the rest", async (_how, flags) => {
    await using sidecar = await openSidecarContainer({ flags });
    const health = await fetch(`${sidecar.url}/health`);
    expect(await health.json()).toEqual({ status: "ok" });
    const ready = await fetch(`${sidecar.url}/readyz`);
    expect({ status: ready.status, text: await ready.text() }).toEqual({
      status: 503,
      text: expect.stringContaining(
        "There is no container engine at the configured address (PILLION_DOCKER_HOST)",
      ),
    });
    const refused = await send(sidecar.url, "/v1/runs", REQUEST);
    expect(await refused.json()).toMatchObject({
      status: 401,
      code: "unauthenticated",
      detail: expect.stringContaining("PILLION_TOKEN"),
    });
  });

  test("S3.2 without an engine, every run is refused with what to do about it", async () => {
    const flags = [...LOCKED, "--env", `PILLION_TOKEN=${TOKEN}`];
    await using auto = await openSidecarContainer({ flags });
    expect(await (await send(auto.url, "/run", REQUEST, TOKEN)).json()).toMatchObject({
      status: 503,
      code: "isolation_unavailable",
      detail: expect.stringContaining("giving Pillion a container engine (PILLION_DOCKER_HOST"),
    });
    await using strict = await openSidecarContainer({ flags: [...flags, "--env", "PILLION_SANDBOX=docker"] });
    expect(await (await send(strict.url, "/run", REQUEST, TOKEN)).json()).toMatchObject({
      status: 503,
      code: "sandbox_unavailable",
      detail: expect.stringContaining("PILLION_DOCKER_HOST"),
    });
  });

  test("S4.4 with another command, it does one run instead, and flags of `serve` are understood", () => {
    const refused = runImage([...LOCKED, "--network", "none"], "run", "--demo");
    expect({ status: refused.status, stderr: refused.stderr }).toEqual({
      status: 125,
      stderr: expect.stringContaining("PILLION_DOCKER_HOST"),
    });
    const help = runImage([...LOCKED, "--network", "none"], "serve", "--help");
    expect({ status: help.status, stdout: help.stdout }).toEqual({
      status: 0,
      stdout: expect.stringContaining("--workspace-roots"),
    });
  });

  test("S1.10 a data directory that it cannot write to is told with its path, the uid and what to do", () => {
    const data = join(directory, "data");
    mkdirSync(data);
    const flags = [...LOCKED, "--volume", `${data}:/data`, "--network", "none"];
    const { status, stderr } = runImage([...flags, "--user", "12345"]);
    expect({ status, stderr }).toEqual({
      status: 1,
      stderr: expect.stringMatching(
        /^pillion: the data directory \/data\/pillion cannot be written to by uid 12345\. .*--user.*volume/m,
      ),
    });
    mkdirSync(join(data, "pillion"), { mode: 0o700 }); // of another user
    chmodSync(data, 0o777);
    expect(runImage([...flags, "--user", "12345"])).toMatchObject({
      status: 1,
      stderr: expect.stringContaining("cannot be written to by uid 12345"),
    });
  });

  test("S4.8 it ends at SIGTERM by itself, and has written nothing outside its data and temp", async () => {
    await using sidecar = await openSidecarContainer();
    docker(["stop", "--time", "20", sidecar.name]);
    expect(docker(["inspect", "-f", "{{.State.ExitCode}}", sidecar.name])).toBe("0");
    expect(docker(["diff", sidecar.name])).toBe("");
  });

  test("its health check tells a service that answers from one that does not", async () => {
    await using sidecar = await openSidecarContainer({ flags: [...LOCKED, "--health-interval", "1s"] });
    const [{ Config }] = JSON.parse(docker(["image", "inspect", SIDECAR_IMAGE]));
    const check = (Config.Healthcheck.Test as string[]).slice(1);
    expect(Config.Healthcheck.Test[0]).toBe("CMD"); // no shell, no curl
    expect(docker(["exec", sidecar.name, ...check])).toBe("");
    const failing = [
      "--env",
      "PILLION_PORT=9",
      sidecar.name,
      "sh",
      "-c",
      `${check.join(" ")} || echo failed`,
    ];
    expect(docker(["exec", ...failing])).toMatch(/^no answer of health at 127.0.0.1:9: .*\nfailed$/);
  });
});

describe("what is mounted over its own", () => {
  test("S1.12 config and skills take the place of the baked ones", async () => {
    const root = join(import.meta.dirname, "../../../..");
    mkdirSync(join(directory, "skills/own"), { recursive: true });
    cpSync(join(root, "config"), join(directory, "config"), { recursive: true });
    writeFileSync(join(directory, "config/agent.json"), "{ not JSON");
    writeFileSync(
      join(directory, "skills/own/SKILL.md"),
      "---\nname: own\ndescription: Ours.\n---\nDo it.\n",
    );
    const config = ["--volume", `${directory}/config:/app/config:ro`];
    const skills = ["--volume", `${directory}/skills:/app/skills:ro`];
    const broken = runImage([...LOCKED, ...config, "--network", "none"]);
    expect({ status: broken.status, stderr: broken.stderr }).toEqual({
      status: 2,
      stderr: expect.stringContaining("/app/config/agent.json cannot be used: it is not JSON"),
    });
    const flags = [...LOCKED, "--env", `PILLION_TOKEN=${TOKEN}`];
    const ask = async (url: string, skill: string) => {
      const answer = await send(url, "/run", { ...REQUEST, agent: { skills: [{ name: skill }] } }, TOKEN);
      return ((await answer.json()) as { code: string }).code;
    };
    // A skill that is there gets as far as to the sandbox, which there is none of.
    await using own = await openSidecarContainer({ flags: [...flags, ...skills] });
    await using baked = await openSidecarContainer({ flags });
    expect([await ask(own.url, "own"), await ask(own.url, "code-review")]).toEqual([
      "isolation_unavailable",
      "invalid_request",
    ]);
    expect([await ask(baked.url, "own"), await ask(baked.url, "code-review")]).toEqual([
      "invalid_request",
      "isolation_unavailable",
    ]);
  });
});
