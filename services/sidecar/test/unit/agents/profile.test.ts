import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { RunRequest } from "#contract/run";
import { type ProfileContext, readAgentDefaults, resolveProfile } from "../../../src/agents/profile.ts";
import { readProviderList } from "../../../src/agents/provider-list.ts";
import { Fault } from "../../../src/kernel/fault.ts";

const ROOT = join(import.meta.dirname, "../../../../..");

const CONTEXT: ProfileContext = {
  defaults: readAgentDefaults(join(ROOT, "config")),
  providers: readProviderList(join(ROOT, "config")),
  skillsDir: join(ROOT, "skills"),
  defaultModel: "demo/tour",
  demoModel: true,
  allowedPrograms: [],
  privateTargets: ["http://127.0.0.1:9000"],
  credentials: [{ host: "gateway.example.com", header: "X-Key", value: "operator-gateway-key" }],
  prices: new Map(),
  isCostLimited: false,
  providerKeys: { anthropic: "operator-key" },
};

function resolve(request: object, context: Partial<ProfileContext> = {}) {
  return resolveProfile(RunRequest.parse({ prompt: "p", ...request }), { ...CONTEXT, ...context });
}

function refusal(
  request: object,
  context: Partial<ProfileContext> = {},
): { code: string; path: string | undefined } {
  try {
    resolve(request, context);
  } catch (error) {
    if (error instanceof Fault) return { code: error.code, path: error.errors?.[0]?.path };
    throw error;
  }
  throw new Error("the request was taken");
}

describe("a model", () => {
  test("is the operator's default where none is named", () => {
    expect(resolve({})).toMatchObject({
      model: { provider: "demo", name: "tour" },
      endpoint: { kind: "demo" },
    });
  });

  test("of a configured provider gets the operator's key in the vendor's header", () => {
    expect(resolve({ model: "anthropic/some-model" })).toMatchObject({
      model: { provider: "anthropic", name: "some-model", api: "anthropic-messages", price: null },
      endpoint: { header: { name: "x-api-key", value: "operator-key" }, privateAllowed: true },
    });
  });

  test("S3.6 may be given a price that is not known, but not where it would keep the operator's ceiling", () => {
    const price = { input: 0, output: 0, cacheRead: 0, cacheWrite: 0 };
    const own = { name: "own/m", baseUrl: "https://models.example/v1", api: "openai-completions" };
    const toModel = (model: object, isCostLimited: boolean) =>
      resolve({ model: { ...model, price } }, { isCostLimited }).model.price;
    expect(toModel({ name: "anthropic/unlisted" }, false)).toEqual(price);
    expect(toModel({ name: "anthropic/unlisted" }, true)).toBeNull();
    expect(toModel(own, true)).toEqual(price); // who names the endpoint pays it
  });

  test("takes the request's own credential before the operator's", () => {
    const credentials = [{ host: "api.anthropic.com", header: "X-Api-Key", value: "callers-key" }];
    expect(resolve({ model: "anthropic/m", credentials })).toMatchObject({
      endpoint: { header: { name: "x-api-key", value: "callers-key" } },
    });
  });

  test("with an endpoint of the request's never gets a key of the operator's", () => {
    for (const name of ["anthropic/m", "acme/m"]) {
      const model = { name, baseUrl: "https://gateway.example.com", api: "anthropic-messages" };
      expect(resolve({ model })).toMatchObject({ endpoint: { header: null, privateAllowed: false } });
    }
  });

  test("may be at a private origin only where the operator named that very origin", () => {
    const at = (baseUrl: string) => ({ model: { name: "acme/m", baseUrl, api: "openai-completions" } });
    expect(resolve(at("http://127.0.0.1:9000/v1"))).toMatchObject({ endpoint: { privateAllowed: true } });
    expect(refusal(at("http://127.0.0.1:9001/v1")).code).toBe("forbidden");
    expect(refusal(at("http://localhost:9000/v1")).code).toBe("forbidden");
  });

  test("over plain HTTP that nobody listed is refused by its field, in words that say what would let it be reached", () => {
    const model = { name: "acme/m", baseUrl: "http://127.0.0.1:9001/v1", api: "openai-completions" };
    const message =
      "must be https, unless the operator lists its origin `http://127.0.0.1:9001` in PILLION_PRIVATE_TARGETS";
    expect(() => resolve({ model })).toThrow(`The model's base URL ${message}.`);
    expect(refusal({ model })).toEqual({ code: "forbidden", path: "/model/baseUrl" });
  });

  test.each([
    ["an unknown provider", { model: "nobody/m" }, "/model"],
    ["no key for a provider that needs one", { model: "openai/m" }, "/credentials"],
    ["a demo model that is none", { model: "demo/other" }, "/model"],
    [
      "a URL with a user",
      { model: { name: "a/m", baseUrl: "https://u:p@e.com", api: "openai-completions" } },
      "/model/baseUrl",
    ],
    [
      "a credential for the model's host that is bound to a path",
      {
        model: "anthropic/m",
        credentials: [
          { host: "api.anthropic.com", header: "a", value: "long-enough", pathPrefix: "/v1/files" },
        ],
      },
      "/credentials/0",
    ],
    [
      "a credential for the model's host that is to be in a variable",
      {
        model: "anthropic/m",
        credentials: [{ host: "api.anthropic.com", header: "a", value: "long-enough", env: "A_KEY" }],
      },
      "/credentials/0",
    ],
    [
      "a credential that the operator does not hold",
      {
        model: "anthropic/m",
        credentials: [{ host: "api.anthropic.com", header: "a", valueFrom: "absent" }],
      },
      "/credentials/0/valueFrom",
    ],
  ])("is refused by name: %s", (_what, request, path) => {
    expect(refusal(request)).toEqual({ code: "invalid_request", path });
  });

  test("is not opened by a credential that the operator bound to a path or to methods; one without is taken", () => {
    const held = { host: "api.anthropic.com", header: "x-api-key", value: "held-by-the-operator" };
    const openWith = (bounds: object) =>
      resolve(
        { model: "anthropic/m" },
        { credentials: [{ ...held, ...bounds }], providerKeys: { anthropic: "usual-key" } },
      ).endpoint;
    expect(openWith({})).toMatchObject({ header: { value: held.value } });
    expect(openWith({ pathPrefix: "/v1/files" })).toMatchObject({ header: { value: "usual-key" } });
    expect(openWith({ methods: ["GET"] })).toMatchObject({ header: { value: "usual-key" } });
    const named = {
      model: "anthropic/m",
      credentials: [{ host: held.host, header: held.header, valueFrom: "files" }],
    };
    const files = { ...held, name: "files", pathPrefix: "/v1/files" } as const;
    expect(refusal(named, { credentials: [files] })).toEqual({
      code: "invalid_request",
      path: "/credentials/0",
    });
  });

  test("of the demo is gone where the operator switched it off", () => {
    expect(refusal({ model: "demo/tour" }, { demoModel: false })).toEqual({
      code: "invalid_request",
      path: "/model",
    });
  });
});

describe("tools", () => {
  test("are the usual ones; an empty list means none", () => {
    expect(resolve({}).tools).toEqual(["read", "grep", "find", "ls", "edit", "write"]);
    expect(resolve({ agent: { tools: [] } }).tools).toEqual([]);
  });

  test("of a reader never write", () => {
    expect(resolve({ role: "reader" }).tools).toEqual(["read", "grep", "find", "ls"]);
    expect(refusal({ role: "reader", agent: { tools: ["write"] } })).toEqual({
      code: "invalid_request",
      path: "/agent/tools/0",
    });
  });

  test.each([
    ["nobody", {}, [], "execution_disabled"],
    ["the operator alone", {}, ["bash"], "execution_disabled"],
    ["the request alone", { execution: { allowedPrograms: ["bash"] } }, [], "execution_disabled"],
  ])("S4.1: the shell is off when it is named by %s", (_who, request, allowedPrograms, code) => {
    expect(refusal({ ...request, agent: { tools: ["bash"] } }, { allowedPrograms }).code).toBe(code);
  });

  test("include the shell when both name it, but never for a reader", () => {
    const request = { execution: { allowedPrograms: ["bash"] } };
    expect(resolve(request, { allowedPrograms: ["bash"] })).toMatchObject({ hasShell: true });
    expect(resolve({ ...request, role: "reader" }, { allowedPrograms: ["bash"] }).hasShell).toBe(false);
  });

  test("other programs are refused even where the operator allows them: not implemented yet", () => {
    const request = { execution: { allowedPrograms: ["python3"] } };
    const refused = { code: "invalid_request", path: "/execution/allowedPrograms/0" };
    expect(refusal(request, { allowedPrograms: ["python3"] })).toEqual(refused);
    // Whatever the operator allows: nobody should ask for a consent that does not help.
    expect(refusal(request, { allowedPrograms: [] })).toEqual(refused);
  });
});

describe("skills", () => {
  test("come from the library or with the request", () => {
    const skills = [{ name: "code-review" }, { name: "tidy", description: "Tidies.", content: "Tidy up." }];
    const resolved = resolve({ agent: { skills } }).skills;
    expect(resolved.map(({ name, files }) => [name, files.map(({ path }) => path)])).toEqual([
      ["code-review", ["SKILL.md"]],
      ["tidy", ["SKILL.md"]],
    ]);
    expect(resolved[1]?.files[0]?.content.toString()).toBe(
      '---\nname: tidy\ndescription: "Tidies."\n---\n\nTidy up.',
    );
  });

  test.each([
    ["a name that is not there", [{ name: "nothing-like-it" }], "/agent/skills/0"],
    ["the same name twice", [{ name: "code-review" }, { name: "code-review" }], "/agent/skills/1/name"],
  ])("are never skipped: %s is refused", (_what, skills, path) => {
    expect(refusal({ agent: { skills } })).toEqual({ code: "invalid_request", path });
  });
});
