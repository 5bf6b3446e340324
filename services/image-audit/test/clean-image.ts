// A small image with nothing wrong: Debian and npm packages, a bundle, a program; and what an audit says of an image.
import { createHash } from "node:crypto";
import { join } from "node:path";
import { Readable } from "node:stream";
import { type AuditPolicy, readAuditPolicy } from "../src/audit-policy.ts";
import { auditImage, type ImageAudit } from "../src/image-audit.ts";
import { type PlantedFile, type PlantedImage, toDockerArchive } from "./saved-image-writer.ts";

export const POLICY = readAuditPolicy(join(import.meta.dirname, "../../../config"));

const LICENCE = `MIT License\n\nCopyright (c) somebody\n\n${"Permission is hereby granted to test. ".repeat(10)}`;
const BUNDLE = "export const answer = 42;\n";
const ELF = Buffer.from("\x7fELF\x02\x01\x01 a program of Debian's");

export function toStatus(fields: Readonly<Record<string, string>>): string {
  return Object.entries({
    Status: "install ok installed",
    Architecture: "amd64",
    Version: "1.0-1",
    ...fields,
  })
    .map(([name, value]) => `${name}: ${value}\n`)
    .join("");
}

export function toManifest(name: string, licence?: string): PlantedFile {
  const manifest = { name, version: "1.2.3", ...(licence === undefined ? {} : { license: licence }) };
  return { path: `/app/node_modules/${name}/package.json`, content: JSON.stringify(manifest) };
}

export function toText(name: string): PlantedFile {
  return { path: `/app/node_modules/${name}/LICENSE`, content: LICENCE };
}

export const CLEAN: readonly PlantedFile[] = [
  {
    path: "/var/lib/dpkg/status",
    content: [
      toStatus({ Package: "tool", Section: "utils", Source: "tools (0.9)" }),
      toStatus({ Package: "libtool1", Section: "libs", Source: "tools" }),
    ].join("\n"),
  },
  { path: "/var/lib/dpkg/info/tool.list", content: "/.\n/bin\n/bin/tool\n" },
  {
    path: "/usr/share/doc/tool/copyright",
    content: "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nLicense: GPL-2+\n",
  },
  { path: "/bin", linkTo: "usr/bin" },
  { path: "/usr/bin/tool", content: ELF, mode: 0o755 },
  { path: "/opt/copy/tool", content: ELF, mode: 0o755 }, // byte by byte the package's
  toManifest("left", "(MIT OR GPL-3.0-only)"),
  toText("left"),
  toManifest("@scope/right", "Apache-2.0"),
  { ...toText("right"), path: "/app/node_modules/@scope/right/COPYING.txt" },
  { path: "/app/node_modules/left/dist/package.json", content: '{"type":"commonjs"}' },
  // An example within a package is no package of the image.
  { path: "/app/node_modules/left/examples/a/package.json", content: '{"name":"a","version":"1.0.0"}' },
  { path: "/app/node_modules/left/dist/left.js", content: "module.exports = 1;\n" },
  { path: "/app/bundle.mjs", content: BUNDLE },
  {
    path: "/app/THIRD-PARTY.json",
    content: JSON.stringify({
      files: [
        {
          path: "bundle.mjs",
          sha256: createHash("sha256").update(BUNDLE).digest("hex"),
          packages: ["within@4.5.6"],
        },
      ],
      packages: [{ name: "within", version: "4.5.6", licence: "ISC", text: LICENCE }],
    }),
  },
  { path: "/etc/profile", content: "export API_KEY=$(cat /run/secrets/key)\nTOKEN=<your-token>\n" },
  { path: "/usr/lib/tool/keys.txt", content: "it begins with -----BEGIN PRIVATE KEY----- and so on\n" },
];

export const CLEAN_IMAGE: PlantedImage = {
  layers: [CLEAN],
  config: {
    Env: ["PATH=/usr/bin", "GIT_CONFIG_KEY_0=safe.directory", "PILLION_TOKEN_FILE=/run/secrets/token"],
    Labels: { "org.opencontainers.image.created": "1970-01-01T00:00:00Z" },
  },
  history: [{ created_by: "RUN |1 VERSION=1.2.3 /bin/sh -c make" }],
};

/** The clean image with more in it: further files in its one layer, or whole further layers. */
export function withPlanted(
  files: readonly PlantedFile[],
  ...laterLayers: readonly (readonly PlantedFile[])[]
): PlantedImage {
  const paths = new Set(files.map(({ path }) => path));
  return {
    ...CLEAN_IMAGE,
    layers: [[...CLEAN.filter(({ path }) => !paths.has(path)), ...files], ...laterLayers],
  };
}

export async function audit(saved: Buffer, policy: AuditPolicy = POLICY): Promise<ImageAudit> {
  return await auditImage(Readable.from(toChunks(saved)), policy, () => undefined);
}

/** As a file or a socket delivers it. */
function* toChunks(bytes: Buffer): Generator<Buffer> {
  for (let at = 0; at < bytes.length; at += 65_536) yield bytes.subarray(at, at + 65_536);
}

/** Rule, path and detail of each finding; layers are told by their digests, which say nothing to a reader. */
export async function findIn(image: PlantedImage, policy: AuditPolicy = POLICY): Promise<string[]> {
  const { findings } = await audit(await toDockerArchive(image), policy);
  return findings.map(
    ({ rule, path, detail, deleted }) => `${rule} ${path}: ${detail}${deleted === true ? " (deleted)" : ""}`,
  );
}
