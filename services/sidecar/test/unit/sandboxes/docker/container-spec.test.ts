// Everything that is set on a container, whole: a change here is a change of what protects the machine.
import fc from "fast-check";
import { expect, test } from "vitest";
import { RunRequest } from "#contract/run";
import type { Profile } from "../../../../src/agents/profile.ts";
import { toFault } from "../../../../src/kernel/fault.ts";
import { toSandboxSpec } from "../../../../src/runs/sandbox-spec.ts";
import { clampLimits, toContainerOptions } from "../../../../src/sandboxes/docker/container-spec.ts";
import type { SandboxSpec } from "../../../../src/sandboxes/sandbox.ts";

const SPEC: SandboxSpec = {
  runId: "run_01abc",
  requestedKind: "docker",
  workspace: { kind: "scratch", bytes: 1_000_000 },
  readOnly: false,
  references: [],
  network: "none",
  pids: 512,
  executable: false,
};

function toOptions(spec: Partial<SandboxSpec> = {}, more: object = {}) {
  return toContainerOptions({
    spec: { ...SPEC, ...spec },
    limits: { cpus: 2, memoryBytes: 8_589_934_592, pids: 512 },
    instance: "0123abcd",
    version: "0.1.0",
    expiresS: 1_800_000_000,
    seccomp: '{"defaultAction":"SCMP_ACT_ERRNO"}',
    runtime: "runc",
    image: "sha256:feed",
    imageEnv: ["PATH=/opt/other/bin", "NODE_OPTIONS=--require /evil.js"],
    volumes: [],
    network: "none",
    user: { uid: 1000, gid: 1000 },
    ...more,
  });
}

test("S3.3 a run's container is locked down, documented = code", () => {
  expect(toOptions()).toEqual({
    name: "pillion-0123abcd-01abc",
    Image: "sha256:feed",
    Entrypoint: [],
    Cmd: [
      "/opt/pillion/node/bin/node",
      "--max-semi-space-size=1",
      "--max-old-space-size=128",
      "--no-warnings",
      "--disable-sigusr1",
      "/opt/pillion/guard/main.mjs",
      JSON.stringify({
        workspace: "/workspace",
        home: "/home/agent",
        references: { directory: "/refs", names: [] },
        baseline: "/tmp/.pillion-baseline",
        ownsPidNamespace: true,
        marker: "",
      }),
    ],
    Env: [
      "PATH=/opt/pillion/bin:/usr/local/bin:/usr/bin:/bin",
      "HOME=/home/agent",
      "LANG=C.UTF-8",
      "UV_THREADPOOL_SIZE=2",
      "NODE_OPTIONS=",
    ],
    User: "1000:1000",
    WorkingDir: "/",
    Hostname: "sandbox",
    Labels: {
      "org.pillion.instance": "0123abcd",
      "org.pillion.run": "run_01abc",
      "org.pillion.version": "0.1.0",
      "org.pillion.expires": "1800000000",
    },
    AttachStdin: true,
    AttachStdout: true,
    AttachStderr: true,
    OpenStdin: true,
    StdinOnce: true,
    Tty: false,
    NetworkDisabled: true,
    StopSignal: "SIGKILL",
    Healthcheck: { Test: ["NONE"] },
    HostConfig: {
      NetworkMode: "none",
      Runtime: "runc",
      Init: true,
      ReadonlyRootfs: true,
      CapDrop: ["ALL"],
      GroupAdd: [],
      SecurityOpt: ["no-new-privileges:true", 'seccomp={"defaultAction":"SCMP_ACT_ERRNO"}'],
      Privileged: false,
      PublishAllPorts: false,
      IpcMode: "private",
      ShmSize: 67_108_864,
      NanoCpus: 2_000_000_000,
      Memory: 8_589_934_592,
      MemorySwap: 8_589_934_592,
      PidsLimit: 512,
      OomScoreAdj: 500,
      Ulimits: [
        { Name: "nofile", Soft: 4096, Hard: 4096 },
        { Name: "nproc", Soft: 32_768, Hard: 32_768 },
        { Name: "core", Soft: 0, Hard: 0 },
      ],
      Tmpfs: {
        "/tmp": "rw,nosuid,nodev,noexec,size=268435456,mode=0700,uid=1000,gid=1000",
        "/home/agent": "rw,nosuid,nodev,noexec,size=134217728,mode=0700,uid=1000,gid=1000",
        "/workspace": "rw,nosuid,nodev,noexec,size=1000000,mode=0700,uid=1000,gid=1000",
      },
      Mounts: [],
      LogConfig: { Type: "none", Config: {} },
      RestartPolicy: { Name: "no" },
      AutoRemove: false,
    },
  });
});

test("a caller's own directory is bound, with its owner as user, and read-only for a reader", () => {
  const workspace = { kind: "bind", path: "/srv/shop" } as const;
  const user = { uid: 5000, gid: 5001 };
  const { User, HostConfig } = toOptions({ workspace, readOnly: true }, { user });
  expect({ User, Mounts: HostConfig?.Mounts, Tmpfs: Object.keys(HostConfig?.Tmpfs ?? {}) }).toEqual({
    User: "5000:5001",
    Mounts: [
      {
        Type: "bind",
        Source: "/srv/shop",
        Target: "/workspace",
        ReadOnly: true,
        BindOptions: { Propagation: "rprivate", NonRecursive: true },
      },
    ],
    Tmpfs: ["/tmp", "/home/agent"],
  });
});

test("a reader's files come in a volume that is mounted read-only", () => {
  const { HostConfig } = toOptions(
    { readOnly: true },
    { volumes: [{ volume: "pillion-v", target: "/workspace" }] },
  );
  expect(HostConfig?.Mounts).toEqual([
    {
      ...{ Type: "volume", Source: "pillion-v", Target: "/workspace", ReadOnly: true },
      VolumeOptions: { NoCopy: true },
    },
  ]);
  expect(HostConfig?.Tmpfs).not.toHaveProperty("/workspace");
});

const ALLOWED_IMAGE = `sha256:${"a".repeat(64)}`;

/** Mostly what a caller may send, now and then anything at all. */
const orAnything = <T>(valid: fc.Arbitrary<T>) =>
  fc.oneof({ weight: 12, arbitrary: valid }, { weight: 1, arbitrary: fc.jsonValue() });
const REQUESTS = fc.record(
  {
    prompt: orAnything(fc.constant("x")),
    role: orAnything(fc.constantFrom("worker", "reader")),
    metadata: orAnything(fc.dictionary(fc.stringMatching(/^[a-z]{1,8}$/), fc.string({ maxLength: 20 }))),
    workspace: orAnything(
      fc.constantFrom({ kind: "empty" }, { kind: "files", files: [{ path: "a/b", content: "c" }] }),
    ),
    sandbox: orAnything(
      fc.record(
        {
          kind: fc.constantFrom("auto", "docker"),
          pids: fc.oneof(fc.integer({ min: 16, max: 65_536 }), fc.constantFrom(0, -1)),
          cpus: fc.oneof(fc.double({ min: 0, max: 1024, noNaN: true }), fc.constantFrom(0, -1, 1e-10)),
          memory: fc.constantFrom("0", "0g", "1", "1k", "64m", "900g", "999999999999999g"),
          network: fc.constantFrom("none", "open"),
          image: fc.constantFrom(ALLOWED_IMAGE, "sha256:feed", `sha256:${"1".repeat(64)}`),
        },
        { requiredKeys: [] },
      ),
    ),
    references: orAnything(
      fc.constantFrom([], [{ name: "a", content: "b" }], [{ name: "etc", path: "/etc" }]),
    ),
    limits: orAnything(fc.record({ wallMs: fc.integer({ min: 1 }) })),
  },
  { requiredKeys: ["prompt"] },
);
const PROFILE = { hasShell: false } as Profile; // the only field that a spec is made from
const CEILING = {
  ...{ pids: 512, workspaceBytes: 1_000_000, workspaceRoots: [], referenceRoots: [], protectedPaths: [] },
  ...{ allowedImages: [ALLOWED_IMAGE], hasOpenNetwork: false },
};

const MACHINE = { cpus: 2, memoryBytes: 24 * 1024 ** 3 };
const OPERATORS = { cpus: 4, memoryBytes: 8 * 1024 ** 3 };

test("a request can lower its limits, bring files and references, and change nothing else", async () => {
  const plain = toOptions();
  let accepted = 0;
  await fc.assert(
    fc.asyncProperty(REQUESTS, async (json) => {
      const request = RunRequest.safeParse(json);
      if (!request.success) return;
      const found = toSandboxSpec(SPEC.runId, request.data, PROFILE, "docker", CEILING);
      const spec = await found.catch((error: unknown) => toFault(error).code);
      if (typeof spec === "string") {
        expect(["forbidden", "invalid_request"]).toContain(spec);
        return;
      }
      accepted += 1;
      const limits = clampLimits(spec, OPERATORS, MACHINE);
      const { HostConfig, Cmd, ...rest } = toOptions(spec, { limits });
      const { NanoCpus = 0, Memory = 0, MemorySwap, PidsLimit = 0, ...others } = HostConfig ?? {};
      expect(NanoCpus).toBeGreaterThanOrEqual(1e7);
      expect(NanoCpus).toBeLessThanOrEqual(2e9);
      expect(Memory).toBeGreaterThanOrEqual(64 * 1024 ** 2);
      expect(Memory).toBeLessThanOrEqual(OPERATORS.memoryBytes);
      expect(MemorySwap).toBe(Memory);
      expect(PidsLimit ?? 0).toBeGreaterThanOrEqual(16);
      expect(PidsLimit ?? 0).toBeLessThanOrEqual(512);
      const { HostConfig: usual, Cmd: _, ...usualRest } = plain;
      expect(rest).toEqual(usualRest);
      expect({ ...usual, ...others }).toEqual(usual);
    }),
    { numRuns: 3000 },
  );
  expect(accepted).toBeGreaterThan(100); // the property did meet requests that are valid
});

test.each([{ cpus: 1e-10 }, { memoryBytes: 0 }, { pids: 0 }, { cpus: Number.NaN }, { memoryBytes: -1 }])(
  "what an engine would take for no limit is never asked of it: %j",
  (limit) => {
    const limits = { cpus: 2, memoryBytes: 8_589_934_592, pids: 512, ...limit };
    expect(() => toOptions({}, { limits })).toThrow("would have had no limit");
  },
);

test("limits that are asked for are never above the operator's nor the machine's", () => {
  const ceiling = { cpus: 4, memoryBytes: 8 * 1024 ** 3 };
  const host = { cpus: 2, memoryBytes: 24 * 1024 ** 3 };
  const clamp = (asked: Partial<SandboxSpec>) => clampLimits({ ...SPEC, ...asked }, ceiling, host);
  expect(clamp({})).toEqual({ cpus: 2, memoryBytes: ceiling.memoryBytes, pids: 512 });
  expect(clamp({ cpus: 99, memoryBytes: 1024 ** 5 })).toEqual(clamp({}));
  expect(clamp({ cpus: 0.5, memoryBytes: 1024 ** 3, pids: 20 })).toEqual({
    cpus: 0.5,
    memoryBytes: 1024 ** 3,
    pids: 20,
  });
});
