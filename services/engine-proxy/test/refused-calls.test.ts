/** What someone who owns the service could ask of an engine: each call works on the raw socket, and not through the proxy. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { AGENT_IMAGE, docker } from "../../sidecar/test/behaviours/open-places.ts";
import {
  type Answer,
  call,
  ENGINE,
  type LiveProxy,
  openTestProxy,
  readProfiles,
  sendBytes,
} from "./raw-engine.ts";
import { toRunContainer } from "./run-container.ts";

let proxy: LiveProxy;
/** A container that is somebody else's, and stands still. */
let foreign = "";
let image = "";
const made: string[] = [];

beforeAll(async () => {
  proxy = await openTestProxy(["--scope", `test-${process.pid}`]);
  image = docker(["image", "inspect", "-f", "{{.Id}}", AGENT_IMAGE]);
  const body = {
    Image: image,
    Entrypoint: [],
    Cmd: ["sleep", "600"],
    HostConfig: { NetworkMode: "none", Init: true },
  };
  foreign = toId(await call(ENGINE, "POST", "/containers/create", body));
  await call(ENGINE, "POST", `/containers/${foreign}/start`);
});
afterAll(async () => {
  await Promise.all(
    [...made, foreign].map((id) => call(ENGINE, "DELETE", `/containers/${id}?force=true&v=true`)),
  );
  await proxy[Symbol.asyncDispose]();
});

function toId(answer: Answer): string {
  const { Id } = JSON.parse(answer.text) as { Id?: string };
  if (Id === undefined) throw new Error(answer.text);
  made.push(Id);
  return Id;
}

const HOST_CONFIGS: Readonly<Record<string, object>> = {
  "privileged mode": { Privileged: true },
  "the host's network": { NetworkMode: "host" },
  "a bridge network": { NetworkMode: "bridge" },
  "the whole disk by Binds": { Binds: ["/:/host"] },
  "the whole disk by Mounts": {
    Mounts: [{ Type: "bind", Source: "/", Target: "/workspace", ReadOnly: false }],
  },
  "the engine's own socket": { Binds: [`${ENGINE}:/var/run/docker.sock`] },
  "a device of the host": {
    Devices: [{ PathOnHost: "/dev/null", PathInContainer: "/dev/x", CgroupPermissions: "rwm" }],
  },
  "a rule for devices": { DeviceCgroupRules: ["c 1:3 rwm"] },
  "a capability more": { CapAdd: ["SYS_ADMIN"] },
  "capabilities not dropped": { CapDrop: [] },
  "a group of the host": { GroupAdd: ["0"] },
  "the host's processes": { PidMode: "host" },
  "the host's users": { UsernsMode: "host" },
  "the host's IPC": { IpcMode: "host" },
  "the host's UTS name": { UTSMode: "host" },
  "the host's cgroups": { CgroupnsMode: "host" },
  "another cgroup": { CgroupParent: "/elsewhere" },
  "no seccomp profile": { SecurityOpt: ["no-new-privileges:true", "seccomp=unconfined"] },
  "a profile of its own": {
    SecurityOpt: ["no-new-privileges:true", 'seccomp={"defaultAction":"SCMP_ACT_ALLOW"}'],
  },
  "new privileges": { SecurityOpt: [] },
  "no AppArmor": { SecurityOpt: ["no-new-privileges:true", "apparmor=unconfined"] },
  "a writable root": { ReadonlyRootfs: false },
  "unmasked paths": { MaskedPaths: [], ReadonlyPaths: [] },
  "a kernel setting": { Sysctls: { "net.ipv4.ip_forward": "0" } },
  "more memory than allowed": { Memory: 2 ** 40, MemorySwap: 2 ** 40 },
  "swap beyond its memory": { MemorySwap: -1 },
  "no limit of processes": { PidsLimit: 0 },
  "a lower OOM score": { OomScoreAdj: -500 },
  "a published port": { PortBindings: { "80/tcp": [{ HostIp: "127.0.0.1", HostPort: "0" }] } },
  "a restart for ever": { RestartPolicy: { Name: "always" } },
  "a log on the host's disk": { LogConfig: { Type: "json-file", Config: {} } },
  "a host name added": { ExtraHosts: ["example.com:127.0.0.1"] },
  "a tmpfs over its programs": {
    Tmpfs: { "/usr/local": "rw,nosuid,nodev,exec,size=1048576,mode=0700,uid=1000,gid=1000" },
  },
  "the group of Node's readers": { GroupAdd: ["64220"] },
  "a tmpfs with devices": { Tmpfs: { "/tmp": "rw,dev,suid" } },
};

describe("a container with", () => {
  test("what the service asks for can be made through the proxy, which is the control", async () => {
    const { name, body } = toRunContainer(image);
    const answer = await call(proxy.socket, "POST", `/containers/create?name=${name}`, body);
    expect({ status: answer.status, text: answer.text }).toEqual({ status: 201, text: expect.any(String) });
    const [inspected] = JSON.parse(docker(["inspect", toId(answer)]));
    expect(inspected.Config.Labels).toMatchObject({ "org.pillion.proxy.scope": `test-${process.pid}` });
  });

  test.each(Object.entries(HOST_CONFIGS))(
    "%s is made by the engine, and refused by the proxy",
    async (_what, more) => {
      const { name, body } = toRunContainer(image);
      const weak = { ...body, HostConfig: { ...body.HostConfig, ...more } };
      const refused = await call(proxy.socket, "POST", `/containers/create?name=${name}`, weak);
      expect({ status: refused.status, text: refused.text }).toEqual({
        status: 403,
        text: expect.stringMatching(/not allowed as it is asked: HostConfig/),
      });
      const raw = await call(ENGINE, "POST", `/containers/create?name=${name}`, {
        ...weak,
        NetworkDisabled: false,
        Hostname: "", // which the host's UTS name does not go with
      });
      expect(raw.status, raw.text).toBe(201);
      toId(raw);
    },
  );

  test("another's volumes, another image, root, or a label of the proxy's own is refused", async () => {
    const { body } = toRunContainer(image);
    const volume = `pillion-foreign-${process.pid}`;
    docker(["volume", "create", volume]);
    const other = docker(["image", "inspect", "-f", "{{.Id}}", "debian:bookworm-slim"]);
    const VolumeOptions = { NoCopy: true };
    const Mounts = [{ Type: "volume", Source: volume, Target: "/workspace", ReadOnly: true, VolumeOptions }];
    const bodies = {
      "another's volume": { ...body, HostConfig: { ...body.HostConfig, Mounts } },
      "another's volumes": { ...body, HostConfig: { ...body.HostConfig, VolumesFrom: [foreign] } },
      "another image by id": { ...body, Image: other },
      "another image by name": { ...body, Image: "debian:bookworm-slim" },
      root: { ...body, User: "0:0" },
      "root by name": { ...body, User: "root" },
      "root's group": { ...body, User: "1000:0" },
      "the proxy's label": {
        ...body,
        Labels: { ...(body.Labels as object), "org.pillion.proxy.scope": "x" },
      },
      "a health command": { ...body, Healthcheck: { Test: ["CMD", "true"] } },
      "a volume of its own": { ...body, Volumes: { "/x": {} } },
      "an endpoint": { ...body, NetworkingConfig: { EndpointsConfig: { bridge: {} } } },
    };
    for (const [what, weak] of Object.entries(bodies)) {
      const refused = await call(proxy.socket, "POST", "/containers/create", weak);
      expect({ what, status: refused.status }).toEqual({ what, status: 403 });
      const raw = await call(ENGINE, "POST", "/containers/create", { ...weak, NetworkDisabled: false });
      expect({ what, status: raw.status, text: raw.text }).toEqual({
        what,
        status: 201,
        text: expect.any(String),
      });
      await call(ENGINE, "DELETE", `/containers/${toId(raw)}?force=true`);
    }
    docker(["volume", "rm", volume]);
    expect(proxy.told.map(({ why }) => why)).toContain("the volume is not ours");
  });
});

describe("of another's container, the engine, or the machine", () => {
  const tar = new Uint8Array(1024);
  /** Method, path, body, and what the raw engine answers; a 503 of a swarm that is off is the engine's own word too. */
  const calls: readonly (readonly [string, string, unknown, number])[] = [
    ["GET", "/containers/ID/json", undefined, 200],
    ["GET", "/containers/ID/logs?stdout=1", undefined, 200],
    ["GET", "/containers/ID/top", undefined, 200],
    ["GET", "/containers/ID/changes", undefined, 200],
    ["GET", "/containers/ID/stats?stream=false", undefined, 200],
    ["GET", "/containers/ID/archive?path=/etc/passwd", undefined, 200],
    ["PUT", "/containers/ID/archive?path=/tmp", tar, 200],
    ["POST", "/containers/ID/exec", { Cmd: ["id"], User: "0" }, 201],
    ["POST", "/containers/ID/rename?name=pillion-taken-RAND", undefined, 204],
    ["POST", "/containers/ID/update", { PidsLimit: 100 }, 200],
    ["POST", "/containers/ID/pause", undefined, 204],
    ["POST", "/containers/ID/unpause", undefined, 204],
    ["POST", "/containers/ID/resize?h=1&w=1", undefined, 200],
    ["POST", "/commit?container=ID&repo=pillion-commit-RAND", {}, 201],
    ["POST", "/containers/ID/stop?t=0", undefined, 204],
    ["POST", "/containers/ID/start", undefined, 204],
    ["POST", "/containers/ID/kill", undefined, 204],
    ["POST", "/containers/ID/wait?condition=not-running", undefined, 200],
    ["GET", "/containers/json", undefined, 200],
    ["GET", "/containers/json?all=true&filters=%7B%22label%22%3A%5B%22x%22%5D%7D", undefined, 200],
    ["GET", "/version", undefined, 200],
    ["GET", "/images/json", undefined, 200],
    ["GET", "/images/debian:bookworm-slim/json", undefined, 200],
    ["GET", "/images/debian:bookworm-slim/history", undefined, 200],
    ["POST", "/images/debian:bookworm-slim/tag?repo=pillion-tagged-RAND&tag=x", undefined, 201],
    ["DELETE", "/images/pillion-tagged-RAND:x", undefined, 200],
    ["DELETE", "/images/pillion-commit-RAND:latest", undefined, 200],
    ["POST", "/images/create?fromImage=127.0.0.1:1/none&tag=x", undefined, 500],
    ["POST", "/images/load", tar, 200],
    ["POST", "/build?t=pillion-built-RAND", tar, 500],
    ["GET", "/volumes", undefined, 200],
    ["GET", "/networks", undefined, 200],
    ["GET", "/events?since=1&until=2", undefined, 200],
    ["GET", "/system/df?type=volume", undefined, 200],
    ["GET", "/plugins", undefined, 200],
    ["GET", "/swarm", undefined, 503],
    ["GET", "/secrets", undefined, 503],
    ["GET", "/distribution/127.0.0.1:1/none/json", undefined, 500],
    ["HEAD", "/_ping", undefined, 200],
    ["DELETE", "/containers/ID?force=true", undefined, 204],
  ];

  test("every call but the service's own is refused, and works where the proxy is not", async () => {
    const rand = `${process.pid}-${Date.now() % 1e6}`;
    const results: unknown[] = [];
    for (const [method, path, body] of calls) {
      const full = path.replaceAll("ID", foreign).replaceAll("RAND", rand);
      const { status } = await call(proxy.socket, method, full, body);
      const raw = await call(ENGINE, method, full, body);
      results.push([method, path, { proxy: status, raw: raw.status }]);
    }
    expect(results).toEqual(calls.map(([method, path, , raw]) => [method, path, { proxy: 403, raw }]));
    expect(proxy.told.length).toBeGreaterThanOrEqual(calls.length);
  });
});

test("a call that the service does not make is refused of its own container too", async () => {
  const { name, body } = toRunContainer(image);
  const own = toId(await call(proxy.socket, "POST", `/containers/create?name=${name}`, body));
  const wait = `/containers/${own}/wait?condition=not-running`;
  const ask = async (socket: string) => [
    (await call(socket, "GET", `/containers/${own}/json`)).status,
    (await call(socket, "POST", wait)).status,
  ];
  expect({ proxy: await ask(proxy.socket), raw: await ask(ENGINE) }).toEqual({
    proxy: [200, 403],
    raw: [200, 200],
  });
});

test("the profile that Chromium needs is for the images of browsers only, by name or by id", async () => {
  const other = "debian:bookworm-slim";
  const scope = `test-browser-${process.pid}`;
  const flags = ["--scope", scope, "--image", other, "--browser-image", other];
  await using browsers = await openTestProxy(flags);
  const ask = async (socket: string, of: string) => {
    const { name, body } = toRunContainer(of, { seccomp: readProfiles().browser });
    const answer = await call(socket, "POST", `/containers/create?name=${name}`, body);
    if (answer.status === 201) toId(answer);
    return answer.status;
  };
  const id = docker(["image", "inspect", "-f", "{{.Id}}", other]);
  for (const [of, status] of [
    [other, 201],
    [id, 201],
    [AGENT_IMAGE, 403],
    [image, 403],
  ] as const) {
    expect({ of, status: await ask(browsers.socket, of) }).toEqual({ of, status });
    expect({ of, status: await ask(proxy.socket, of) }).toEqual({ of, status: 403 });
  }
  expect(browsers.told.map(({ why }) => why)).toEqual(Array(2).fill("the image is not one of a browser"));
  expect(await ask(ENGINE, image)).toBe(201); // the control
});

describe("written in a way that two parsers may read differently,", () => {
  let target = "";
  beforeAll(async () => {
    const body = { Image: image, Entrypoint: [], Cmd: ["sleep", "600"], HostConfig: { NetworkMode: "none" } };
    target = toId(await call(ENGINE, "POST", "/containers/create", body));
  });
  const head = "Host: x\r\nConnection: close\r\n";
  const statusOf = (text: string): string => /^HTTP\/1\.1 (\d+)/.exec(text)?.[1] ?? "closed";

  test.each([
    ["an escaped path", "GET /containers/ID/%6ason HTTP/1.1", "200"],
    ["an absolute target", "GET http://x/containers/ID/json HTTP/1.1", "200"],
    ["an old version", "GET /v1.24/containers/ID/json HTTP/1.1", "200"],
    ["a path through another", "GET /containers/../containers/ID/json HTTP/1.1", "301"],
    ["a path through an allowed one", "GET /_ping/../containers/ID/json HTTP/1.1", "301"],
    ["an empty part", "GET //containers/ID/json HTTP/1.1", "301"],
    ["a second question mark", "GET /containers/json?all=true?x HTTP/1.1", "200"],
    ["capital letters", "GET /Containers/ID/json HTTP/1.1", "404"],
    ["a short id", "GET /containers/SHORT/json HTTP/1.1", "200"],
    ["a name", "GET /containers/NAME/json HTTP/1.1", "200"],
    ["a wait for 100", "GET /_ping HTTP/1.1\r\nExpect: 100-continue", "200"],
  ])("%s is refused", async (_what, line, control) => {
    const name = docker(["inspect", "-f", "{{.Name}}", target]).slice(1);
    const words = line.replaceAll("ID", target).replace("SHORT", target.slice(0, 12)).replace("NAME", name);
    const bytes = `${words}\r\n${head}\r\n`;
    expect(statusOf(await sendBytes(proxy.socket, bytes))).toBe("403");
    expect(statusOf(await sendBytes(ENGINE, bytes))).toBe(control);
  });

  test("an upgrade of another call, CONNECT and HTTP/2 get nowhere", async () => {
    const upgrade = (path: string, to: string) =>
      `POST ${path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: ${to}\r\nContent-Length: 0\r\n\r\n`;
    const through = async (bytes: string) => statusOf(await sendBytes(proxy.socket, bytes));
    expect(await through(upgrade("/session", "h2c"))).toBe("403");
    expect(await through(upgrade("/grpc", "h2c"))).toBe("403");
    expect(
      await through(upgrade(`/containers/${target}/attach?stream=1&stdin=1&stdout=1&stderr=1`, "tcp")),
    ).toBe("403");
    const { name, body } = toRunContainer(image);
    const own = toId(await call(proxy.socket, "POST", `/containers/create?name=${name}`, body));
    const streams = "stream=1&stdin=1&stdout=1&stderr=1";
    expect(await through(upgrade(`/containers/${own}/start`, "tcp"))).toBe("403");
    expect(await through(upgrade(`/containers/${own}/attach?${streams}`, "websocket"))).toBe("403");
    expect(await through(upgrade(`/containers/${own}/attach?${streams}`, "tcp"))).toBe("101"); // the control
    expect(await through("CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n")).toBe("closed");
    expect(await through("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")).toBe("closed");
    expect(statusOf(await sendBytes(ENGINE, upgrade("/session", "h2c")))).toBe("101");
    const raw = upgrade(`/containers/${target}/attach?stream=1&stdin=1&stdout=1&stderr=1`, "tcp");
    expect(statusOf(await sendBytes(ENGINE, raw))).toBe("101");
  });

  test("a second call in the first one's bytes is judged by itself, or never read", async () => {
    const hidden = `DELETE /containers/${target}?force=true HTTP/1.1\r\nHost: x\r\n\r\n`;
    const ping = "GET /_ping HTTP/1.1\r\nHost: x\r\n";
    const attempts = {
      pipelined: `${ping}\r\n${hidden}`,
      "in a body of two lengths": `${ping}Content-Length: 0\r\nContent-Length: 5\r\n\r\n${hidden}`,
      "in a body with length and chunks": `${ping}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${hidden}`,
      "behind odd chunks": `${ping}Transfer-Encoding: xchunked\r\n\r\n${hidden}`,
      "behind a folded header": `${ping}X: y\r\n Transfer-Encoding: chunked\r\n\r\n${hidden}`,
      "behind a bare line feed": `${ping}X: y\nContent-Length: 0\r\n\r\n${hidden}`,
      "behind a body that has none": `${ping}Content-Length: 5\r\n\r\nabcde${hidden}`,
    };
    for (const [what, bytes] of Object.entries(attempts)) {
      await sendBytes(proxy.socket, bytes);
      const { status } = await call(ENGINE, "GET", `/containers/${target}/json`);
      expect({ what, status }).toEqual({ what, status: 200 });
    }
    await sendBytes(ENGINE, attempts.pipelined); // the control: it is a call that works
    expect((await call(ENGINE, "GET", `/containers/${target}/json`)).status).toBe(404);
  });

  test("a body with a key twice, in other letters or with odd escapes is refused", async () => {
    const { body } = toRunContainer(image);
    const good = JSON.stringify(body);
    const bodies = {
      "a key twice": `${good.slice(0, -1)},"HostConfig":{"Privileged":true}}`,
      "a key twice, the good one last": `{"HostConfig":{"Privileged":true},${good.slice(1)}`,
      "other letters": `${good.slice(0, -1)},"hostconfig":{"privileged":true}}`,
      "an escaped key": good.replace('"Privileged":false', '"Privileged":false,"\\u0043apAdd":["SYS_ADMIN"]'),
      "blanks between": good.replace('"HostConfig":', '"HostConfig" : '),
    };
    for (const [what, text] of Object.entries(bodies)) {
      const bytes = `POST /containers/create HTTP/1.1\r\n${head}Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`;
      expect({ what, status: statusOf(await sendBytes(proxy.socket, bytes)) }).toEqual({
        what,
        status: "403",
      });
      const raw = await sendBytes(ENGINE, bytes);
      expect({ what, raw: statusOf(raw) }).toEqual({ what, raw: "201" });
      made.push(/"Id":"([0-9a-f]{64})"/.exec(raw)?.[1] ?? "");
    }
  });

  test("a body in chunks is read whole before it is judged", async () => {
    const text = JSON.stringify({ Privileged: true });
    const chunks = [...text].map((letter) => `1\r\n${letter}\r\n`).join("");
    const bytes = `POST /containers/create HTTP/1.1\r\n${head}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n${chunks}0\r\n\r\n`;
    expect(statusOf(await sendBytes(proxy.socket, bytes))).toBe("403");
  });
});
