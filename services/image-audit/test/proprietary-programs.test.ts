// Planted programs, all dummies of our own: each is found however it is hidden, and the clean image has none.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { SignatureSearch } from "../src/proprietary-rule.ts";
import { CLEAN_IMAGE, findIn, POLICY, withPlanted } from "./clean-image.ts";
import { type PlantedFile, toTar, toZip } from "./saved-image-writer.ts";

const DUMMY = Buffer.from(
  `#!/bin/sh\n# A dummy. (c) Anthropic PBC. All rights reserved. Use is subject to nothing here.\n`,
);
const HARMLESS = Buffer.from("#!/bin/sh\necho a dummy\n");

function toProgram(path: string, content: Buffer = HARMLESS): PlantedFile {
  return { path, content, mode: 0o755 };
}

test("S1.5 a clean image has no finding", async () => {
  expect(await findIn(CLEAN_IMAGE)).toEqual([]);
});

describe("S1.5 a proprietary program is found", () => {
  test.each([
    ["at its real path", "/usr/local/bin/claude", "claude-code, by its name"],
    [
      "where its own updater puts it",
      "/home/a/.local/share/claude/versions/2.1.0",
      "claude-code, by its path",
    ],
    ["where the daemon puts it", "/data/sandbox-agent/bin/amp", "amp, by its name"],
    ["of another vendor", "/usr/bin/cursor-agent", "cursor-agent, by its name"],
    ["of a third", "/opt/bin/copilot", "copilot, by its name"],
    ["of a fourth", "/root/.factory/bin/d1", "droid, by its path"],
  ])("%s", async (_, path, detail) => {
    expect(await findIn(withPlanted([toProgram(path)]))).toContain(`proprietary-program ${path}: ${detail}`);
  });

  test("as a link of its name; a folder or a page of that name is none", async () => {
    const link = { path: "/usr/bin/claude", linkTo: "/opt/x/run" };
    const alike = [
      { path: "/usr/share/claude/" },
      { path: "/usr/share/amp", content: "an amplifier\n" },
      { path: "/opt/copilot.txt", content: "a page\n" },
    ];
    expect(await findIn(withPlanted([link, ...alike]))).toEqual([
      "proprietary-program /usr/bin/claude: claude-code, by its name",
    ]);
  });

  test("renamed, by its content, also where that lies across two chunks and far into a file", async () => {
    for (const before of [0, 65_500, 3_000_000]) {
      const content = Buffer.concat([Buffer.alloc(before, "x\n"), DUMMY]);
      expect(await findIn(withPlanted([{ path: "/opt/innocent.dat", content }]))).toEqual([
        "proprietary-program /opt/innocent.dat: claude-code, by its content",
      ]);
    }
  });

  test("by several texts together, of which one alone proves nothing", async () => {
    const both = { path: "/opt/x", content: "ampcode.com\nAMP_API_KEY\nAMP_URL\n" };
    const one = { path: "/opt/y", content: "see ampcode.com\n" };
    expect(await findIn(withPlanted([both, one]))).toEqual([
      "proprietary-program /opt/x: amp, by its content",
    ]);
  });

  test("but not in the list of signatures itself, byte by byte as it was loaded", async () => {
    const list = readFileSync(join(import.meta.dirname, "../../../config/proprietary.json"));
    expect(await findIn(withPlanted([{ path: "/opt/config/list.json", content: list }]))).toEqual([]);
    const changed = Buffer.concat([list, Buffer.from("\n")]);
    expect(await findIn(withPlanted([{ path: "/opt/config/list.json", content: changed }]))).toHaveLength(1);
  });

  test("by its digest", async () => {
    const sha256 = createHash("sha256").update(HARMLESS).digest("hex");
    const [first, ...rest] = POLICY.programs;
    const policy = { ...POLICY, programs: [{ ...first!, sha256: [sha256] }, ...rest] };
    const image = withPlanted([toProgram("/opt/innocent")]);
    expect(await findIn(image, policy)).toEqual([
      "proprietary-program /opt/innocent: claude-code, by its SHA-256",
    ]);
    expect(await findIn(image)).toEqual([]); // the control: no other rule knows it
  });

  test("deleted in a later layer, or replaced by something harmless", async () => {
    const planted = [toProgram("/opt/tools/claude"), { path: "/opt/renamed", content: DUMMY }];
    const later = [{ path: "/opt/tools/.wh..wh..opq" }, { path: "/opt/renamed", content: "gone\n" }];
    expect(await findIn(withPlanted(planted, later))).toEqual([
      "proprietary-program /opt/renamed: claude-code, by its content (deleted)",
      "proprietary-program /opt/tools/claude: claude-code, by its name (deleted)",
    ]);
    const removed = [{ path: "/opt/tools/.wh.claude" }, { path: "/opt/.wh.renamed" }];
    expect(await findIn(withPlanted(planted, removed))).toHaveLength(2);
  });

  test("as an npm package, once for each, also where its package.json was deleted", async () => {
    const folder = "/app/node_modules/@anthropic-ai/claude-agent-sdk-linux-x64";
    const files = [
      { path: `${folder}/README.md`, content: "a dummy\n" },
      { path: `${folder}/bin/run`, content: "a dummy\n" },
    ];
    expect(await findIn(withPlanted(files))).toEqual([
      `proprietary-program ${folder}: claude-code, by the package name @anthropic-ai/claude-agent-sdk-linux-x64`,
    ]);
  });

  test("in a package that was renamed on disk, and in a bundle's own list", async () => {
    const manifest = { name: "@sourcegraph/amp", version: "1.0.0", license: "MIT" };
    const list = {
      files: [],
      packages: [{ name: "@github/copilot", version: "1.0.0", licence: "MIT", text: "x".repeat(200) }],
    };
    const found = await findIn(
      withPlanted([
        { path: "/srv/innocent/package.json", content: JSON.stringify(manifest) },
        { path: "/srv/innocent/LICENSE", content: "a licence\n" },
        { path: "/srv/THIRD-PARTY.json", content: JSON.stringify(list) },
      ]),
    );
    expect(found).toEqual([
      "proprietary-program /srv/THIRD-PARTY.json: lists copilot, by the package name @github/copilot",
      "proprietary-program /srv/innocent/package.json: @sourcegraph/amp@1.0.0 is amp, by the package name @sourcegraph/amp",
    ]);
  });
});

test("S1.5 a text is found however the file comes in pieces, and only when it is whole", () => {
  const text = DUMMY.toString();
  for (const length of [1, 7, 50, 1000]) {
    const [whole, broken] = [new SignatureSearch(POLICY.programs), new SignatureSearch(POLICY.programs)];
    for (let at = 0; at < text.length; at += length) {
      whole.add(Buffer.from(text.slice(at, at + length)));
      broken.add(Buffer.from(text.slice(at, at + length).replaceAll("r", "_")));
    }
    expect(whole.toReason()).toBe("claude-code, by its content");
    expect(broken.toReason()).toBeUndefined();
  }
});

describe("S1.5 a proprietary program is found inside an archive", () => {
  const inner = [{ path: "package/innocent.js", content: DUMMY }];

  test("in a tar file, a gzip, a zstd and a zip, whatever their names", async () => {
    const tar = await toTar(inner);
    const found = await findIn(
      withPlanted([
        { path: "/a", content: tar },
        { path: "/b", content: gzipSync(tar) },
        { path: "/c", content: zstdCompressSync(tar) },
        { path: "/d", content: toZip("x/innocent", DUMMY) },
        { path: "/e", content: gzipSync(DUMMY) },
      ]),
    );
    // What is not compressed shows in the outer file too.
    const paths = ["/a", "/a!/package/innocent.js", "/b!", "/b!/package/innocent.js", "/c!"];
    const more = ["/c!/package/innocent.js", "/d", "/d!/x/innocent", "/e!"];
    expect(found).toEqual(
      [...paths, ...more].map((path) => `proprietary-program ${path}: claude-code, by its content`),
    );
  });

  test("in an archive in an archive in an archive", async () => {
    const tgz = gzipSync(await toTar(inner));
    const nested = gzipSync(await toTar([{ path: "deep.zip", content: toZip("d.tgz", tgz) }]));
    const found = await findIn(withPlanted([{ path: "/x.bin", content: nested }]));
    expect(found).toContain(
      "proprietary-program /x.bin!/deep.zip!/d.tgz!/package/innocent.js: claude-code, by its content",
    );
    expect(found).toHaveLength(2);
  });

  test("as a published package, by the name that it gives itself", async () => {
    const content = JSON.stringify({ name: "@anthropic-ai/claude-code", version: "2.0.0" });
    const tgz = gzipSync(await toTar([{ path: "package/package.json", content }]));
    expect(await findIn(withPlanted([{ path: "/x.tgz", content: tgz }]))).toEqual([
      "proprietary-program /x.tgz!/package/package.json: claude-code, by the package name @anthropic-ai/claude-code",
    ]);
  });

  test("an archive that cannot be opened is told, not passed over: unknown kinds, broken, locked and too deep ones", async () => {
    const deep = Array.from({ length: 9 }).reduce<Buffer>((content) => gzipSync(content), DUMMY);
    const found = await findIn(
      withPlanted([
        { path: "/x.xz", content: Buffer.from("fd377a585a000004", "hex") },
        { path: "/cut.gz", content: gzipSync(Buffer.alloc(100_000, "abc")).subarray(0, 60) },
        { path: "/deep", content: deep },
        { path: "/locked.zip", content: toZip("a", HARMLESS, true) },
      ]),
    );
    expect(found).toEqual([
      "unread-content /cut.gz: unexpected end of file",
      "unread-content /deep!!!!!!!!: an archive 8 levels deep",
      expect.stringMatching(/^unread-content \/locked\.zip: ./),
      "unread-content /x.xz: an archive of a kind that the audit cannot open",
    ]);
  });
});
