// What an engine says it made is compared with what it was told; each protection that is not there is found by name.
import type { ContainerInspectInfo } from "dockerode";
import { describe, expect, test } from "vitest";
import { toContainerOptions } from "../../../../src/sandboxes/docker/container-spec.ts";
import { findWeaker, toDockerReceipt } from "../../../../src/sandboxes/docker/receipt.ts";

const spec = {
  runId: "run_1",
  requestedKind: "docker",
  workspace: { kind: "scratch", bytes: 1000 },
  readOnly: false,
  references: [],
  network: "none",
  pids: 64,
  executable: false,
} as const;
const limits = { cpus: 1, memoryBytes: 1024, pids: 64 };
const user = { uid: 1000, gid: 1000 };
const ASKED = toContainerOptions({
  ...{
    spec,
    limits,
    user,
    instance: "i",
    version: "0",
    expiresS: 1,
    seccomp: "{}",
    runtime: "runc",
    image: "sha256:1",
    imageEnv: [],
    volumes: [],
    network: "none",
  },
});

/** As an engine that did what it was told describes the container. */
function toInspected(): ContainerInspectInfo {
  return {
    Image: ASKED.Image,
    Config: { User: ASKED.User },
    HostConfig: {
      ...structuredClone(ASKED.HostConfig),
      CapAdd: null,
      Devices: [],
      Binds: null,
      PidMode: "",
      UTSMode: "",
      UsernsMode: "",
    },
    NetworkSettings: { Networks: { none: {} }, Ports: {} },
    Mounts: [],
  } as unknown as ContainerInspectInfo; // a real answer has many more fields; only these are read
}

type Change = (inspected: ContainerInspectInfo) => void;
const set =
  (name: string, value: unknown): Change =>
  ({ HostConfig }) =>
    void Object.assign(HostConfig, { [name]: value });

describe("what an engine made", () => {
  test("is as it was told (control)", () => expect(findWeaker(ASKED, toInspected())).toEqual([]));

  test.each<[string, Change]>([
    ["no network", set("NetworkMode", "bridge")],
    ["no network", ({ NetworkSettings }) => void Object.assign(NetworkSettings.Networks, { bridge: {} })],
    [
      "no published port",
      ({ NetworkSettings }) =>
        void Object.assign(NetworkSettings, { Ports: { "80/tcp": [{ HostPort: "80" }] } }),
    ],
    ["a read-only root", set("ReadonlyRootfs", false)],
    ["no capabilities", set("CapDrop", null)],
    ["no capabilities", set("CapAdd", ["SYS_ADMIN"])],
    ["no new privileges and our seccomp profile", set("SecurityOpt", ["no-new-privileges:true"])],
    [
      "no new privileges and our seccomp profile",
      set("SecurityOpt", ["no-new-privileges:true", "seccomp=unconfined"]),
    ],
    ["no privileged mode", set("Privileged", true)],
    ["no device of the host", set("Devices", [{ PathOnHost: "/dev/sda" }])],
    ["no namespace of the host", set("PidMode", "host")],
    ["no namespace of the host", set("IpcMode", "shareable")],
    ["the cpu limit", set("NanoCpus", 0)],
    ["the memory limit", set("MemorySwap", -1)],
    ["the pids limit", set("PidsLimit", null)],
    ["the ulimits", set("Ulimits", [])],
    ["the bounds of temp, home and workspace", set("Tmpfs", {})],
    ["an unprivileged user", ({ Config }) => void Object.assign(Config, { User: "0:0" })],
    ["an unprivileged user", ({ Config }) => void Object.assign(Config, { User: "1000:0" })],
    ["an init", set("Init", false)],
    ["a bounded log", set("LogConfig", { Type: "json-file", Config: {} })],
    [
      "only the mounts of the run",
      ({ Mounts }) => void Mounts.push({ Type: "bind", Destination: "/etc", RW: true } as never),
    ],
    ["the runtime", set("Runtime", "other")],
  ])("and lacks is found: %s", (name, change) => {
    const inspected = toInspected();
    change(inspected);
    expect(findWeaker(ASKED, inspected)).toEqual([name]);
  });
});

test("a port that an image exposes is not a published one", () => {
  const inspected = toInspected();
  Object.assign(inspected.NetworkSettings, { Ports: { "80/tcp": null } });
  expect(findWeaker(ASKED, inspected)).toEqual([]);
});

test.each(["NanoCpus", "Memory", "PidsLimit"])(
  "an engine that agrees to no limit at all is found out: %s",
  (name) => {
    const asked = structuredClone({ ...ASKED, HostConfig: { ...ASKED.HostConfig, [name]: 0 } });
    const inspected = toInspected();
    Object.assign(inspected.HostConfig, { [name]: 0 });
    expect(findWeaker(asked, inspected)).toHaveLength(1);
  },
);

test("a volume of another name is found", () => {
  const volume = { Type: "volume" as const, Source: "ours", Target: "/refs", ReadOnly: true };
  const asked = structuredClone(ASKED);
  Object.assign(asked.HostConfig ?? {}, { Mounts: [volume] });
  const inspected = toInspected();
  const mounted = { Type: "volume", Name: "ours", Source: "/var/lib/x", Destination: "/refs", RW: false };
  Object.assign(inspected, { Mounts: [mounted] });
  expect(findWeaker(asked, inspected)).toEqual([]);
  Object.assign(inspected, { Mounts: [{ ...mounted, Name: "another" }] });
  expect(findWeaker(asked, inspected)).toEqual(["only the mounts of the run"]);
});

describe("what the guard sees in a container", () => {
  const VIEW = {
    ...{
      pid: 7,
      uid: 1000,
      gid: 1000,
      capEff: "0000000000000000",
      capPrm: "0",
      capBnd: "0",
      noNewPrivs: true,
      seccomp: true,
      extensionSha256: "0",
    },
    ...{
      namespaces: {},
      interfaces: ["lo"],
      systemWritable: false,
      programReadable: false,
      workspaceWritable: true,
      workspaceId: "1:2",
      references: [],
      harnessSha256: {},
    },
  };
  const facts = { spec, limits, runtime: "runc", image: "sha256:1", user, profile: "usual" as const };

  test("makes the receipt (control)", () => {
    expect(toDockerReceipt(VIEW, facts)).toMatchObject({
      kind: "docker",
      isolated: true,
      capabilities: [],
      network: "none",
    });
  });

  test("under a runtime that does not apply the profile says so, and is not refused for it", () => {
    const { missing } = toDockerReceipt({ ...VIEW, seccomp: false }, { ...facts, runtime: "runsc" });
    expect(missing).toEqual(["our seccomp profile: this runtime does not apply it"]);
  });

  test.each(["crun", "io.containerd.runc.v2"])("under %s is judged as under runc", (runtime) => {
    expect(() => toDockerReceipt({ ...VIEW, seccomp: false }, { ...facts, runtime })).toThrow(/seccomp/);
    expect(() => toDockerReceipt({ ...VIEW, noNewPrivs: null }, { ...facts, runtime })).toThrow(
      /no_new_privs/,
    );
    expect(toDockerReceipt(VIEW, { ...facts, runtime }).missing).toHaveLength(1);
  });

  test("whose guard can be looked into says so", () => {
    const { missing } = toDockerReceipt({ ...VIEW, programReadable: true }, facts);
    expect(missing).toContain("guard and harness closed to the run's own other processes");
    expect(toDockerReceipt(VIEW, facts).missing).not.toContain(missing.at(-1));
  });

  test("with a browser's profile says what that opens", () => {
    const { missing } = toDockerReceipt(VIEW, { ...facts, profile: "browser" });
    expect(missing).toContainEqual(expect.stringContaining("this image's browser makes them"));
  });

  test.each([
    ["a worker's", {}, "nothing outside the image", 1000],
    ["a reader's", { readOnly: true }, "the workspace", undefined],
    ["one with a shell's", { executable: true }, "workspace, home and temp", 1000],
  ])(
    "of %s run says what may be executed, and only limits that there are",
    (_whose, change, executable, bytes) => {
      const { limits: told } = toDockerReceipt(VIEW, { ...facts, spec: { ...spec, ...change } });
      expect({ executable: told.executable, bytes: told.workspaceBytes }).toEqual({ executable, bytes });
    },
  );

  test.each([
    ["no capabilities", { capBnd: "00000000a80425fb" }],
    ["no_new_privs", { noNewPrivs: false }],
    ["no interface but loopback", { interfaces: ["lo", "eth0"] }],
    ["read-only system directories", { systemWritable: true }],
    ["an unprivileged user", { uid: 0 }],
    ["our seccomp profile", { seccomp: false }],
  ])("is refused where it lacks %s", (name, change) => {
    const fault = { code: "isolation_unavailable", message: `The container would lack: ${name}.` };
    expect(() => toDockerReceipt({ ...VIEW, ...change }, facts)).toThrow(expect.objectContaining(fault));
  });
});
