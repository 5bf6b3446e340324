// The command line: what arguments mean, and that misuse is told instead of guessed.
import { describe, expect, test } from "vitest";
import { RunRequest } from "#contract/run";
import { type CommandLine, parseCommandLine } from "../../src/cli-options.ts";
import { completeRequest } from "../../src/cli-run.ts";
import { SETTINGS } from "../../src/setting-table.ts";
import { readSettings } from "../../src/settings.ts";

function parse(argv: readonly string[], stdinIsTerminal = true): CommandLine {
  return parseCommandLine(argv, { version: "1.2.3", stdinIsTerminal, cwd: "/home/ada" });
}

function parseRun(argv: readonly string[], stdinIsTerminal = true) {
  const parsed = parse(["run", ...argv], stdinIsTerminal);
  if (parsed.command !== "run") throw new Error(`not a run: ${JSON.stringify(parsed)}`);
  return parsed;
}

const NO_OPTIONS = {
  requestFromStdin: false,
  stream: false,
  json: false,
  outputDir: undefined,
  files: [],
  config: undefined,
};

describe("serve", () => {
  test("takes every setting as a flag, named as readSettings wants it", () => {
    const argv = SETTINGS.flatMap(({ flag, kind }) => (kind === "boolean" ? [flag] : [flag, "x"]));
    const parsed = parse(["serve", "--config", "/c", ...argv]);
    if (parsed.command !== "serve") throw new Error(JSON.stringify(parsed));
    expect(Object.keys(parsed.flags)).toHaveLength(SETTINGS.length + 1);
    expect(() => readSettings({ flags: parsed.flags, env: {} })).not.toThrow(/is not a setting/);
    expect(() => readSettings({ flags: { prot: "x" }, env: {} })).toThrow(/is not a setting/); // the control
  });

  test("a switch alone is on, a list may be repeated, a secret is a file", () => {
    const argv = [
      "--allow-anonymous",
      "--demo-model",
      "false",
      "--allowed-hosts",
      "a",
      "--allowed-hosts=b,c",
    ];
    expect(parse(["serve", ...argv, "--token-file", "/t"])).toEqual({
      command: "serve",
      flags: { allowAnonymous: "true", demoModel: "false", allowedHosts: "a,b,c", tokenFile: "/t" },
    });
    expect(parse(["serve", "--token", "x"]).command).toBe("usage-error");
  });
});

describe("run", () => {
  test("makes a request that the contract accepts", () => {
    const { request, options } = parseRun([
      ...[
        "fix it",
        "--model",
        "openai/gpt-5",
        "--harness",
        "pi",
        "--workspace",
        "shop",
        "--instructions",
        "be brief",
      ],
      ...[
        "--tool",
        "read",
        "--tool",
        "edit",
        "--skill",
        "review",
        "--allow-program",
        "bash",
        "--sandbox",
        "local",
      ],
      ...["--role", "reader", "--limit-wall", "90s", "--limit-idle", "1m", "--limit-steps", "5"],
      ...["--limit-requests", "50", "--limit-tokens", "100000", "--limit-cost", "0.25"],
      ...["--egress", "api.example.com", "--egress", "*.example.org:8443"],
      ...["--metadata", "team=a=b", "--stream", "--json", "--output-dir", "out", "--config", "c.json"],
    ]);
    expect(request).toEqual({
      harness: "pi",
      prompt: "fix it",
      model: "openai/gpt-5",
      agent: { instructions: "be brief", tools: ["read", "edit"], skills: [{ name: "review" }] },
      workspace: { kind: "path", path: "/home/ada/shop" },
      sandbox: { kind: "local" },
      execution: { allowedPrograms: ["bash"] },
      role: "reader",
      egress: ["api.example.com", "*.example.org:8443"],
      limits: {
        wallMs: 90_000,
        idleMs: 60_000,
        steps: 5,
        requests: 50,
        tokens: 100_000,
        costUsd: 0.25,
      },
      metadata: { team: "a=b" },
    });
    expect(RunRequest.safeParse(request).error).toBeUndefined();
    expect(options).toEqual({
      ...NO_OPTIONS,
      stream: true,
      json: true,
      outputDir: "/home/ada/out",
      config: "/home/ada/c.json",
    });
  });

  test("a prompt stands as argument or flag, and then stdin is left alone", () => {
    expect(parseRun(["hello"], false)).toMatchObject({ request: { prompt: "hello" }, options: NO_OPTIONS });
    expect(parseRun(["--prompt", "hello"])).toMatchObject({
      request: { prompt: "hello" },
      options: NO_OPTIONS,
    });
  });

  test("without a prompt the request comes from a stdin that is no terminal, or by `-` from any", () => {
    expect(parseRun([], false)).toMatchObject({ request: {}, options: { requestFromStdin: true } });
    expect(parseRun(["-"], true)).toMatchObject({ request: {}, options: { requestFromStdin: true } });
    expect(parseRun(["-", "--demo"]).request).toEqual({ model: "demo/tour" });
  });

  test("--demo alone is a whole request, whatever stdin is", () => {
    for (const isTerminal of [true, false]) {
      const { request, options } = parseRun(["--demo"], isTerminal);
      expect(request).toEqual({ prompt: "Show me what a run looks like.", model: "demo/tour" });
      expect(options).toEqual(NO_OPTIONS);
    }
    expect(parseRun(["--demo", "mine"]).request).toEqual({ prompt: "mine", model: "demo/tour" });
  });

  test("--file names a local file and, if wanted, its place", () => {
    expect(parseRun(["x", "--file", "a/b.txt", "--file", "src/c.txt=/d.txt"]).options.files).toEqual([
      { path: "b.txt", from: "/home/ada/a/b.txt" },
      { path: "src/c.txt", from: "/d.txt" },
    ]);
  });
});

describe("audit-image", () => {
  const NOTHING = { input: undefined, json: undefined, sbom: undefined, report: undefined };

  test("takes a name, or a saved image from a file or stdin, and paths relative to where it is called", () => {
    const elsewhere = { engine: undefined, configDir: undefined };
    expect(parse(["audit-image", "ours:1"])).toEqual({
      command: "audit-image",
      options: { name: "ours:1", ...NOTHING, ...elsewhere },
    });
    expect(parse(["audit-image", "--input", "-"], false)).toMatchObject({ options: { input: "-" } });
    const flags = ["--input", "i.tar", "--json", "j", "--sbom", "s", "--report", "/r"];
    expect(parse(["audit-image", ...flags, "--docker-host", "tcp://h:1", "--config-dir", "c"])).toEqual({
      command: "audit-image",
      options: {
        name: undefined,
        input: "/home/ada/i.tar",
        json: "/home/ada/j",
        sbom: "/home/ada/s",
        report: "/r",
        engine: "tcp://h:1",
        configDir: "/home/ada/c",
      },
    });
  });

  test.each([
    [["audit-image"], /name an image, or give a saved one/],
    [["audit-image", ""], /a name or file is empty/],
    [["audit-image", "x", "--json", ""], /a name or file is empty/],
    [["audit-image", "--input", "-"], /needs a saved image on stdin/],
    [["audit-image", "x", "y"], /too many arguments/],
    [["audit-image", "x", "--jsno", "y"], /unknown option.*\n[\s\S]*Try: pillion audit-image --help\n$/],
  ])("%j is misuse", (argv, message) => {
    const parsed = parse(argv);
    expect(parsed.command === "usage-error" && parsed.text).toMatch(message);
  });
});

describe("misuse is a usage error that says what to do", () => {
  test.each([
    [[], /Usage: pillion/],
    [["run"], /there is no prompt/],
    [["run", "a", "--prompt", "b"], /give the prompt once/],
    [["run", ""], /the prompt is empty/],
    [["run", "a", "b"], /too many arguments/],
    [["run", "a", "--demo", "--model", "x/y"], /--demo chooses the model/],
    [["run", "a", "--workspace", "w", "--file", "f"], /exclude each other/],
    [["run", "a", "--metadata", "team"], /must be key=value/],
    [["run", "a", "--limit-wall", "soon"], /must be milliseconds, or like 30s/],
    [["run", "a", "--limit-steps", "1.5"], /must be a whole number/],
    [["run", "a", "--limit-requests", "0"], /--limit-requests must be a whole number/],
    [["run", "a", "--limit-tokens", "many"], /--limit-tokens must be a whole number/],
    [["run", "a", "--limit-cost", "-1"], /--limit-cost must be a number/],
    [["run", "a", "--limit-cost", "0"], /--limit-cost must be a number/],
    [["run", "a", "--modle", "x/y"], /Did you mean --model\?\)\s+Try: pillion run --help\n$/],
    [["run", "--model"], /argument missing/],
    [["serve", "--prt", "1"], /Did you mean --port\?\)\s+Try: pillion serve --help\n$/],
    [["serve", "extra"], /too many arguments/],
    [["srve"], /Did you mean serve\?\)\s+Try: pillion --help\n$/],
  ])("%j", (argv, text) => {
    expect(parse(argv)).toEqual({ command: "usage-error", text: expect.stringMatching(text) });
  });
});

test("help and version are shown, with examples and exit codes", () => {
  expect(parse(["--version"])).toEqual({ command: "show", text: "1.2.3\n" });
  expect(parse(["--help"])).toEqual({ command: "show", text: expect.stringMatching(/pillion run --demo/) });
  expect(parse(["run", "--help"])).toEqual({
    command: "show",
    text: expect.stringMatching(
      /JSON from stdin[\s\S]*credentials[\s\S]*baseUrl[\s\S]*price[\s\S]*1 failed, or ended by a limit[\s\S]*124 timed out[\s\S]*Examples/,
    ),
  });
  expect(parse(["help", "serve"])).toEqual({
    command: "show",
    text: expect.stringMatching(/--token-file <file>/),
  });
});

describe("completeRequest", () => {
  const files = [{ path: "a", content: "b", encoding: "utf8" as const, executable: false }];

  test("flags win over stdin, inner fields of objects are kept", () => {
    const stdin = {
      prompt: "p",
      limits: { wallMs: 1, steps: 2 },
      metadata: { a: "1" },
      model: "x/y",
      odd: 1,
    };
    const draft = { limits: { steps: 3 }, metadata: { b: "2" }, model: "demo/tour" };
    expect(completeRequest(draft, stdin, [])).toEqual({
      prompt: "p",
      limits: { wallMs: 1, steps: 3 },
      metadata: { a: "1", b: "2" },
      model: "demo/tour",
      odd: 1,
    });
  });

  test("local files become the workspace", () => {
    expect(completeRequest({ prompt: "p" }, undefined, files)).toEqual({
      prompt: "p",
      workspace: { kind: "files", files },
    });
  });

  test("what is no object is left to the contract to refuse", () => {
    for (const value of [null, [], "text", 1])
      expect(completeRequest({ prompt: "p" }, value, [])).toEqual(value);
  });
});
