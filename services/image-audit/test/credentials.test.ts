// Planted credentials, none of them real: each is found wherever it stands, and no report repeats it.
import { generateKeyPairSync } from "node:crypto";
import { readdirSync, readFileSync, realpathSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { toReport, toText } from "../src/report.ts";
import { findSecrets } from "../src/secret-scan.ts";
import { audit, CLEAN_IMAGE, findIn, withPlanted } from "./clean-image.ts";
import { type PlantedImage, toDockerArchive, toOciLayout, toTar } from "./saved-image-writer.ts";

/** Put together here, so that no scanner takes this file for one that leaks. */
const ANTHROPIC = ["sk", "ant", "api03", "aB3dE5fG7h".repeat(9)].join("-");
const OPENAI = ["sk", "proj", "aB3dE5fG7h".repeat(9)].join("-");
const GITHUB = `ghp_${"aB3dE5".repeat(6)}`;
const PLAIN = "q7Zr2Lk9Xw4Tn8Vb";
const PEM = generateKeyPairSync("ec", { namedCurve: "P-256" })
  .privateKey.export({ type: "pkcs8", format: "pem" })
  .toString();

function inFile(path: string, content: string): PlantedImage {
  return withPlanted([{ path, content }]);
}

async function findPlaces(image: PlantedImage): Promise<string[]> {
  const found = await findIn(image);
  expect(found.every((text) => text.startsWith("credential "))).toBe(true);
  return [...new Set(found.map((text) => text.replace(/^credential (.*?)(: [^:]*)$/, "$1")))];
}

describe("S1.6 a credential is found in the configuration", () => {
  test.each<[string, Partial<PlantedImage>, string]>([
    ["ENV, by its form", { config: { Env: [`SOMETHING=${ANTHROPIC}`] } }, "config: Env"],
    ["ENV, by the variable's name", { config: { Env: ["DATABASE_PASSWORD=hunter22"] } }, "config: Env"],
    ["LABEL", { config: { Labels: { build: `by ${GITHUB}` } } }, "config: Labels"],
    ["LABEL, by its name", { config: { Labels: { "com.example.apiKey": PLAIN } } }, "config: Labels"],
    ["CMD", { config: { Cmd: ["serve", "--key", OPENAI] } }, "config: Cmd"],
    ["HEALTHCHECK", { config: { Healthcheck: { Test: ["CMD", ANTHROPIC] } } }, "config: Healthcheck"],
    [
      "a build argument, in the history",
      { history: [{ created_by: "ADD x /" }, { created_by: `RUN |1 NPM_TOKEN=${PLAIN} /bin/sh -c npm ci` }] },
      "config: history 2",
    ],
    ["a build argument's default", { history: [{ created_by: `ARG SECRET=${PLAIN}` }] }, "config: history 1"],
    [
      "a command in the history",
      { history: [{ created_by: `RUN git clone https://me:${PLAIN}@example.com/x` }] },
      "config: history 1",
    ],
  ])("%s", async (_, more, place) => {
    expect(await findPlaces({ ...CLEAN_IMAGE, ...more })).toEqual([place]);
  });

  test("what only sounds like one is none", async () => {
    const Env = [
      "PILLION_TOKEN_FILE=/run/token",
      "GIT_CONFIG_KEY_0=x",
      "USE_TOKEN=true",
      "API_KEY=",
      "TOKENS=12",
    ];
    expect(await findIn({ ...CLEAN_IMAGE, config: { Env } })).toEqual([]);
  });
});

describe("S1.6 a credential is found in a file", () => {
  test.each([
    ["a key in a script", "/usr/local/bin/start", `#!/bin/sh\nexec agent --key ${ANTHROPIC}\n`],
    ["an assignment in a dotfile", "/app/.env", `OTHER=1\nSERVICE_API_KEY=${PLAIN}\n`],
    ["an assignment in hexadecimal", "/app/.env", `SERVICE_TOKEN=${"0a1b2c3d4e5f".repeat(3)}\n`],
    ["a registry's token", "/root/.npmrc", `//registry.example.com/:_authToken=${PLAIN}\n`],
    [
      "a git remote with a password",
      "/src/.git/config",
      `[remote "origin"]\n\turl = https://me:${PLAIN}@example.com/x\n`,
    ],
    [
      "a git remote with a token",
      "/src/.git/config",
      `[remote "origin"]\n\turl = https://${PLAIN}${PLAIN}@example.com/x\n`,
    ],
    ["git's own store", "/root/.git-credentials", `https://me:${PLAIN}@example.com\n`],
    ["a .netrc", "/root/.netrc", `machine example.com login me password ${PLAIN}\n`],
    ["a Docker login", "/root/.docker/config.json", `{"auths":{"example.com":{"auth":"bWU6c2VjcmV0MTIz"}}}`],
    ["an AWS key", "/root/.aws/credentials", `[default]\naws_access_key_id = AKIA${"Q3ZX7YW2".repeat(2)}\n`],
    ["a private key", "/etc/service/tls.pem", PEM],
    ["a private key in a program's text", "/app/config.js.txt", `const key = ${JSON.stringify(PEM)};\n`],
    ["a private key of PuTTY", "/root/key.ppk", `PuTTY-User-Key-File-3: ssh-rsa\nEncryption: none\n`],
  ])("%s", async (_, path, content) => {
    expect(await findPlaces(inFile(path, content))).toEqual([path]);
  });

  test("far into a long file, with the right line", async () => {
    const content = `${`${"x".repeat(99)}\n`.repeat(25_000)}${ANTHROPIC}\n`;
    expect(await findIn(inFile("/var/log/long", content))).toContain(
      "credential /var/log/long: anthropic-key, line 25001",
    );
  });

  test("deleted in a later layer, in an archive, and in what a builder attests", async () => {
    const deleted = withPlanted([{ path: "/root/.env", content: ANTHROPIC }], [{ path: "/root/.wh..env" }]);
    expect((await findIn(deleted)).every((text) => text.endsWith("(deleted)"))).toBe(true);
    expect(await findPlaces(deleted)).toEqual(["/root/.env"]);
    const tgz = gzipSync(await toTar([{ path: "x/.env", content: ANTHROPIC }]));
    expect(await findPlaces(withPlanted([{ path: "/x.tgz", content: tgz }]))).toEqual(["/x.tgz!/x/.env"]);
    const attestation = {
      path: "attestation.json",
      content: JSON.stringify({ args: { "build-arg:X": ANTHROPIC } }),
    };
    const { findings } = await audit(await toOciLayout([CLEAN_IMAGE], [attestation]));
    expect([...new Set(findings.map(({ path }) => path))]).toEqual(["/attestation.json"]);
  });

  test("every private key of the ssh2 package, where its tests got into an image", async () => {
    const require = createRequire(
      realpathSync(join(import.meta.dirname, "../../../node_modules/dockerode/package.json")),
    );
    const modem = createRequire(require.resolve("docker-modem/package.json"));
    const fixtures = join(dirname(modem.resolve("ssh2/package.json")), "test/fixtures");
    const names = readdirSync(fixtures, { recursive: true, encoding: "utf8" });
    const files = names.flatMap((name) => {
      try {
        return [
          {
            path: `/app/node_modules/ssh2/test/fixtures/${name}`,
            content: readFileSync(join(fixtures, name)),
          },
        ];
      } catch {
        return []; // a folder
      }
    });
    const keys = files.filter(({ content }) => content.toString("latin1").includes("PRIVATE KEY-----"));
    const found = new Set(await findPlaces(withPlanted(files)));
    expect(keys.length).toBeGreaterThan(20);
    expect(keys.map(({ path }) => path).filter((path) => !found.has(path))).toEqual([]);
  });

  test("a comment in the file does not silence the rules", async () => {
    const token = `npm_${"aB3dE5".repeat(6)}`;
    expect(await findSecrets(`${token}\n`, "/x")).toEqual([{ rule: "npm", line: 1 }]); // of the maintained rules alone
    const content = `# secretlint-disable\n${token}\n# secretlint-enable\n`;
    expect(await findPlaces(inFile("/etc/quiet", content))).toEqual(["/etc/quiet"]);
  });

  test.each([
    [
      "documentation",
      "export ANTHROPIC_API_KEY=your-api-key-here\nTOKEN=<token>\nKEY_TOKEN=xxxxxxxxxxxxxxxx1\n",
    ],
    [
      "a program",
      "const API_KEY = process.env.API_KEY2;\nTOKEN_PATH='/latest/api/token-v2-path'\nSECRET = getSecret(1234567)\n",
    ],
    ["a mark without a key", "if (text.includes('-----BEGIN RSA PRIVATE KEY-----')) throw 1;\n"],
    ["an address", "https://example.com:8443/a@b and git@example.com:x/y.git\n"],
  ])("%s has none", async (_, text) => {
    expect(await findSecrets(text, "/x")).toEqual([]);
  });
});

test("S1.6 no report repeats what it found", async () => {
  const planted = withPlanted([{ path: "/x", content: `${ANTHROPIC}\nSERVICE_PASSWORD=${PLAIN}\n${PEM}` }]);
  const image = { ...planted, config: { Env: [`A_TOKEN=${PLAIN}`], Labels: { key: GITHUB } } };
  const result = await audit(await toDockerArchive(image));
  const report = toReport(result, "planted", "0", new Date());
  const told = toText(report) + JSON.stringify(report);
  expect(result.findings.length).toBeGreaterThan(4);
  for (const secret of [ANTHROPIC, PLAIN, GITHUB, PEM.split("\n")[1] ?? ""])
    for (const part of [secret, secret.slice(0, 12), secret.slice(-12)]) expect(told).not.toContain(part);
});
