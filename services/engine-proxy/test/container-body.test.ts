// Whatever the service asks for is allowed, within the proxy's own ceilings, so that the two tables cannot drift apart.
import fc from "fast-check";
import { expect, test } from "vitest";
import type { Reference } from "../../sidecar/src/sandboxes/sandbox.ts";
import { toRunBody } from "../src/container-body.ts";
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

test("every container that the service may ask for is allowed", () => {
  const schema = toSchema();
  fc.assert(
    fc.property(spec, limits, user, fc.boolean(), (one, two, three, hasVolume) => {
      const volume = hasVolume && one.readOnly ? { volume: "pillion-0123-1" } : {};
      const { name, body } = toRunContainer("sha256:feed", {
        spec: one,
        limits: two,
        user: three,
        ...volume,
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
