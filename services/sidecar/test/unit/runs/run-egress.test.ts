import { describe, expect, test } from "vitest";
import { Credential } from "#contract/agent";
import { RunRequest } from "#contract/run";
import type { Profile } from "../../../src/agents/profile.ts";
import { toEgressRule } from "../../../src/broker/egress-policy.ts";
import { toFault } from "../../../src/kernel/fault.ts";
import { resolveEgress } from "../../../src/runs/run-egress.ts";

const GITHUB: Credential = {
  name: "github",
  host: "api.github.com",
  header: "authorization",
  value: "Bearer held-by-the-operator",
  pathPrefix: "/repos/acme",
  methods: ["GET", "POST"],
};
const ALLOWED = ["api.github.com", "*.npmjs.org", "http://mirror.example:8080"];
const PROFILE = { endpoint: { kind: "http", baseUrl: new URL("https://models.example/v1") } } as Profile; // nothing else is read

const resolve = (request: object, allowed = ALLOWED) =>
  resolveEgress(RunRequest.parse({ prompt: "x", ...request }), PROFILE, {
    egress: allowed.map(toEgressRule),
    credentials: [GITHUB],
    isPlain: (host, port) => host === "mirror.example" && [80, 8080].includes(port),
  });

const refusal = (request: object, allowed = ALLOWED) => {
  try {
    return resolve(request, allowed);
  } catch (error) {
    const { code, errors } = toFault(error);
    return { code, path: errors?.[0]?.path };
  }
};
const own = { host: "api.github.com", header: "Authorization", value: "Bearer of-the-caller" };

describe("what a run may reach", () => {
  test("is nothing unless it asks, whatever the operator allows", () => {
    expect(resolve({})).toEqual({ rules: [], patterns: [], credentials: [] });
    expect(resolve({ egress: [] })).toEqual({ rules: [], patterns: [], credentials: [] });
  });

  test("is what it asks, as far as the operator allows", () => {
    const egress = ["registry.npmjs.org", "http://mirror.example:8080"];
    expect(resolve({ egress })).toMatchObject({ patterns: egress, rules: egress.map(toEgressRule) });
  });

  test.each([
    [["example.com"], ALLOWED],
    [["*.github.com"], ALLOWED],
    [["api.github.com:8443"], ALLOWED],
    [["http://api.github.com"], ALLOWED],
    [["npmjs.org"], ALLOWED],
    [["api.github.com"], []],
  ])("is never more: %j of %j", (egress, allowed) => {
    expect(refusal({ egress }, allowed)).toEqual({ code: "forbidden", path: "/egress/0" });
  });
});

describe("S3.4 a host that is listed for the other kind of HTTP is refused with that word", () => {
  const toMessage = (pattern: string): string | undefined => {
    try {
      resolve({ egress: [pattern] });
    } catch (error) {
      return toFault(error).errors?.[0]?.message;
    }
  };
  const plain =
    "the operator's list has this host for plain HTTP only: name it with `http://` before it (PILLION_EGRESS)";
  const secure =
    "the operator's list has this host for HTTPS only: name it without `http://` (PILLION_EGRESS)";
  const neither = "the operator does not allow this host (PILLION_EGRESS)";
  test.each([
    ["mirror.example:8080", plain],
    ["https://mirror.example:8080", plain],
    ["http://api.github.com", secure],
    ["http://a.npmjs.org", secure],
    ["http://api.github.com:8080", neither],
    ["mirror.example", neither],
    ["example.com", neither],
  ])("%s", (pattern, message) => {
    expect(toMessage(pattern)).toBe(message);
  });
});

describe("a credential", () => {
  const egress = ["api.github.com"];

  test("of the caller's is taken for a host that the run may reach", () => {
    expect(resolve({ egress, credentials: [own] }).credentials).toEqual([own]);
  });

  test("of the model's host is not among them", () => {
    expect(resolve({ credentials: [{ ...own, host: "models.example" }] }).credentials).toEqual([]);
  });

  test.each([
    ["no egress", { credentials: [own] }],
    ["another host", { egress, credentials: [{ ...own, host: "elsewhere.example" }] }],
    ["another port", { egress, credentials: [{ ...own, host: "api.github.com:8443" }] }],
  ])("that could never be sent is refused: %s", (_what, request) => {
    expect(refusal(request)).toEqual({ code: "invalid_request", path: "/credentials/0/host" });
  });

  describe("S3.4 for a host that egress names over plain HTTP", () => {
    const allowed = ["http://mirror.example", "http://mirror.example:8080", "http://plain.example:8080"];
    const ask = (host: string) => ({ egress: allowed, credentials: [{ ...own, host }] });

    test("is taken where the operator lists the origin as a private target", () => {
      const { credentials } = resolve(ask("mirror.example:8080"), allowed);
      expect(credentials).toEqual([{ ...own, host: "mirror.example:8080" }]);
    });

    test.each([
      [
        "plain.example:8080",
        "http://plain.example:8080",
        "a credential goes only to an origin in PILLION_PRIVATE_TARGETS",
      ],
      [
        "mirror.example",
        "http://mirror.example:80",
        "the host must be given with its port, `mirror.example:80`",
      ],
    ])("is refused in words that say what it lacks: %s", (host, origin, rule) => {
      const message = `over plain HTTP (${origin}) ${rule}`;
      expect(() => resolve(ask(host), allowed)).toThrow(`The credential cannot be used: ${message}.`);
      expect(refusal(ask(host), allowed)).toEqual({ code: "invalid_request", path: "/credentials/0/host" });
    });
  });

  const named = { host: "api.github.com", header: "authorization", valueFrom: "github" };
  test("of the operator's comes with the operator's bounds", () => {
    expect(resolve({ egress, credentials: [named] }).credentials).toEqual([GITHUB]);
    const narrow = { ...named, pathPrefix: "/repos/acme/site", methods: ["GET"], env: "GITHUB_TOKEN" };
    const { valueFrom: _, ...bounds } = narrow;
    expect(resolve({ egress, credentials: [narrow] }).credentials).toEqual([
      { ...bounds, name: "github", value: GITHUB.value },
    ]);
  });

  test.each([
    ["of another name", { valueFrom: "gitlab" }, "invalid_request", "valueFrom"],
    ["for another host", { host: "registry.npmjs.org" }, "forbidden", "host"],
    ["in another header", { header: "x-token" }, "forbidden", "header"],
    ["above its path", { pathPrefix: "/repos" }, "forbidden", "pathPrefix"],
    ["beside its path", { pathPrefix: "/repos/acme-other" }, "forbidden", "pathPrefix"],
    ["with another method", { methods: ["GET", "DELETE"] }, "forbidden", "methods"],
  ])("of the operator's is not had %s", (_what, change, code, field) => {
    expect(refusal({ egress: [...egress, "*.npmjs.org"], credentials: [{ ...named, ...change }] })).toEqual({
      code,
      path: `/credentials/0/${field}`,
    });
  });
});

test.each([
  [{ host: "registry.npmjs.org" }, "its host is `api.github.com`"],
  [{ header: "x-token" }, "its header is `authorization`"],
  [{ pathPrefix: "/repos" }, "its pathPrefix is `/repos/acme`, and may only be narrowed"],
  [{ methods: ["GET", "DELETE"] }, "its methods are `GET`, `POST`, and may only be narrowed"],
])(
  "a credential of the operator's that is asked for otherwise is refused with what it is bound to: %j",
  (change, bound) => {
    const named = { host: "api.github.com", header: "authorization", valueFrom: "github" };
    const ask = () =>
      resolve({ egress: ["api.github.com", "*.npmjs.org"], credentials: [{ ...named, ...change }] });
    expect(ask).toThrow(`the operator's "github" is bound otherwise: ${bound}`);
  },
);

test("S3.4 a credential's header is none that says where a message goes or ends", () => {
  const isTaken = (header: string) =>
    Credential.safeParse({ host: "api.example.com", header, value: "secret-0123456789" }).success;
  const taken = ["Authorization", "x-api-key", "cookie", "Private-Token"];
  const refused = [
    "host",
    "Connection",
    "transfer-encoding",
    "Content-Length",
    "proxy-authorization",
    "expect",
    "TE",
  ];
  expect([taken.map(isTaken), refused.map(isTaken)]).toEqual([
    taken.map(() => true),
    refused.map(() => false),
  ]);
});
