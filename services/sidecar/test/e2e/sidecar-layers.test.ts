/** What is in the service's image, layer by layer: what it must have, what must be in none, and that it is built the same twice. */
import { execFileSync, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { docker, readEngine } from "../behaviours/open-places.ts";
import { type LayerFile, readLayers, readTar } from "../fakes/image-layers.ts";
import { SIDECAR_IMAGE } from "../fakes/sidecar-container.ts";

const ROOT = join(import.meta.dirname, "../../../..");
const MAX_BYTES = 380 * 1000 * 1000;
/** A program's own word for the format is not a key: a key has a body. */
const PRIVATE_KEY = /-----BEGIN [A-Z ]*PRIVATE KEY-----\s+(?:[A-Za-z-]+: .*\s+)*[A-Za-z0-9+/=\s]{60,}/;

let files: LayerFile[];
beforeAll(async () => {
  files = (await readLayers(SIDECAR_IMAGE)).flat();
}, 120_000);

function find(path: string): LayerFile | undefined {
  return files.find((file) => file.path === path);
}

/** Debian's GnuTLS tests itself at its start, with keys that everybody has. */
const SELF_TEST = /\/libgnutls\.so/;

const findKeys = (among: readonly LayerFile[]): string[] =>
  among
    .filter(({ path }) => !SELF_TEST.test(path))
    .filter(({ content }) => PRIVATE_KEY.test(content.toString("latin1")))
    .map(({ path }) => path);

test("S1.4 it has Node, the bundles, Pi, the daemon, config and skills, each with its licence", () => {
  const paths = [
    "usr/local/bin/node",
    "app/dist/pillion.mjs",
    "app/dist/node-flags",
    "app/dist/engine-proxy.mjs",
    "app/dist/product/guard/main.mjs",
    "app/dist/product/extension/pillion.js",
    "app/dist/product/pi/node_modules/@earendil-works/pi-coding-agent/dist/bundle/cli.js",
    "app/dist/daemon/sandbox-agent",
    "app/config/agent.json",
    "app/skills/code-review/SKILL.md",
    "etc/ssl/certs/ca-certificates.crt",
    ...["git", "gpgv", "tini"].map((name) => `usr/bin/${name}`),
  ];
  expect(paths.filter((path) => (find(path)?.content.length ?? 0) === 0)).toEqual([]);
  const licences = {
    "usr/share/doc/pillion/copyright": "MIT License",
    "app/config/licence-texts/@earendil-works__pi-coding-agent.txt": "Mario Zechner",
    "app/dist/daemon/LICENSE": "Apache License",
    "usr/share/doc/git/copyright": "GNU General Public License",
  };
  for (const [path, text] of Object.entries(licences))
    expect(find(path)?.content.toString("utf8") ?? path).toContain(text);
  const run = ["run", "--rm", "--network", "none", "--read-only", "--cap-drop", "ALL", "--user", "12345"];
  const daemon = ["--entrypoint", "/app/dist/daemon/sandbox-agent", SIDECAR_IMAGE, "--version"];
  expect(docker([...run, ...daemon])).toContain("0.4.2");
  expect(docker([...run, "--entrypoint", "git", SIDECAR_IMAGE, "--version"])).toContain("git version");
  expect(docker([...run, "--entrypoint", "gpgv", SIDECAR_IMAGE, "--version"])).toContain("gpgv");
});

test("no layer has a setuid file, a package list or cache, a log, a watcher, a test, or sources", () => {
  const isUnwanted = ({ path, mode, type, content }: LayerFile): boolean =>
    (mode & 0o6000) !== 0 ||
    (type === "file" && /^(var\/(cache|log|lib\/apt\/lists)|tmp|root\/\.(npm|cache|local))\//.test(path)) ||
    /\/(tsx|vitest|esbuild|typescript|ssh2)(\/|$)|\.test\.[tj]s$|^src\//.test(path) ||
    (path.startsWith("etc/") && content.toString("latin1").includes("_authToken"));
  expect(files.filter(isUnwanted).map(({ path }) => path)).toEqual([]);
  expect(files.length).toBeGreaterThan(2_000); // the control: there was something to look at
});

test("no layer has a private key, and where there are some they are found", async () => {
  expect(findKeys(files)).toEqual([]);
  const planted = spawn("tar", ["-C", join(ROOT, "node_modules/.pnpm"), "-c", "--wildcards", ...toSsh2()]);
  expect(findKeys(await readTar(planted.stdout)).length).toBeGreaterThan(20);
});

/** The package whose tests have private keys, as it lies in this clone. */
function toSsh2(): string[] {
  const [name = ""] = execFileSync("sh", ["-c", "ls -d ssh2@*"], {
    cwd: join(ROOT, "node_modules/.pnpm"),
    encoding: "utf8",
  }).split("\n");
  return [`${name}/node_modules/ssh2/test`];
}

describe("its configuration", () => {
  test("says who it is, runs as a number, listens on one port and keeps data in a volume", () => {
    const [{ Config, Size, Architecture }] = JSON.parse(docker(["image", "inspect", SIDECAR_IMAGE]));
    const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { version: string };
    expect(Config).toMatchObject({
      User: "1000:1000",
      ExposedPorts: { "8765/tcp": {} },
      Volumes: { "/data": {} },
      Entrypoint: ["tini", "--", "pillion"],
      Cmd: ["serve"],
      Labels: {
        "org.opencontainers.image.title": "Pillion",
        "org.opencontainers.image.version": version,
        "org.opencontainers.image.licenses": "MIT",
        "org.opencontainers.image.revision": expect.any(String),
        "org.opencontainers.image.created": expect.any(String),
      },
    });
    expect(["amd64", "arm64"]).toContain(Architecture);
    expect(Size).toBeLessThanOrEqual(MAX_BYTES);
    const settings = (Config.Env as string[]).filter((entry) => entry.startsWith("PILLION_"));
    expect(settings).toEqual(["PILLION_HOST=0.0.0.0", "PILLION_HOME=/data/pillion"]);
  });

  test("the recipe names no architecture, and nothing that newer builders only know", () => {
    const recipe = readFileSync(join(ROOT, "docker/sidecar.Dockerfile"), "utf8");
    expect(recipe).not.toMatch(/x86_64|aarch64|amd64|arm64|linux-x64|# syntax=|<<|--link/);
  });
});

test("built twice without cache, what is ours has the same digest in every layer", () => {
  const build = (tag: string): string[] => {
    const line = ["buildx", "build", "--file", "docker/sidecar.Dockerfile", "--target", "runtime", "--quiet"];
    const fresh = ["--no-cache-filter", "bundles,program,node,runtime", "--load", "--tag", tag, ROOT];
    execFileSync("docker", [...line, ...fresh], { env: readEngine(), cwd: ROOT });
    const [{ RootFS }] = JSON.parse(docker(["image", "inspect", tag]));
    docker(["image", "rm", tag]);
    return RootFS.Layers;
  };
  const tag = `${SIDECAR_IMAGE.split(":")[0]}:twice-${process.pid}`;
  const [first, second] = [build(tag), build(tag)];
  expect(first).toHaveLength(4);
  expect(second).toEqual(first);
}, 180_000);
