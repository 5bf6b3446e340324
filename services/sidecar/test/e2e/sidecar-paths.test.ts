/** A caller's own directory, where the service is in a container: the same on both sides, or refused with what to do. */
import { chownSync, mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { type LiveProxy, openTestProxy } from "../../../engine-proxy/test/raw-engine.ts";
import { AGENT_IMAGE } from "../behaviours/open-places.ts";
import { LOCKED, openSidecarContainer, send } from "../fakes/sidecar-container.ts";

// Several containers start in one test.
vi.setConfig({ testTimeout: 120_000 });

const TOKEN = "token-of-this-test-0123456789";
const UID = 31_437;
let directory: string;
let proxy: LiveProxy;

beforeAll(async () => {
  directory = realpathSync(mkdtempSync(join(tmpdir(), "pillion-paths-")));
  for (const name of ["same", "here", "there"]) {
    mkdirSync(join(directory, name));
    chownSync(join(directory, name), UID, UID);
  }
  chownSync(directory, UID, UID);
  proxy = await openTestProxy(["--scope", `paths-${process.pid}`, "--bind", directory]);
  chownSync(dirname(proxy.socket), UID, UID);
});
afterAll(async () => {
  await proxy[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true, force: true });
});

/** One run with that path, in a service of its own that has these mounts. */
async function runWith(mounts: readonly string[], path: string): Promise<unknown> {
  const settings = {
    PILLION_TOKEN: TOKEN,
    PILLION_SANDBOX: "docker",
    PILLION_IMAGE: AGENT_IMAGE,
    PILLION_MEMORY: "1g",
    PILLION_DOCKER_HOST: "unix:///run/pillion/engine.sock",
    PILLION_WORKSPACE_ROOTS: dirname(path),
  };
  const environment = Object.entries(settings).flatMap(([name, value]) => ["--env", `${name}=${value}`]);
  const volumes = [`${dirname(proxy.socket)}:/run/pillion:ro`, ...mounts].flatMap((mount) => [
    "--volume",
    mount,
  ]);
  const flags = [...LOCKED, "--user", `${UID}:${UID}`, ...environment, ...volumes];
  await using sidecar = await openSidecarContainer({ flags });
  const request = { model: "demo/tour", prompt: "Look", workspace: { kind: "path", path } };
  return (await send(sidecar.url, "/run", request, TOKEN)).json();
}

describe("a caller's own directory of a service in a container", () => {
  test("S3.8 that is mounted under its own path is worked in, as its owner", async () => {
    const path = join(directory, "same");
    expect(await runWith([`${path}:${path}`], path)).toMatchObject({ outcome: "succeeded" });
    const { uid, gid } = statSync(join(path, "PILLION-TOUR.md"));
    expect([uid, gid]).toEqual([UID, UID]);
  });

  test("that is mounted under another's path is refused, and neither is touched", async () => {
    const [here, there] = [join(directory, "here"), join(directory, "there")];
    expect(await runWith([`${here}:${there}`], there)).toMatchObject({
      outcome: "failed",
      failure: {
        code: "forbidden",
        detail: expect.stringContaining("not the same on the container engine's machine"),
      },
    });
    expect([...readdirSync(here), ...readdirSync(there)]).toEqual([]);
  });

  test("that only the container has is refused by the proxy, in words", async () => {
    const here = join(directory, "here");
    expect(await runWith([`${here}:/srv/own`], "/srv/own")).toMatchObject({
      outcome: "failed",
      failure: { code: "sandbox_unavailable", detail: expect.stringContaining("not under an allowed one") },
    });
  });
});
