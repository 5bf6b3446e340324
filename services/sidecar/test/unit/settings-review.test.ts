import { chmodSync, cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { toEgressRule } from "../../src/broker/egress-policy.ts";
import { toPrivateTarget } from "../../src/broker/private-target.ts";
import { readSettings } from "../../src/settings.ts";
import { findWarnings, reviewSettings } from "../../src/settings-review.ts";

const SHIPPED = join(import.meta.dirname, "../../../../config");

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "pillion-defaults-"));
  cpSync(SHIPPED, directory, { recursive: true });
});
afterEach(() => rmSync(directory, { recursive: true }));

const write = (name: string, content: unknown): void =>
  writeFileSync(join(directory, name), typeof content === "string" ? content : JSON.stringify(content));
const find = (hasEgress = false): string[] => {
  const found: string[] = [];
  reviewSettings(
    { configDir: directory, egress: hasEgress ? [] : undefined, privateTargets: [] },
    (name, message) => found.push(`${name} ${message}`),
  );
  return found;
};

describe("S4.7 the files of the product's defaults", () => {
  test("are right as they are shipped", () => {
    expect(find()).toEqual([]);
  });

  test("are all told at once, each with what is wrong where", () => {
    write("egress.json", { allow: ["ok.example", "API.github.com", "127.1"], deny: [] });
    write("prices.json", {
      source: "ours",
      prices: { "a/b": { input: -1, output: 1, cacheRead: 1, cacheWrite: 1 }, b: {} },
    });
    write("providers.json", '{"openai": ');
    write("agent.json", { instructions: "", tools: ["shell"], skills: [], reasoning: "off" });
    const words: [string, string][] = [
      [
        "agent.json",
        'tools[0] "shell" is not valid: Invalid option: expected one of "read"|"grep"|"find"|"ls"|"edit"|"write"|"bash"',
      ],
      ["providers.json", "it is not JSON: Unexpected end of JSON input"],
      ["prices.json", 'prices["a/b"].input is not valid: Too small: expected number to be >=0'],
      ["prices.json", "prices.b must be provider/model"],
      [
        "egress.json",
        'allow[1] "API.github.com" must be a lower-case host like `api.example.com`, all below one like `*.example.com`, with `:port` if not 443, or `http://` before it for plain HTTP',
      ],
      [
        "egress.json",
        'allow[2] "127.1" must have a port up to 65535, and an address in its usual form if it is one',
      ],
      ["egress.json", 'has unknown fields: "deny"'],
    ];
    expect(find()).toEqual(words.map(([name, why]) => `${join(directory, name)} cannot be used: ${why}`));
  });

  test("must all be there, but for the egress list where a setting takes its place", () => {
    rmSync(join(directory, "egress.json"));
    const missing =
      "there is no such file; PILLION_CONFIG_DIR must name a whole copy of the product's `config`";
    expect(find()).toEqual([`${join(directory, "egress.json")} cannot be used: ${missing}`]);
    expect(find(true)).toEqual([]);
    rmSync(join(directory, "prices.json"));
    expect(find(true)).toEqual([`${join(directory, "prices.json")} cannot be used: ${missing}`]);
  });
});

/** The settings as a start reads them, of these variables and the shipped defaults. */
const read = (env: Record<string, string>) =>
  readSettings({
    env: { PILLION_HOME: "/x", PILLION_CONFIG_DIR: directory, PILLION_SKILLS_DIR: "/x", ...env },
    review: reviewSettings,
  });

describe("S4.7 a private target that is a cloud's metadata, which is never reached,", () => {
  test.each(["http://169.254.169.254", "http://[fd00:ec2::254]:80", "https://168.63.129.16=168.63.0.0/16"])(
    "is refused by its name: %s",
    (target) => {
      expect(() => read({ PILLION_PRIVATE_TARGETS: `http://10.0.0.1,${target}` })).toThrow(
        `PILLION_PRIVATE_TARGETS names metadata of a cloud, which is never reached: ${target.replace(":80", "")}`,
      );
    },
  );

  test("is none of the others, and does not hide what is wrong elsewhere", () => {
    expect(() =>
      read({ PILLION_PRIVATE_TARGETS: "http://169.254.1.1,http://metadata.internal" }),
    ).not.toThrow();
    expect(() => read({ PILLION_PRIVATE_TARGETS: "http://169.254.169.254", PILLION_PORT: "x" })).toThrow(
      /PILLION_PORT must .*\n.*PILLION_PRIVATE_TARGETS names metadata/,
    );
  });
});

describe("a start warns of", () => {
  const provider = { title: "Own", baseUrl: "https://models.example/v1", api: "openai-completions" } as const;
  const warn = (env: Record<string, string>) => {
    const settings = read(env);
    return findWarnings(settings, {
      providers: { own: provider },
      egress: (settings.egress ?? []).map(toEgressRule),
      privateTargets: settings.privateTargets.map(toPrivateTarget),
    });
  };

  test("private hosts of the egress list that no private target lets be reached", () => {
    const PILLION_EGRESS = "http://127.0.0.1:9000,10.0.0.7,[fd00::1]:8443,localhost,api.example,8.8.8.8";
    const told = (host: string) =>
      `PILLION_EGRESS: ${host} is private, and will be refused unless PILLION_PRIVATE_TARGETS has it too`;
    expect(warn({ PILLION_EGRESS })).toEqual(
      ["http://127.0.0.1:9000", "10.0.0.7", "[fd00::1]:8443", "localhost"].map(told),
    );
    const PILLION_PRIVATE_TARGETS =
      "http://127.0.0.1:9000,https://10.0.0.7,https://[fd00::1]:8443=fd00::/64,http://localhost";
    expect(warn({ PILLION_EGRESS, PILLION_PRIVATE_TARGETS })).toEqual([told("localhost")]); // https is meant, http listed
  });

  test("credentials that are no model's key and that no request can name", () => {
    const of = (more: object) => ({ header: "x-key", value: "secret-0123456789", ...more });
    const told = (host: string) =>
      `PILLION_CREDENTIALS: the one for ${host} is no model's key, and without a name no request can ask for it`;
    const credentials = [
      of({ host: "models.example" }),
      of({ host: "api.example", name: "api" }),
      of({ host: "api.example" }),
      of({ host: "models.example", methods: ["GET"] }),
    ];
    expect(warn({ PILLION_CREDENTIALS: JSON.stringify(credentials) })).toEqual(
      ["api.example", "models.example"].map(told),
    );
  });

  test("files with secrets that every user of the machine can read, and of no other file", () => {
    const file = join(directory, "token");
    writeFileSync(file, "0123456789");
    const config = join(directory, "pillion.json");
    write("pillion.json", { port: 1 });
    const modes = [0o644, 0o600, 0o640].map((mode) => {
      chmodSync(file, mode);
      chmodSync(config, 0o644);
      return warn({ PILLION_TOKEN_FILE: file, PILLION_CONFIG: config });
    });
    expect(modes).toEqual([[`${file} holds a secret and can be read by every user of this machine`], [], []]);
  });
});
