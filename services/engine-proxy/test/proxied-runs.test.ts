/** Sandboxes whose engine is reached through the proxy: they behave as all do, and stay apart from another proxy's. */
import { chownSync, mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { AGENT_IMAGE, docker, toDockerMaker } from "../../sidecar/test/behaviours/open-places.ts";
import { behavesAsSandbox } from "../../sidecar/test/behaviours/sandbox-behaviour.ts";
import {
  type LiveService,
  openLiveService,
  post,
  readEvents,
} from "../../sidecar/test/fakes/live-service.ts";
import { call, ENGINE, type LiveProxy, openTestProxy } from "./raw-engine.ts";
import { toRunContainer } from "./run-container.ts";

// Several containers start in one test.
vi.setConfig({ testTimeout: 120_000 });

let proxy: LiveProxy;
let directory: string;

beforeAll(async () => {
  directory = realpathSync(mkdtempSync(join(tmpdir(), "pillion-roots-")));
  mkdirSync(join(directory, "root/own"), { recursive: true });
  mkdirSync(join(directory, "outside"));
  symlinkSync("../outside", join(directory, "root/link"));
  for (const name of ["root/own", "outside"]) chownSync(join(directory, name), 31_437, 31_438);
  proxy = await openTestProxy(["--scope", `runs-${process.pid}`, "--bind", join(directory, "root")]);
});
afterAll(async () => {
  await proxy[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true, force: true });
});

behavesAsSandbox(
  toDockerMaker("the docker sandbox behind the engine proxy", () => ({ host: `unix://${proxy.socket}` })),
);

function openService(more: Record<string, string> = {}): Promise<LiveService> {
  return openLiveService({
    env: {
      PILLION_SANDBOX: "docker",
      PILLION_DOCKER_HOST: `unix://${proxy.socket}`,
      PILLION_IMAGE: AGENT_IMAGE,
      PILLION_MEMORY: "1g",
      ...more,
    },
  });
}

describe("a service that knows its engine through the proxy only", () => {
  test("does runs with files and references, as a reader, and in another image", async () => {
    const image = docker(["image", "inspect", "-f", "{{.Id}}", AGENT_IMAGE]);
    await using service = await openService({ PILLION_ALLOWED_IMAGES: image });
    for (const more of [{}, { role: "reader" }, { sandbox: { image } }]) {
      const workspace = { kind: "files", files: [{ path: "a.txt", content: "a" }] };
      const references = [{ name: "notes.md", content: "x" }];
      const request = { model: "demo/tour", prompt: "Look", workspace, references, ...more };
      const answer = await post(service, "/run", request);
      expect(await answer.json()).toMatchObject({
        outcome: "succeeded",
        receipt: { kind: "docker", isolated: true },
        stop: { verified: true },
      });
    }
    expect(proxy.told).toEqual([]);
  });

  test("may give a run a directory under the proxy's root, and none beside it or through a link", async () => {
    await using service = await openService({ PILLION_WORKSPACE_ROOTS: directory });
    const ask = async (path: string) => {
      const workspace = { kind: "path", path: join(directory, path) };
      const answer = await post(service, "/run", { model: "demo/tour", prompt: "Look", workspace });
      const { outcome, failure, code } = (await answer.json()) as Record<string, { code?: string } | string>;
      return outcome ?? failure ?? code;
    };
    proxy.told.splice(0); // what an ended service has given up
    expect(await ask("root/own")).toBe("succeeded");
    expect(proxy.told).toEqual([]);
    expect(await ask("outside")).toBe("failed");
    expect(proxy.told.splice(0)).toMatchObject([{ why: "the directory is not under an allowed one" }]);
    const { body } = toRunContainer(AGENT_IMAGE);
    const toBound = (Source: string) => {
      const BindOptions = { Propagation: "rprivate", NonRecursive: true };
      const Mounts = [{ Type: "bind", Source, Target: "/workspace", ReadOnly: false, BindOptions }];
      return { ...body, HostConfig: { ...body.HostConfig, Mounts } };
    };
    for (const path of ["root/link", "root/../outside", "root-other", "root/none"]) {
      const { status } = await call(
        proxy.socket,
        "POST",
        "/containers/create",
        toBound(`${directory}/${path}`),
      );
      expect({ path, status }).toEqual({ path, status: 403 });
    }
    proxy.told.splice(0);
  });

  test("S3.12 leaves no container running when it is killed", async () => {
    const service = await openService();
    const created = await post(service, "/v1/runs", { model: "demo/tour", prompt: "Look" });
    const { id } = (await created.json()) as { id: string };
    const running = () => docker(["ps", "-q", "--filter", `label=org.pillion.run=${id}`]);
    await vi.waitFor(() => expect(running()).not.toBe(""), { timeout: 15_000, interval: 20 });
    service.kill("SIGKILL");
    await service.ended;
    await vi.waitFor(() => expect(running()).toBe(""), { timeout: 15_000, interval: 50 });
    await using next = await openService({ PILLION_HOME: service.home });
    expect((await readEvents(next, id)).at(-1)).toMatchObject({ outcome: "lost" });
    expect(docker(["ps", "-aq", "--filter", `label=org.pillion.run=${id}`])).toBe("");
    await service[Symbol.asyncDispose]();
  });

  test("is told in words that its image is not one of the proxy's", async () => {
    await using service = await openService({ PILLION_IMAGE: "debian:bookworm-slim" });
    const answer = await post(service, "/run", { model: "demo/tour", prompt: "Look" });
    expect(await answer.json()).toMatchObject({
      code: "sandbox_unavailable",
      detail: expect.stringContaining("proxy does not allow"),
    });
    proxy.told.splice(0);
  });
});

test("what was made through one proxy is not seen or touched through another", async () => {
  await using other = await openTestProxy(["--scope", `other-${process.pid}`]);
  const { name, body } = toRunContainer(AGENT_IMAGE);
  const made = await call(proxy.socket, "POST", `/containers/create?name=${name}`, body);
  const { Id } = JSON.parse(made.text) as { Id: string };
  const { "org.pillion.instance": instance } = body.Labels as Record<string, string>;
  const filters = encodeURIComponent(JSON.stringify({ label: [`org.pillion.instance=${instance}`] }));
  const list = async (socket: string) =>
    JSON.parse((await call(socket, "GET", `/containers/json?all=true&filters=${filters}`)).text).length;
  expect({ own: await list(proxy.socket), other: await list(other.socket) }).toEqual({ own: 1, other: 0 });
  for (const [method, path] of [
    ["GET", `/containers/${Id}/json`],
    ["POST", `/containers/${Id}/start`],
    ["DELETE", `/containers/${Id}?force=true&v=true`],
  ] as const)
    expect((await call(other.socket, method, path)).status).toBe(403);
  expect((await call(proxy.socket, "DELETE", `/containers/${Id}?force=true&v=true`)).status).toBe(204);
});

test("a container that only fills a volume is never started", async () => {
  const labels = { "org.pillion.instance": "test" };
  const volume = `pillion-test-${process.pid}`;
  const create = await call(proxy.socket, "POST", "/volumes/create", { Name: volume, Labels: labels });
  expect(create.status).toBe(201);
  const Mounts = [{ Type: "volume", Source: volume, Target: "/workspace" }];
  const filler = { Image: AGENT_IMAGE, Labels: labels, HostConfig: { NetworkMode: "none", Mounts } };
  const made = await call(proxy.socket, "POST", "/containers/create", filler);
  const { Id } = JSON.parse(made.text) as { Id: string };
  const started = await call(proxy.socket, "POST", `/containers/${Id}/start`);
  expect([started.status, started.text]).toEqual([403, expect.stringContaining("never started")]);
  expect((await call(ENGINE, "POST", `/containers/${Id}/start`)).status).toBe(204); // the control
  await call(proxy.socket, "DELETE", `/containers/${Id}?force=true&v=true`);
  expect((await call(proxy.socket, "DELETE", `/volumes/${volume}`)).status).toBe(204);
});

test("there are never more containers than the proxy allows", async () => {
  await using few = await openTestProxy(["--scope", `few-${process.pid}`, "--containers", "1"]);
  const Cmd = ["/usr/local/bin/node", "-e", "setTimeout(() => {}, 600000)"];
  const make = async () => {
    const { name, body } = toRunContainer(AGENT_IMAGE);
    const answer = await call(few.socket, "POST", `/containers/create?name=${name}`, { ...body, Cmd });
    return { status: answer.status, id: (JSON.parse(answer.text) as { Id?: string }).Id };
  };
  const first = await make();
  await call(few.socket, "POST", `/containers/${first.id}/start`);
  expect((await make()).status).toBe(429);
  await call(few.socket, "DELETE", `/containers/${first.id}?force=true&v=true`);
  const again = await make();
  expect(again.status).toBe(201);
  await call(few.socket, "DELETE", `/containers/${again.id}?force=true&v=true`);
});

test("an engine that is gone is told as such, and the proxy stays", async () => {
  await using lost = await openTestProxy(["--engine", "/nowhere/docker.sock"]);
  expect((await call(lost.socket, "GET", "/_ping")).status).toBe(502);
  expect((await call(lost.socket, "GET", "/_ping")).status).toBe(502);
});
