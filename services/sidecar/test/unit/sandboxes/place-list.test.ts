/** Which kind of sandbox a run gets, over kinds of place that only say what they are. */
import { expect, test } from "vitest";
import type { SandboxKind, SandboxRequest } from "#contract/sandbox";
import { Fault } from "../../../src/kernel/fault.ts";
import { PlaceList } from "../../../src/sandboxes/place-list.ts";
import type { Place, PlaceKind, PlaceProbe } from "../../../src/sandboxes/sandbox.ts";

type Facts = { readonly available?: boolean; readonly isolated?: boolean; readonly left?: number | null };

/** A kind of place that opens nothing. */
class Kind implements PlaceKind {
  readonly kind: SandboxKind;
  readonly facts: PlaceProbe;
  readonly #left: number | null;
  sweeps = 0;

  constructor(kind: SandboxKind, { available = true, isolated = true, left = 0 }: Facts = {}) {
    this.kind = kind;
    this.facts = { kind, available, isolated, detail: `a fake ${kind}`, missing: [] };
    this.#left = left;
  }

  async probe(): Promise<PlaceProbe> {
    return this.facts;
  }

  async open(): Promise<Place> {
    throw new Error("nothing is opened here");
  }

  async sweep(): Promise<number | null> {
    this.sweeps += 1;
    return this.#left;
  }
}

const asking = (kind: SandboxRequest["kind"]): SandboxRequest => ({ kind, network: "none" });

/** The failure that a choice ends with. */
async function refusal(
  places: PlaceList,
  kind: SandboxRequest["kind"],
): Promise<{ code: string; message: string }> {
  try {
    await places.choose(asking(kind));
  } catch (error) {
    if (error instanceof Fault) return { code: error.code, message: error.message };
    throw error;
  }
  throw new Error("a place was chosen");
}

/** Every way out that an operator has, by a word that only it is told with. */
const WAYS = [
  "running as root",
  "kernel.unprivileged_userns_clone=1",
  "user.max_user_namespaces",
  "util-linux",
  "perl",
  "bash",
  "PILLION_ALLOW_UNISOLATED=true",
];

const expectWays = ({ code, message }: { code: string; message: string }): void => {
  expect(code).toBe("isolation_unavailable");
  expect(WAYS.filter((way) => !message.includes(way))).toEqual([]);
};

test("auto takes the first that is available, as the list has the strongest first", async () => {
  const [docker, local, unisolated] = [
    new Kind("docker"),
    new Kind("local"),
    new Kind("local", { isolated: false }),
  ];
  const all = await PlaceList.probe([docker, local, unisolated], "auto");
  expect(await all.choose(asking("auto"))).toBe(docker);
  expect(all.inForce).toBe(docker.facts);
  expect(all.probes).toEqual([docker.facts, local.facts, unisolated.facts]);
});

test("auto goes on to the next where one is not available, and the one without isolation is the last", async () => {
  const docker = new Kind("docker", { available: false });
  const [local, gone] = [new Kind("local"), new Kind("local", { available: false })];
  const unisolated = new Kind("local", { isolated: false });
  const second = await PlaceList.probe([docker, local, unisolated], "auto");
  expect(await second.choose(asking("auto"))).toBe(local);
  expect(second.inForce).toBe(local.facts);
  const last = await PlaceList.probe([docker, gone, unisolated], "auto");
  expect(await last.choose(asking("auto"))).toBe(unisolated);
  expect(last.inForce).toBe(unisolated.facts);
});

test("a request gets the kind it names, also where a stronger one is there", async () => {
  const [docker, local] = [new Kind("docker"), new Kind("local")];
  const places = await PlaceList.probe([docker, local], "auto");
  expect(await places.choose(asking("local"))).toBe(local);
  expect(await places.choose(asking("docker"))).toBe(docker);
});

test("an operator's kind is kept to, also where a stronger one is there", async () => {
  const [docker, local] = [new Kind("docker"), new Kind("local")];
  const places = await PlaceList.probe([docker, local], "local");
  expect(await places.choose(asking("auto"))).toBe(local);
  expect(await places.choose(asking("local"))).toBe(local);
  expect(places.inForce).toBe(local.facts);
});

test.each([
  ["local", "docker"],
  ["docker", "local"],
] as const)(
  "where the operator allows only %s, a request for %s is sandbox_unavailable",
  async (operator, asked) => {
    const places = await PlaceList.probe([new Kind("docker"), new Kind("local")], operator);
    expect(await refusal(places, asked)).toEqual({
      code: "sandbox_unavailable",
      message: `The operator's setting allows only ${operator} sandboxes.`,
    });
  },
);

test.each([
  ["is not in the list", []],
  ["is not available", [new Kind("docker", { available: false })]],
])("docker that %s is never answered with local", async (_what, docker) => {
  const [local, unisolated] = [new Kind("local"), new Kind("local", { isolated: false })];
  const open = await PlaceList.probe([...docker, local, unisolated], "auto");
  expect((await refusal(open, "docker")).code).toBe("sandbox_unavailable");
  expect(await open.choose(asking("auto"))).toBe(local); // the control: local was there to be taken
  const bound = await PlaceList.probe([...docker, local, unisolated], "docker");
  expect((await refusal(bound, "auto")).code).toBe("sandbox_unavailable");
  expect(bound.inForce).toBeNull();
});

test.each([
  ["there is no kind at all", []],
  ["the only kind is not available", [new Kind("local", { available: false, isolated: false })]],
])("where %s, a run is isolation_unavailable and told every way to mend it", async (_what, kinds) => {
  const places = await PlaceList.probe(kinds, "auto");
  expectWays(await refusal(places, "auto"));
  expectWays(await refusal(places, "local"));
  expect(places.inForce).toBeNull();
});

test("a sweep asks every kind, available or not, and adds up what they found", async () => {
  const kinds = [
    new Kind("docker", { available: false, left: 2 }),
    new Kind("local", { left: 3 }),
    new Kind("local", { isolated: false, left: 5 }),
  ];
  const places = await PlaceList.probe(kinds, "local");
  expect(await places.sweep()).toEqual({ count: 10, unseen: [] });
  expect(kinds.map(({ sweeps }) => sweeps)).toEqual([1, 1, 1]);
});

test("a sweep names the kinds that could not be looked into", async () => {
  const places = await PlaceList.probe([new Kind("docker", { left: null }), new Kind("local")], "auto");
  expect(await places.sweep()).toEqual({ count: 0, unseen: ["docker"] });
});

test("while the service runs, only kinds that can leave something without a crash are searched", async () => {
  const [docker, local] = [new Kind("docker"), new Kind("local", { left: 3 })];
  const places = await PlaceList.probe([Object.assign(docker, { reap: async () => 4 }), local], "auto");
  expect(await places.reap()).toBe(4);
  expect([docker.sweeps, local.sweeps]).toEqual([0, 0]);
});

test("many who look at once share one look", async () => {
  const docker = Object.assign(new Kind("docker"), { mayChange: true });
  const places = await PlaceList.probe([docker], "auto");
  let looks = 0;
  const answer = Promise.withResolvers<void>();
  docker.probe = async () => {
    looks += 1;
    await answer.promise;
    return docker.facts;
  };
  const looking = [places.look(), places.look(), places.look()];
  answer.resolve();
  await Promise.all(looking);
  expect(looks).toBe(1);
  await places.look();
  expect(looks).toBe(2);
});
