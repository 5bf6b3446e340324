// Packages and files that must not be in an image, one planted at a time; and what an audit counts and refuses.
import { Readable } from "node:stream";
import { describe, expect, test } from "vitest";
import { AuditError } from "../src/audit-error.ts";
import type { Finding } from "../src/finding.ts";
import { readSavedImage } from "../src/saved-image.ts";
import {
  audit,
  CLEAN,
  CLEAN_IMAGE,
  findIn,
  POLICY,
  toManifest,
  toStatus,
  toText,
  withPlanted,
} from "./clean-image.ts";
import { LONG_AGO, type PlantedFile, toDockerArchive, toOciLayout, toTar } from "./saved-image-writer.ts";

function toDebian(fields: Readonly<Record<string, string>>): PlantedFile {
  return { path: "/var/lib/dpkg/status", content: toStatus({ Section: "libs", ...fields }) };
}

const COPYRIGHT = { path: "/usr/share/doc/extra/copyright", content: "free\n" };

describe("S1.4 an npm package needs an allowed licence and its text", () => {
  test.each([
    ["GPL-3.0-only", "GPL-3.0-only is not on the allow list"],
    ["(MIT AND AGPL-3.0-only)", "(MIT AND AGPL-3.0-only) is not on the allow list"],
    ["SEE LICENSE IN LICENSE.md", "SEE LICENSE IN LICENSE.md is no SPDX expression"],
    [undefined, "declares no licence"],
  ])("%s", async (licence, problem) => {
    const found = await findIn(withPlanted([toManifest("extra", licence), toText("extra")]));
    expect(found).toEqual([`licence /app/node_modules/extra/package.json: extra@1.2.3 ${problem}`]);
  });

  test("without a text it is found, Pi's like every other's", async () => {
    const pi = "@earendil-works/pi-coding-agent";
    expect(await findIn(withPlanted([toManifest(pi, "MIT")]))).toEqual([
      `licence-text /app/node_modules/${pi}/package.json: ${pi}@1.2.3 has no file with its licence's text`,
    ]);
    expect(await findIn(withPlanted([toManifest(pi, "MIT"), toText(pi)]))).toEqual([]);
  });

  test("inside a bundle it is found by the list beside it", async () => {
    const list = {
      files: [],
      packages: [
        { name: "a", version: "1", licence: "GPL-2.0-only", text: "x".repeat(200) },
        { name: "b", version: "1", licence: "MIT", text: "MIT" },
      ],
    };
    const path = "/srv/THIRD-PARTY.json";
    expect(await findIn(withPlanted([{ path, content: JSON.stringify(list) }]))).toEqual([
      `licence ${path}: a@1 GPL-2.0-only is not on the allow list`,
      `licence-text ${path}: b@1 has no text of its licence`,
    ]);
    expect(await findIn(withPlanted([{ path, content: "{}" }]))).toEqual([
      `unlisted-code ${path}: is not a list of third-party code`,
    ]);
  });
});

describe("S1.5 what others bundle is known by its bundler's marks", () => {
  const toBundle = (name: string) =>
    `var x=__commonJS({"../node_modules/.pnpm/a@1/node_modules/${name}/i.js"(){}});`;

  test("a proprietary package in a bundle is found, other packages stand in the inventory", async () => {
    const files = ["one", "@a/two"].map((name, index) => ({
      path: `/app/node_modules/left/dist/${index}.js`,
      content: toBundle(name),
    }));
    const { findings, inventories } = await audit(await toDockerArchive(withPlanted(files)));
    expect(findings).toEqual([]);
    const path = "/app/node_modules/left";
    expect(inventories[0]?.embedded).toEqual([
      { name: "one", path },
      { name: "@a/two", path },
    ]);
    const bad = { path: `${path}/dist/0.js`, content: toBundle("@anthropic-ai/claude-agent-sdk") };
    expect(await findIn(withPlanted([bad]))).toEqual([
      `proprietary-program ${bad.path}: contains claude-code, by the package name @anthropic-ai/claude-agent-sdk`,
    ]);
  });
});

describe("code of unknown origin is found", () => {
  test("a program, and a script outside of every package", async () => {
    const planted = [
      { path: "/opt/tool", content: Buffer.from("\x7fELF another") },
      { path: "/app/other.mjs", content: "export {};\n" },
    ];
    expect(await findIn(withPlanted(planted))).toEqual([
      "unlisted-code /app/other.mjs: a script of unknown origin",
      "unlisted-code /opt/tool: a program of unknown origin",
    ]);
  });

  test("a bundle that is not what its list says", async () => {
    expect(await findIn(withPlanted([{ path: "/app/bundle.mjs", content: "changed()\n" }]))).toEqual([
      "unlisted-code /app/bundle.mjs: differs from what its list says",
    ]);
  });

  test("a program that the policy names needs its licence's text", async () => {
    const node = { path: "/usr/local/bin/node", content: Buffer.from("\x7fELF node"), mode: 0o755 };
    const text = { path: "/usr/local/LICENSE", content: "the text of it ".repeat(20) };
    expect((await findIn(withPlanted([node])))[0]).toMatch(
      /^licence-text \/usr\/local\/bin\/node: node has no file/,
    );
    expect(await findIn(withPlanted([node, text]))).toEqual([]);
  });
});

describe("a Debian package is from main and has its copyright file", () => {
  const status = "/var/lib/dpkg/status";
  test.each(["non-free/libs", "contrib/utils", "non-free-firmware/kernel", "non-free"])(
    "%s",
    async (section) => {
      const image = withPlanted([toDebian({ Package: "extra", Section: section }), COPYRIGHT]);
      expect(await findIn(image)).toContain(`debian-section ${status}: extra 1.0-1 is from ${section}`);
    },
  );

  test("also one that a later layer removed from the list", async () => {
    const later = CLEAN.filter(({ path }) => path === status);
    const image = withPlanted([toDebian({ Package: "extra", Section: "non-free/libs" }), COPYRIGHT], later);
    expect(await findIn(image)).toContain(
      `debian-section ${status}: extra 1.0-1 is from non-free/libs (deleted)`,
    );
  });

  test("without copyright it is found; a link to it, or a sibling's of one source, will do", async () => {
    const lone = toDebian({ Package: "extra" });
    const missing = `debian-copyright ${status}: extra 1.0-1 lacks /usr/share/doc/extra/copyright`;
    expect(await findIn(withPlanted([lone]))).toContain(missing);
    expect(await findIn(withPlanted([lone, COPYRIGHT]))).not.toContain(missing);
    const link = { path: "/usr/share/doc/extra", linkTo: "tool" };
    expect(await findIn(withPlanted([lone, link]))).not.toContain(missing);
    const gone = [{ path: "/usr/share/doc/extra/.wh.copyright" }];
    expect(await findIn(withPlanted([lone, COPYRIGHT], gone))).toContain(missing);
  });
});

describe("files that an image must not have", () => {
  test.each([
    ["setuid", 0o4755, "mode 4755"],
    ["setgid", 0o2755, "mode 2755"],
  ])("S2.2 %s", async (_, mode, detail) => {
    expect(
      await findIn(withPlanted([{ path: "/usr/bin/up", mode }], [{ path: "/usr/bin/up", mode: 0o755 }])),
    ).toEqual([`setuid /usr/bin/up: ${detail} (deleted)`]);
  });

  test("S2.10 package caches, told once each, also deleted ones", async () => {
    const caches = [
      "/var/lib/apt/lists/deb.debian.org_dists_bookworm_InRelease",
      "/var/cache/apt/archives/x.deb",
      "/var/cache/apt/pkgcache.bin",
      "/root/.npm/_cacache/index-v5/00/aa",
      "/root/.cache/pip/http/a",
      "/root/.local/share/pnpm/store/v10/files/00/aa",
    ];
    const files = caches.map((path) => ({ path, content: "123" }));
    expect(await findIn(withPlanted([...files, { path: "/var/lib/apt/lists/lock" }]))).toEqual([
      "package-cache /root/.cache/pip: 1 files, 3 bytes",
      "package-cache /root/.local/share/pnpm/store: 1 files, 3 bytes",
      "package-cache /root/.npm/_cacache: 1 files, 3 bytes",
      "package-cache /var/cache/apt: 2 files, 6 bytes",
      "package-cache /var/lib/apt/lists: 1 files, 3 bytes",
    ]);
    const gone = withPlanted(files.slice(0, 1), [{ path: "/var/lib/apt/.wh.lists" }]);
    expect(await findIn(gone)).toEqual(["package-cache /var/lib/apt/lists: 1 files, 3 bytes (deleted)"]);
  });

  test("files younger than the configuration, or by more than a day than the label", async () => {
    const hour = 3600_000;
    const young = { path: "/etc/young", content: "x", modifiedAt: new Date(LONG_AGO.getTime() + 12 * hour) };
    const image = withPlanted([young]);
    expect(await findIn(image)).toEqual([
      "newer-than-declared /etc/young: 1 files; this one is of 2026-01-02T15:04:05.000Z, the configuration says 2026-01-02T04:00:00.000Z",
    ]);
    const labelled = (date: string) => ({
      ...image,
      config: { Labels: { "org.opencontainers.image.created": date } },
    });
    expect(await findIn(labelled("2026-01-02T03:00:00Z"))).toEqual([]);
    expect((await findIn(labelled("2026-01-01T03:00:00Z")))[0]).toMatch(
      /of 2026-01-02.*the label says 2026-01-01/,
    );
  });
});

describe("every form of a saved image is read whole", () => {
  const planted = withPlanted([{ path: "/usr/bin/claude", mode: 0o755 }]);

  test.each(["gzip", "zstd", undefined] as const)(
    "layers packed as %s, in Docker's form and in OCI's",
    async (packedAs) => {
      const image = { ...planted, ...(packedAs === undefined ? {} : { packedAs }) };
      for (const saved of [await toDockerArchive(image), await toOciLayout([image])]) {
        const { findings, totals } = await audit(saved);
        expect(findings.map(({ rule, path }) => [rule, path])).toEqual([
          ["proprietary-program", "/usr/bin/claude"],
        ]);
        expect(totals).toMatchObject({
          images: 1,
          layers: 1,
          files: CLEAN.length,
          debianPackages: 2,
          npmPackages: 3,
        });
      }
    },
  );

  test("all platforms of an index, nested or not", async () => {
    const arm = { ...planted, architecture: "arm64" };
    const { inventories, findings, totals } = await audit(await toOciLayout([CLEAN_IMAGE, arm]));
    expect(inventories.map(({ image }) => image.platform)).toEqual(["linux/amd64", "linux/arm64"]);
    expect(inventories[0]?.image.references).toEqual(["planted:test"]);
    expect(findings.map(({ path }) => path)).toEqual(["/usr/bin/claude"]);
    expect(totals).toMatchObject({ images: 2, layers: 2 });
  });

  test("a layer that nothing names, beside the image", async () => {
    const stray = { path: "stray.tar", content: await toTar([{ path: "opt/claude", mode: 0o755 }]) };
    const { findings } = await audit(await toOciLayout([CLEAN_IMAGE], [stray]));
    expect(findings.map(({ path, layer }) => [path, layer])).toEqual([["/opt/claude", "/stray.tar"]]);
  });

  test("what is named and not there is a finding, so that half an image is never clean", async () => {
    const absent = `sha256:${"0".repeat(64)}`;
    const { findings } = await audit(await toOciLayout([CLEAN_IMAGE], [], [{ digest: absent }]));
    expect(findings.map(({ rule, path }) => `${rule} ${path}`)).toEqual([
      `incomplete-image manifest ${absent}`,
    ]);
    const manifest = [{ Config: "absent.json", RepoTags: ["x"], Layers: [] }];
    await expect(
      audit(await toTar([{ path: "manifest.json", content: JSON.stringify(manifest) }])),
    ).rejects.toThrow("the input holds no image");
    const wrongOrder = { ...CLEAN_IMAGE, diffIds: [absent] };
    expect((await audit(await toDockerArchive(wrongOrder))).findings[0]).toMatchObject({
      rule: "incomplete-image",
      path: "layers",
    });
  });

  test("a damaged one is refused: cut off, a blob with another content, no image at all", async () => {
    const whole = await toOciLayout([CLEAN_IMAGE]);
    const at = whole.indexOf("export API_KEY");
    const forged = Buffer.from(whole);
    forged.write("EXPORT", at);
    const refusals = [
      whole.subarray(0, 3000),
      forged,
      Buffer.from("no image\n".repeat(100)),
      Buffer.alloc(0),
    ];
    for (const input of refusals) await expect(audit(input)).rejects.toBeInstanceOf(AuditError);
    await expect(audit(forged)).rejects.toThrow(/has the content of/);
  });

  test("a layer is never in memory as a whole", async () => {
    const megabyte = Buffer.alloc(1024 * 1024);
    const bytes = 320 * megabyte.length;
    const end = Buffer.alloc(1024);
    const outer = await toHeader("layer.tar", 512 + bytes + end.length);
    const inner = await toHeader("opt/claude", bytes);
    let most = 0;
    async function* stream(): AsyncGenerator<Buffer> {
      yield Buffer.concat([outer, inner]);
      for (let sent = 0; sent < bytes; sent += megabyte.length) {
        most = Math.max(most, process.memoryUsage().arrayBuffers);
        yield megabyte;
      }
      yield Buffer.concat([end, end]);
    }
    const before = process.memoryUsage().arrayBuffers;
    const found: string[] = [];
    const report = ({ path }: Finding) => void found.push(path);
    await readSavedImage(Readable.from(stream()), { policy: POLICY, report, onPart: () => undefined });
    expect(found).toEqual(["/opt/claude"]); // it was read, as a layer
    expect(most - before).toBeLessThan(bytes / 2);
  });
});

/** The header of an executable file whose content is still to come. */
async function toHeader(path: string, bytes: number): Promise<Buffer> {
  const header = (await toTar([{ path, mode: 0o755 }])).subarray(0, 512);
  header.write(`${bytes.toString(8).padStart(11, "0")}\0`, 124);
  header.fill(" ", 148, 156);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return header;
}
