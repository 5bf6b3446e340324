// The command as people run it: exit codes, files, engines that are missing, and a bill of materials that is valid.
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { Version } from "@cyclonedx/cyclonedx-library/Spec";
import { JsonStrictValidator } from "@cyclonedx/cyclonedx-library/Validation";
import { beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { runAudit } from "../src/audit-command.ts";
import { AuditError } from "../src/audit-error.ts";
import { readAuditPolicy } from "../src/audit-policy.ts";
import { CLEAN_IMAGE, withPlanted } from "./clean-image.ts";
import { toDockerArchive, toOciLayout } from "./saved-image-writer.ts";

const CONFIG = join(import.meta.dirname, "../../../config");
const PROGRAM = join(import.meta.dirname, "../../../dist/pillion.mjs");

let directory: string;
let clean: string;
let planted: string;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "audit-command-"));
  clean = join(directory, "clean.tar");
  planted = join(directory, "planted.tar");
  writeFileSync(clean, await toDockerArchive(CLEAN_IMAGE));
  writeFileSync(
    planted,
    await toOciLayout([withPlanted([{ path: "/usr/bin/claude\u001b[2J", mode: 0o4755 }])]),
  );
});

async function run(more: Partial<Parameters<typeof runAudit>[0]>, stdin = Readable.from([])) {
  const told: string[] = [];
  const lines: string[] = [];
  const options = {
    ...{ name: undefined, input: undefined, json: undefined, sbom: undefined, report: undefined },
    engine: "unix:///absent.sock",
    configDir: CONFIG,
    version: "1.2.3",
    ...more,
  };
  const code = await runAudit(options, {
    stdin,
    print: (output) => void told.push(output),
    progress: (line) => void lines.push(line),
  });
  return { code, told: told.join(""), progress: lines.join("\n") };
}

test("a clean image ends with 0 and says what was read", async () => {
  const { code, told } = await run({ input: clean, name: "ours" });
  expect(told.split("\n").slice(0, 3)).toEqual([
    "ours: clean",
    expect.stringMatching(/^ {2}linux\/amd64 {2}sha256:[0-9a-f]{64} {2}planted:test$/),
    expect.stringMatching(/^ {2}1 layers, 16 files, 0\.0 MB, 3 npm packages, 2 Debian packages, [\d.]+ s$/),
  ]);
  expect(code).toBe(0);
});

test("a report that cannot be written ends with 3 and says where, whatever was found", async () => {
  const { code, progress } = await run({ input: clean, json: join(clean, "report.json") });
  expect({ code, progress }).toEqual({
    code: 3,
    progress: expect.stringContaining(`${join(clean, "report.json")} cannot be written (`),
  });
});

test("findings end with 1, stand in text and JSON, and cannot steer a terminal", async () => {
  const report = join(directory, "report");
  const { code, told } = await run({ input: planted, report });
  expect(code).toBe(1);
  expect(told).toContain(
    "\nsetuid: A setuid or setgid file.\n  /usr/bin/claude\\u{1b}[2J: mode 4755 [sha256:",
  );
  expect(told).not.toContain("\u001b");
  expect(readFileSync(join(report, "report.txt"), "utf8")).toBe(told);
  const json: unknown = JSON.parse(readFileSync(join(report, "report.json"), "utf8"));
  expect(json).toMatchObject({
    format: 1,
    auditor: "pillion 1.2.3",
    clean: false,
    totals: { images: 1, layers: 1 },
    findings: [
      { rule: "setuid", path: "/usr/bin/claude\u001b[2J", layer: expect.stringMatching(/^sha256:/) },
    ],
  });
});

test("an exception covers its own rule and path only, is told with its reason, and told when it covers nothing", async () => {
  const configDir = mkdtempSync(join(directory, "config-"));
  for (const name of ["proprietary.json", "licences.json"])
    writeFileSync(join(configDir, name), readFileSync(join(CONFIG, name)));
  const write = (accepted: unknown) =>
    writeFileSync(join(configDir, "audit-accepted.json"), JSON.stringify({ accepted }));
  const why = "made by the tests, and harmless";
  write([
    { rule: "setuid", path: "/usr/bin/claude*", why },
    { rule: "licence", path: "/usr/bin/claude*", why },
  ]);
  const { code, told } = await run({ input: planted, configDir });
  expect(code).toBe(0);
  expect(told).toContain(`because ${why}`);
  expect(told).toContain("Exceptions that cover nothing here:\n  licence /usr/bin/claude*");
  for (const path of ["*", "/*", "/usr/**", "/*/x"]) {
    write([{ rule: "setuid", path, why }]);
    expect(() => readAuditPolicy(configDir), path).toThrow(AuditError);
  }
  write([{ rule: "setuid", path: "/usr/bin/claude", why: "" }]);
  expect((await run({ input: planted, configDir })).code).toBe(3);
});

describe("S1.4 the bill of materials", () => {
  test("is valid with packages inside others' bundles, which have neither version nor licence", async () => {
    const content = 'var x=__commonJS({"node_modules/@a/within-it/i.js"(){}});';
    const input = join(directory, "embedded.tar");
    writeFileSync(
      input,
      await toDockerArchive(withPlanted([{ path: "/app/node_modules/left/dist/left.js", content }])),
    );
    const sbom = join(directory, "embedded.json");
    const { code, told } = await run({ input, sbom });
    expect([code, told]).toEqual([0, expect.stringContaining("\n  /app/node_modules/left: 1\n")]);
    const written = readFileSync(sbom, "utf8");
    expect(await new JsonStrictValidator(Version.v1dot6).validate(written)).toBeNull();
    expect(written).toContain('"purl": "pkg:npm/%40a/within-it"');
  });

  test("is valid CycloneDX and has every package with licence, digest and purl", async () => {
    const sbom = join(directory, "sbom.json");
    expect((await run({ input: clean, sbom })).code).toBe(0);
    const written = readFileSync(sbom, "utf8");
    expect(await new JsonStrictValidator(Version.v1dot6).validate(written)).toBeNull();
    const { components } = z
      .object({ components: z.array(z.looseObject({ purl: z.string() })) })
      .parse(JSON.parse(written));
    expect(components.map(({ purl }) => purl).sort()).toEqual([
      "pkg:deb/debian/libtool1@1.0-1?arch=amd64",
      "pkg:deb/debian/tool@1.0-1?arch=amd64",
      "pkg:npm/%40scope/right@1.2.3",
      "pkg:npm/left@1.2.3",
      "pkg:npm/within@4.5.6",
    ]);
    expect(components.find(({ purl }) => purl.includes("right"))).toMatchObject({
      group: "@scope",
      name: "right",
      licenses: [{ license: { id: "Apache-2.0" } }],
      hashes: [{ alg: "SHA-256", content: expect.stringMatching(/^[0-9a-f]{64}$/) }],
    });
    expect(components.find(({ purl }) => purl.includes("left"))).toMatchObject({
      licenses: [{ expression: "(MIT OR GPL-3.0-only)" }],
    });
    expect(components.find(({ purl }) => purl.includes("/tool@"))).toMatchObject({
      licenses: [{ license: { name: "GPL-2+" } }],
    });
  });

  test("the validator bites: a bill with a made-up field is refused", async () => {
    const bad = JSON.stringify({ bomFormat: "CycloneDX", specVersion: "1.6", madeUp: true });
    expect(await new JsonStrictValidator(Version.v1dot6).validate(bad)).not.toBeNull();
  });

  test("with several platforms there is one for each", async () => {
    const saved = await toOciLayout([CLEAN_IMAGE, { ...CLEAN_IMAGE, architecture: "arm64" }]);
    const sbom = join(directory, "many.cdx.json");
    expect((await run({ input: "-", sbom }, Readable.from([saved]))).code).toBe(0);
    for (const platform of ["linux-amd64", "linux-arm64"])
      expect(readFileSync(join(directory, `many.${platform}.cdx.json`), "utf8")).toContain(
        platform.replace("-", "/"),
      );
  });
});

describe("what cannot be audited ends with 3 and says why", () => {
  test.each([
    ["no engine", { name: "x" }, /no container engine answers at unix:\/\/\/absent\.sock .*--input/],
    [
      "an address of another kind",
      { name: "x", engine: "ssh://host" },
      /ssh:\/\/host is no address.*docker save/,
    ],
    ["no file", { input: "/absent.tar" }, /there is no saved image at \/absent\.tar/],
    [
      "no policy",
      { input: "/absent.tar", configDir: "/absent" },
      /\/absent\/proprietary\.json cannot be used/,
    ],
  ])("%s", async (_, options, message) => {
    const { code, told, progress } = await run(options);
    expect([code, told]).toEqual([3, ""]);
    expect(progress).toMatch(message);
  });

  test("an engine that has no such image, that fails, and that breaks off; and one that delivers", async () => {
    const saved = readFileSync(clean);
    await using server = createServer((request, response) => {
      if (request.url === "/images/gone/get") response.writeHead(404).end('{"message":"No such image"}');
      else if (request.url === "/images/ours%3A1%2Fx/get") response.end(saved);
      else if (request.url === "/images/cut/get")
        response.write(saved.subarray(0, 2000), () => response.destroy());
      else response.writeHead(500).end("broken");
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = z.object({ port: z.number() }).parse(server.address());
    const engine = `tcp://127.0.0.1:${address.port}`;
    expect(await run({ name: "gone", engine })).toMatchObject({
      code: 3,
      progress: expect.stringMatching(/has no image gone/),
    });
    expect(await run({ name: "other", engine })).toMatchObject({
      code: 3,
      progress: expect.stringMatching(/answered 500: broken/),
    });
    expect(await run({ name: "cut", engine })).toMatchObject({
      code: 3,
      progress: expect.stringMatching(/damaged/),
    });
    expect(await run({ name: "ours:1/x", engine })).toMatchObject({
      code: 0,
      told: expect.stringMatching(/^ours:1\/x: clean/),
    });
  });
});

test("the built program does the same, whatever else is set; without a name it explains itself and ends with 2", async () => {
  const audit = async (args: readonly string[], input = "") => {
    const env = { PATH: process.env.PATH, PILLION_PORT: "nonsense", DOCKER_HOST: "unix:///absent.sock" };
    const child = spawn(process.execPath, [PROGRAM, "audit-image", ...args], { env });
    child.stdin.end(input === "" ? "" : readFileSync(input));
    const [told, said] = await Promise.all([text(child.stdout), text(child.stderr)]);
    return {
      code: child.exitCode ?? (await new Promise((resolve) => child.once("exit", resolve))),
      told,
      said,
    };
  };
  expect(await audit(["--input", clean])).toMatchObject({
    code: 0,
    told: expect.stringMatching(/: clean\n/),
  });
  expect(await audit(["--input", "-"], planted)).toMatchObject({
    code: 1,
    told: expect.stringMatching(/setuid/),
  });
  expect(await audit([])).toMatchObject({ code: 2, told: "", said: expect.stringMatching(/name an image/) });
  expect(await audit(["absent"])).toMatchObject({
    code: 3,
    told: "",
    said: expect.stringMatching(/no container engine answers/),
  });
});
