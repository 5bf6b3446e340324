// Settings: precedence, kinds, secrets by file, and every mistake told at once.
import { mkdirSync, mkdtempSync, realpathSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { SETTINGS, SettingTable } from "../../src/setting-table.ts";
import {
  readSettings,
  SettingsError,
  type SettingsSources,
  toPublicSettings,
  toSecrets,
} from "../../src/settings.ts";

const SECRET = "sk-canary-4711";

/** Nothing of this machine: no environment, no files, a program with its two directories next to it. */
function read(sources: SettingsSources & { files?: Record<string, string> } = {}) {
  const { files = {}, env = {}, ...rest } = sources;
  return readSettings({
    programDir: "/opt/pillion/dist",
    findDirectory: (path) =>
      path.startsWith("/opt/pillion/dist/") || path.includes("missing") ? undefined : path,
    findUserHome: () => undefined,
    readFile: (path) => {
      const text = files[path];
      if (text === undefined) throw new Error("ENOENT");
      return text;
    },
    ...rest,
    env: { HOME: "/home/ada", ...env },
  });
}

function complaintsOf(sources: Parameters<typeof read>[0]): string[] {
  try {
    read(sources);
  } catch (error) {
    if (!(error instanceof SettingsError)) throw error;
    for (const { setting, message } of error.complaints)
      expect(error.message).toContain(`${setting} ${message}`);
    return error.complaints.map(({ setting, message }) => `${setting} ${message}`);
  }
  return [];
}

test("a wrong value does not hide what is wrong between two others", () => {
  const env = { PILLION_PORT: "abc", PILLION_MODEL: "demo/tour", PILLION_DEMO_MODEL: "false" };
  expect(complaintsOf({ env }).map((line) => line.split(" ")[0])).toEqual(["PILLION_PORT", "PILLION_MODEL"]);
});

const BAD_PATTERN =
  "must be a lower-case host like `api.example.com`, all below one like `*.example.com`, with `:port` if not 443, or `http://` before it for plain HTTP";
const BAD_HOST = "must have a port up to 65535, and an address in its usual form if it is one";

describe("defaults", () => {
  test.each([
    ["tcp://127.0.0.1:2375", "tcp://127.0.0.1:2375"],
    ["ssh://build@a.example", "unix:///var/run/docker.sock"],
    ["", "unix:///var/run/docker.sock"],
  ])("take DOCKER_HOST=%s where we can speak to it, and leave it aside where not", (given, taken) => {
    expect(read({ env: { DOCKER_HOST: given } }).dockerHost).toBe(taken);
  });

  test("name no model where there is a key, so that nobody gets the demo for the real one", () => {
    expect(read({ env: { PILLION_OPENAI_API_KEY: SECRET } }).model).toBeUndefined();
    const credentials = JSON.stringify([{ host: "a.example", header: "x-key", value: SECRET }]);
    expect(read({ env: { PILLION_CREDENTIALS: credentials } }).model).toBeUndefined();
  });

  test("are whole without any source", () => {
    expect(read()).toEqual({
      host: "127.0.0.1",
      port: 8765,
      home: "/home/ada/.local/share/pillion",
      allowAnonymous: false,
      allowedHosts: [],
      sandbox: "auto",
      allowUnisolated: false,
      allowedPrograms: [],
      workspaceRoots: [],
      referenceRoots: [],
      allowedImages: [],
      browserImages: [],
      secretFiles: [],
      keyFiles: [],
      dockerHost: "unix:///var/run/docker.sock",
      image: "pillion-agent:base",
      runtime: "runc",
      cpus: 4,
      memory: 8 * 1024 ** 3,
      pids: 512,
      concurrency: 4,
      queue: 16,
      wallMs: 1_800_000,
      idleMs: 300_000,
      steps: 200,
      requests: 10_000,
      egressBytes: 1024 ** 3,
      sweepMs: 60_000,
      prepareMs: 30_000,
      requestBytes: 8_388_608,
      workspaceBytes: 1_073_741_824,
      demoModel: true,
      model: "demo/tour",
      modelRetries: 2,
      logLevel: "info",
      drainMs: 8_000,
      privateTargets: [],
      configDir: "/opt/pillion/config",
      skillsDir: "/opt/pillion/skills",
      uidBase: 240_000,
    });
  });

  test("the data directory follows XDG_DATA_HOME when that is absolute", () => {
    expect(read({ env: { XDG_DATA_HOME: "/data" } }).home).toBe("/data/pillion");
    expect(read({ env: { XDG_DATA_HOME: "data" } }).home).toBe("/home/ada/.local/share/pillion");
  });

  test("a user that the system does not know is told to name a data directory", () => {
    for (const HOME of ["/", "", undefined]) {
      expect(complaintsOf({ env: { HOME } })).toEqual([
        "PILLION_HOME must be set: no place for it could be found",
      ]);
    }
    expect(read({ env: { HOME: "/", PILLION_HOME: "/data/" } }).home).toBe("/data");
    expect(read({ env: { HOME: "/" }, findUserHome: () => "/root" }).home).toBe("/root/.local/share/pillion");
  });

  test("product directories that are not next to the program have to be named", () => {
    expect(complaintsOf({ findDirectory: () => undefined })).toEqual([
      "PILLION_CONFIG_DIR must be set: no place for it could be found",
      "PILLION_SKILLS_DIR must be set: no place for it could be found",
    ]);
  });

  test("there is no default model without the demo model, and it cannot be asked for then", () => {
    expect(read({ env: { PILLION_DEMO_MODEL: "false" } }).model).toBeUndefined();
    expect(complaintsOf({ env: { PILLION_DEMO_MODEL: "no", PILLION_MODEL: "demo/tour" } })).toEqual([
      "PILLION_MODEL names the demo model, which PILLION_DEMO_MODEL takes away",
    ]);
  });
});

describe("precedence", () => {
  const files = {
    "/c.json": '{"port": 1, "host": "file", "steps": 7, "allowedHosts": ["a.example", "b.example"]}',
  };

  test("flag beats environment beats config file beats default", () => {
    const env = { PILLION_CONFIG: "/c.json", PILLION_PORT: "2", PILLION_HOST: "env" };
    const settings = read({ files, env, flags: { port: "3" } });
    expect([settings.port, settings.host, settings.steps, settings.queue]).toEqual([3, "env", 7, 16]);
    expect(settings.allowedHosts).toEqual(["a.example", "b.example"]);
  });

  test("an empty or blank value means not set, at every level", () => {
    const env = { PILLION_CONFIG: "/c.json", PILLION_PORT: "", PILLION_HOST: "  ", PILLION_UNKNOWN: "" };
    expect(read({ files, env, flags: { port: "" } })).toMatchObject({ port: 1, host: "file" });
    expect(read({ env: { PILLION_CONFIG: "" } }).port).toBe(8765);
  });

  test("the flag names a config file over the environment", () => {
    const both = { ...files, "/d.json": '{"port": 9}' };
    expect(read({ files: both, env: { PILLION_CONFIG: "/c.json" }, flags: { config: "/d.json" } }).port).toBe(
      9,
    );
  });
});

describe("kinds", () => {
  test.each([
    ["PILLION_REQUEST_BYTES", "64k", "requestBytes", 65_536],
    ["PILLION_REQUEST_BYTES", "8M", "requestBytes", 8_388_608],
    ["PILLION_REQUEST_BYTES", "2048", "requestBytes", 2048],
    ["PILLION_WORKSPACE_BYTES", "2g", "workspaceBytes", 2_147_483_648],
    ["PILLION_WALL_MS", "1500", "wallMs", 1500],
    ["PILLION_WALL_MS", "250ms", "wallMs", 250],
    ["PILLION_WALL_MS", "30s", "wallMs", 30_000],
    ["PILLION_WALL_MS", "5m", "wallMs", 300_000],
    ["PILLION_WALL_MS", "1h", "wallMs", 3_600_000],
    ["PILLION_PORT", "0", "port", 0],
    ["PILLION_ALLOW_ANONYMOUS", "yes", "allowAnonymous", true],
    ["PILLION_ALLOWED_PROGRAMS", " bash , git ,,", "allowedPrograms", ["bash", "git"]],
    ["PILLION_ALLOWED_PROGRAMS", ",", "allowedPrograms", []],
    ["PILLION_ALLOWED_HOSTS", "Pillion.Example:80,[::1]", "allowedHosts", ["pillion.example:80", "[::1]"]],
    ["PILLION_PRIVATE_TARGETS", "http://127.0.0.1:9000/", "privateTargets", ["http://127.0.0.1:9000"]],
    [
      "PILLION_PRIVATE_TARGETS",
      "http://Models.internal:8080=10.1.0.0/16,https://[FD00::1]:443=fd00::/64",
      "privateTargets",
      ["http://models.internal:8080=10.1.0.0/16", "https://[fd00::1]=fd00::/64"],
    ],
    [
      "PILLION_EGRESS",
      "api.example.com, *.example.com:8443,http://a.example,[2001:db8::1]",
      "egress",
      ["api.example.com", "*.example.com:8443", "http://a.example", "[2001:db8::1]"],
    ],
    ["PILLION_EGRESS", "*.internal", "egress", ["*.internal"]],
    ["PILLION_EGRESS", ",", "egress", []],
    ["PILLION_EGRESS", "", "egress", undefined],
    ["PILLION_HOST", "::", "host", "::"],
  ] as const)("%s=%s is read", (name, value, field, expected) => {
    expect(read({ env: { [name]: value } })[field]).toEqual(expected);
  });

  test.each([
    ["PILLION_PORT", "65536", "must be a whole number from 0 to 65535"],
    ["PILLION_PORT", "80a", "must be a whole number from 0 to 65535"],
    ["PILLION_CONCURRENCY", "0", "must be a whole number from 1 to 256"],
    ["PILLION_QUEUE", "-1", "must be a whole number from 0 to 10000"],
    ["PILLION_WALL_MS", "3 weeks", "must be milliseconds, or like 30s, 5m, 1h, from 1ms to 168h"],
    ["PILLION_REQUEST_BYTES", "10t", "must be bytes, plain or like 64k, 8m, 1g, from 1k to 256m"],
    ["PILLION_ALLOW_ANONYMOUS", "maybe", "must be true or false"],
    ["PILLION_SANDBOX", "vm", "must be one of auto, local, docker"],
    ["PILLION_HOME", "data", "must be an absolute path"],
    ["PILLION_HOST", "[::1]:80", "must be an address or a host name, without brackets or port"],
    ["PILLION_MODEL", "tour", "must be provider/name"],
    ["PILLION_PRIVATE_TARGETS", "http://a/b", "must be origins like http://127.0.0.1:9000, without a path"],
    ["PILLION_PRIVATE_TARGETS", "http://u:p@a", "must be origins like http://127.0.0.1:9000, without a path"],
    ["PILLION_PRIVATE_TARGETS", "http://a_b", "must be origins like http://127.0.0.1:9000, without a path"],
    ["PILLION_PRIVATE_TARGETS", "http://a.:80", "must be origins like http://127.0.0.1:9000, without a path"],
    ["PILLION_PRIVATE_TARGETS", "http://a=10.1.0.0", "must have a range like 10.1.0.0/16 behind the `=`"],
    ["PILLION_PRIVATE_TARGETS", "http://a=", "must have a range like 10.1.0.0/16 behind the `=`"],
    ["PILLION_PRIVATE_TARGETS", "http://a=10.1.0.0/33", "must have a range like 10.1.0.0/16 behind the `=`"],
    ["PILLION_PRIVATE_TARGETS", "http://a=012.1.0.0/8", "must have a range like 10.1.0.0/16 behind the `=`"],
    ["PILLION_EGRESS", "*", BAD_PATTERN],
    ["PILLION_EGRESS", "a.*.example", BAD_PATTERN],
    ["PILLION_EGRESS", "ftp://a.example", BAD_PATTERN],
    ["PILLION_EGRESS", "a.example:65536", BAD_HOST],
    ["PILLION_EGRESS", "127.1", BAD_HOST],
    ["PILLION_EGRESS", "*.0.0.1", BAD_HOST],
    ["PILLION_EGRESS", "0x7f000001", BAD_HOST],
    ["PILLION_EGRESS", "[::1::2]", BAD_HOST],
    ["PILLION_ALLOWED_HOSTS", "http://a", "must be host names like pillion.example, without scheme or path"],
    ["PILLION_ALLOWED_HOSTS", "*", "must be host names like pillion.example, without scheme or path"],
    [
      "PILLION_WORKSPACE_ROOTS",
      "/ok,rel,/missing",
      'must be absolute paths of existing directories; not so: "rel", "/missing"',
    ],
  ])("%s=%s is refused", (name, value, message) => {
    const isNamed = /_(EGRESS|TARGETS|HOSTS)$/.test(name) && !value.includes("@");
    const named = isNamed ? `; not so: ${JSON.stringify(value)}` : "";
    expect(complaintsOf({ env: { [name]: value } })).toEqual([`${name} ${message}${named}`]);
  });

  test("workspace roots become real paths of directories", () => {
    const dir = realpathSync(mkdtempSync(join(tmpdir(), "pillion-settings-")));
    mkdirSync(join(dir, "real"));
    symlinkSync(join(dir, "real"), join(dir, "link"));
    writeFileSync(join(dir, "file"), "");
    const readRoots = (roots: string) =>
      readSettings({
        env: {
          PILLION_HOME: "/x",
          PILLION_CONFIG_DIR: "/x",
          PILLION_SKILLS_DIR: "/x",
          PILLION_WORKSPACE_ROOTS: roots,
        },
      }).workspaceRoots;
    expect(readRoots(`${dir}/link,${dir}/real`)).toEqual([join(dir, "real")]);
    expect(() => readRoots(`${dir}/file`)).toThrow(/must be absolute paths of existing directories/);
  });
});

describe("mistakes", () => {
  test("all are told at once, from every source, each with the name to change", () => {
    const files = { "/c.json": '{"steps": 0, "queu": 1, "host": {}}' };
    const env = { PILLION_CONFIG: "/c.json", PILLION_PORT: "x", PILLION_TOKN: "t", PILLION_TOKEN: "a b" };
    expect(complaintsOf({ files, env, flags: { wallMs: "soon", tokenFil: "/t" } })).toEqual([
      "PILLION_TOKN is not a setting; did you mean PILLION_TOKEN?",
      "flag tokenFil is not a setting; did you mean tokenFile?",
      "queu in the config file is not a setting; did you mean queue?",
      "host in the config file has a value of the wrong type",
      "PILLION_PORT must be a whole number from 0 to 65535",
      "PILLION_TOKEN must be printable ASCII without spaces",
      "--wall-ms must be milliseconds, or like 30s, 5m, 1h, from 1ms to 168h",
      "steps in the config file must be a whole number from 1 to 100000",
    ]);
  });

  test("an unknown name far from all others names none", () => {
    expect(complaintsOf({ env: { PILLION_SOMETHING_ELSE_ENTIRELY: "1" } })).toEqual([
      "PILLION_SOMETHING_ELSE_ENTIRELY is not a setting",
    ]);
  });

  test("a config file that is missing, no JSON or no object is told", () => {
    const env = { PILLION_CONFIG: "/c.json" };
    expect(complaintsOf({ env })).toEqual(["PILLION_CONFIG names a file that cannot be read"]);
    for (const text of ["{", "[]", "null"]) {
      expect(complaintsOf({ env, files: { "/c.json": text } })).toEqual([
        "PILLION_CONFIG must name a file that holds one JSON object",
      ]);
    }
  });

  test("the variables an orchestrator adds for a service called pillion are not taken for settings", () => {
    const env = {
      PILLION_PORT: "tcp://10.0.0.1:8765",
      PILLION_SERVICE_HOST: "10.0.0.1",
      PILLION_SERVICE_PORT_HTTP: "8765",
      PILLION_PORT_8765_TCP: "tcp://10.0.0.1:8765",
      PILLION_PORT_8765_TCP_ADDR: "10.0.0.1",
      PILLION_WEB_PORT: "tcp://10.0.0.1:1",
    };
    expect(read({ env }).port).toBe(8765);
  });
});

describe("secrets", () => {
  test("come plainly or by file, without the file's line end", () => {
    expect(read({ env: { PILLION_TOKEN: SECRET } }).token).toBe(SECRET);
    expect(read({ env: { PILLION_TOKEN_FILE: "/t" }, files: { "/t": `${SECRET}\n` } }).token).toBe(SECRET);
    expect(read({ flags: { tokenFile: "/t" }, files: { "/t": SECRET } }).token).toBe(SECRET);
  });

  test("given in both ways they are refused, and a stronger source settles it", () => {
    const files = { "/t": SECRET };
    const env = { PILLION_TOKEN: "other", PILLION_TOKEN_FILE: "/t" };
    expect(complaintsOf({ env, files })).toEqual([
      "PILLION_TOKEN is given twice, plainly and as a file; keep one of the two",
    ]);
    expect(read({ env: { PILLION_TOKEN: "other" }, flags: { tokenFile: "/t" }, files }).token).toBe(SECRET);
  });

  test("an empty or missing file is an error and never an open door", () => {
    const env = { PILLION_TOKEN_FILE: "/t" };
    expect(complaintsOf({ env, files: { "/t": "\n" } })).toEqual([
      "PILLION_TOKEN_FILE names a file that is empty",
    ]);
    expect(complaintsOf({ env })).toEqual(["PILLION_TOKEN_FILE names a file that cannot be read"]);
  });

  test("credentials are a JSON array of the contract's credentials", () => {
    const credentials = [{ host: "api.example", header: "authorization", value: `Bearer ${SECRET}` }];
    const text = JSON.stringify(credentials);
    expect(read({ env: { PILLION_CREDENTIALS: text } }).credentials).toEqual(credentials);
    expect(
      read({ env: { PILLION_CONFIG: "/c" }, files: { "/c": `{"credentials":${text}}` } }).credentials,
    ).toEqual(credentials);
  });

  test("no complaint quotes a secret, whatever shape it came in", () => {
    const broken = [
      `[{"host":"a","header":"b","value":"${SECRET}\\u0007"}]`,
      `[{"host":"a","header":"b","${SECRET}":"c"}]`,
      `{"${SECRET}":1}`,
      `[${SECRET}]`,
      SECRET,
    ];
    for (const text of broken) {
      const told = complaintsOf({ env: { PILLION_CREDENTIALS: text, PILLION_TOKEN: `${SECRET} x` } }).join(
        "\n",
      );
      expect(told).toMatch(/PILLION_CREDENTIALS must be/);
      expect(told).not.toContain(SECRET.slice(3, 9));
    }
  });

  test("the public view shows that they are set and no part of them; the control shows everything else", () => {
    const credentials = JSON.stringify([
      { host: "a.example", header: "x-api-key", value: `Bearer ${SECRET}` },
    ]);
    const settings = read({ env: { PILLION_TOKEN: SECRET, PILLION_CREDENTIALS: credentials } });
    const shown = toPublicSettings(settings);
    expect(shown).toMatchObject({
      token: "(set)",
      credentials: "(set)",
      openaiApiKey: "(not set)",
      port: 8765,
    });
    expect(Object.keys(shown)).toEqual(Object.keys(SettingTable.shape));
    expect(JSON.stringify(shown)).not.toMatch(/canary|4711/);
    expect(JSON.stringify(settings)).toContain(SECRET);
    expect(toSecrets(settings)).toEqual([SECRET, `Bearer ${SECRET}`]);
  });
});

test("every setting has one sentence, its own names, and a default that its kind accepts", () => {
  expect(new Set(SETTINGS.map(({ env }) => env)).size).toBe(SETTINGS.length);
  for (const { name, env, flag, description, secret } of SETTINGS) {
    expect(env, name).toMatch(/^PILLION_[A-Z_]+$/);
    expect(flag, name).toMatch(secret ? /^--[a-z-]+-file$/ : /^--[a-z-]+$/);
    expect(description, name).toMatch(/^[A-Z][^\n]*\.$/);
  }
});
