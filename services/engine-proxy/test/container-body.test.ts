// Whatever the service asks for is allowed, within the proxy's own ceilings, so that the two tables cannot drift apart.
import fc from "fast-check";
import { expect, test } from "vitest";
import type { Reference } from "../../sidecar/src/sandboxes/sandbox.ts";
import { FillerBody, toRunBody } from "../src/container-body.ts";
import { readOptions } from "../src/options.ts";
import { readProfiles } from "./raw-engine.ts";
import { toRunContainer } from "./run-container.ts";

function toSchema(flags: readonly string[] = []) {
  const wish = readOptions(["--image", "agent", "--bind", "/srv", ...flags]);
  if (wish.kind !== "serve") throw new Error("these flags do not serve");
  return toRunBody(wish.options, readProfiles());
}

const limits = fc.record({
  cpus: fc.double({ min: 0.01, max: 4, noNaN: true }),
  memoryBytes: fc.integer({ min: 64 * 1024 ** 2, max: 8 * 1024 ** 3 }),
  pids: fc.integer({ min: 16, max: 512 }),
});
const workspace = fc.oneof(
  fc.record({ kind: fc.constant("scratch" as const), bytes: fc.integer({ min: 1, max: 2 ** 40 }) }),
  fc.record({ kind: fc.constant("bind" as const), path: fc.constantFrom("/srv/a", "/srv/a b/ç") }),
);
const REFERENCES: Reference[][] = [
  [],
  [
    { name: "docs", source: { kind: "bind", path: "/srv/docs" } },
    { name: "notes.md", source: { kind: "content", content: Buffer.from("x") } },
  ],
];
const spec = fc.record({
  runId: fc.constantFrom("run_01m7ytg6y66dqpwkm3eqj0wkft", "run_1"),
  requestedKind: fc.constantFrom("docker" as const, "auto" as const),
  workspace,
  readOnly: fc.boolean(),
  executable: fc.boolean(),
  pids: fc.constant(512),
  references: fc.constantFrom(...REFERENCES),
  network: fc.constant("none" as const),
});
const user = fc.record({
  uid: fc.integer({ min: 1, max: 2 ** 31 }),
  gid: fc.integer({ min: 1, max: 2 ** 31 }),
});

const choices = fc.record({
  runtime: fc.constantFrom("runc", "runsc"),
  network: fc.constantFrom("none", "agents"),
  seccomp: fc.constantFrom(...Object.values(readProfiles())),
  volumes: fc.subarray([
    { volume: "pillion-0123-1", target: "/workspace" },
    { volume: "pillion-0123-1-refs", target: "/refs" },
    { volume: "pillion-0123-product-feed", target: "/opt/pillion" },
  ]),
});

test("every container that the service may ask for is allowed", () => {
  const schema = toSchema(["--network", "agents"]);
  fc.assert(
    fc.property(spec, limits, user, choices, (one, two, three, more) => {
      const { name, body } = toRunContainer("sha256:feed", {
        spec: one,
        limits: two,
        user: three,
        ...more,
      });
      const parsed = schema.safeParse({ name, ...body });
      expect(parsed.error?.issues ?? []).toEqual([]);
      expect(parsed.data).toEqual({ name, ...body });
    }),
    { numRuns: 300 },
  );
});

test.each([
  ["cpus", ["--cpus", "1"], { cpus: 2, memoryBytes: 2 ** 27, pids: 64 }],
  ["memory", ["--memory", "64m"], { cpus: 1, memoryBytes: 2 ** 27, pids: 64 }],
  ["pids", ["--pids", "32"], { cpus: 1, memoryBytes: 2 ** 27, pids: 64 }],
])(
  "more %s than the proxy's ceiling are refused, whatever the service's settings say",
  (_what, flags, asked) => {
    const { body } = toRunContainer("sha256:feed", { limits: asked });
    expect(toSchema().safeParse(body).success).toBe(true);
    expect(toSchema(flags).safeParse(body).success).toBe(false);
  },
);

test("a network is allowed only where the proxy was told so", () => {
  const { body } = toRunContainer("sha256:feed");
  const open = { ...body, NetworkDisabled: false, HostConfig: { ...body.HostConfig, NetworkMode: "agents" } };
  expect(toSchema().safeParse(open).success).toBe(false);
  expect(toSchema(["--network", "agents"]).safeParse(open).success).toBe(true);
  expect(toSchema(["--network", "agents"]).safeParse(body).success).toBe(true);
});

const MOUNT = { Type: "volume", Source: "pillion-0123-1", Target: "/workspace" };
const VOLUME = { ...MOUNT, ReadOnly: true, VolumeOptions: { NoCopy: true } };
const BIND = {
  ...{ Type: "bind", Source: "/srv/a", Target: "/workspace", ReadOnly: false },
  BindOptions: { Propagation: "rprivate", NonRecursive: true },
};
const TMPFS = "rw,nosuid,nodev,noexec,size=1048576,mode=0700,uid=1000,gid=1000";
const USUAL_TMPFS = { "/tmp": TMPFS, "/home/agent": TMPFS };

function toOutcome(more: object): boolean {
  const { body } = toRunContainer("sha256:feed");
  return toSchema().safeParse({ ...body, HostConfig: { ...body.HostConfig, ...more } }).success;
}

test.each<[string, object, object]>([
  ["a volume that can be written to", { Mounts: [VOLUME] }, { Mounts: [{ ...VOLUME, ReadOnly: false }] }],
  [
    "a volume that nothing is said about",
    { Mounts: [VOLUME] },
    { Mounts: [{ ...VOLUME, ReadOnly: undefined }] },
  ],
  [
    "a volume that the image's files are copied to",
    { Mounts: [VOLUME] },
    { Mounts: [{ ...VOLUME, VolumeOptions: undefined }] },
  ],
  [
    "what is mounted below a directory",
    { Mounts: [BIND] },
    { Mounts: [{ ...BIND, BindOptions: { Propagation: "rprivate" } }] },
  ],
  [
    "a directory in the product's place",
    { Mounts: [{ ...BIND, ReadOnly: true }] },
    { Mounts: [{ ...BIND, ReadOnly: true, Target: "/opt/pillion" }] },
  ],
  [
    "a reference that can be written to",
    { Mounts: [{ ...BIND, Target: "/refs/docs", ReadOnly: true }] },
    { Mounts: [{ ...BIND, Target: "/refs/docs" }] },
  ],
  ["a tmpfs over the image's programs", { Tmpfs: USUAL_TMPFS }, { Tmpfs: { ...USUAL_TMPFS, "/usr": TMPFS } }],
  [
    "a tmpfs that others can write to",
    { Tmpfs: USUAL_TMPFS },
    { Tmpfs: { ...USUAL_TMPFS, "/tmp": TMPFS.replace("0700", "1777") } },
  ],
  [
    "Node's readers where Node runs unread",
    { Runtime: "runsc", GroupAdd: ["64220"] },
    { Runtime: "runc", GroupAdd: ["64220"] },
  ],
])("%s is not for a run", (_what, usual, weak) => {
  expect({ usual: toOutcome(usual), weak: toOutcome(weak) }).toEqual({ usual: true, weak: false });
});

test("a container that fills a volume writes to that volume, and nothing else is said about it", () => {
  const toFiller = (more: object) => ({
    Image: "sha256:feed",
    Labels: { "org.pillion.instance": "test" },
    HostConfig: { NetworkMode: "none", Mounts: [{ ...MOUNT, ...more }] },
  });
  for (const Target of ["/workspace", "/refs", "/opt/pillion"])
    expect(FillerBody.safeParse(toFiller({ Target })).success).toBe(true);
  for (const more of [{ Target: "/etc" }, { ReadOnly: true }, { VolumeOptions: { NoCopy: true } }])
    expect(FillerBody.safeParse(toFiller(more)).success).toBe(false);
});
