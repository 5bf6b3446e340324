// Images that a real engine built, by both of its builders: what was planted is found, a tiny clean one has nothing, ours is clean.
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { AGENT_IMAGE, docker, readEngineHost } from "../../sidecar/test/behaviours/open-places.ts";
import { exportImage } from "../src/engine-export.ts";
import { auditImage, type ImageAudit } from "../src/image-audit.ts";
import { POLICY } from "./clean-image.ts";

const NAME = `pillion-audit-${randomUUID().slice(0, 8)}`;
const TOKEN = "q7Zr2Lk9Xw4Tn8Vb";
const BUILDERS = [
  ["BuildKit", "1"],
  ["the classic builder", "0"],
] as const;

afterAll(() => {
  const built = docker(["images", "-q", NAME]).split("\n").filter(Boolean);
  docker(["image", "rm", "-f", ...new Set(built)]);
});

async function auditByName(name: string): Promise<ImageAudit> {
  return await auditImage(await exportImage(name, readEngineHost()), POLICY, () => undefined);
}

function build(builder: string, dockerfile: string, args: readonly string[] = []): string {
  const directory = mkdtempSync(join(tmpdir(), "audit-build-"));
  writeFileSync(join(directory, "Dockerfile"), dockerfile);
  writeFileSync(join(directory, "readme"), "a page\n");
  writeFileSync(join(directory, "program"), "#!/bin/sh\necho a dummy\n", { mode: 0o755 });
  const tag = `${NAME}:${randomUUID().slice(0, 8)}`;
  docker(["build", "--quiet", ...args, "--tag", tag, directory], { DOCKER_BUILDKIT: builder });
  rmSync(directory, { recursive: true, force: true });
  return tag;
}

describe.each(BUILDERS)("an image built by %s", { timeout: 120_000 }, (_, builder) => {
  test("S1.5 a tiny one that is clean has no finding", async () => {
    const { findings, totals } = await auditByName(build(builder, "FROM scratch\nCOPY readme /\nENV A=b\n"));
    expect(findings).toEqual([]);
    expect(totals).toMatchObject({ images: 1, layers: 1, files: 1 });
  });

  test("S1.5 a program is found at its place, and one that a later layer deletes", async () => {
    const { findings } = await auditByName(
      build(
        builder,
        [
          "FROM debian:bookworm-slim",
          "COPY program /usr/local/bin/claude",
          "COPY program /opt/tools/cursor-agent",
          "RUN rm -r /opt/tools",
        ].join("\n"),
      ),
    );
    const own = findings.filter(({ rule }) => rule === "proprietary-program");
    expect(own.map(({ path, deleted }) => [path, deleted === true])).toEqual([
      ["/opt/tools/cursor-agent", true],
      ["/usr/local/bin/claude", false],
    ]);
  });

  test("S1.6 a token is found in ENV, LABEL, a build argument, its default and a remote", async () => {
    const { findings } = await auditByName(
      build(
        builder,
        [
          "FROM debian:bookworm-slim",
          `ARG FIRST_TOKEN=${TOKEN}`,
          "ARG SECOND_TOKEN",
          "RUN mkdir -p /src/.git",
          `RUN printf '[remote "o"]\\n\\turl = https://me:%s@example.com/x\\n' "$SECOND_TOKEN" >/src/.git/config`,
          `ENV THIRD_TOKEN=${TOKEN}`,
          `LABEL fourth.token=${TOKEN}`,
        ].join("\n"),
        ["--build-arg", `SECOND_TOKEN=${TOKEN}`],
      ),
    );
    const details = findings
      .filter(({ rule }) => rule === "credential")
      .map(({ path, detail }) => `${path}: ${detail}`);
    expect(details).toEqual(
      expect.arrayContaining([
        "/src/.git/config: url-password, line 2",
        "config: Env: THIRD_TOKEN is set",
        "config: Labels: fourth.token is set",
        expect.stringMatching(/^config: history \d+: FIRST_TOKEN is set$/),
        expect.stringMatching(/^config: history \d+: SECOND_TOKEN is set$/),
      ]),
    );
  });
});

describe("S1.4 S1.5 S1.6 S2.2 S2.10 each of our images is clean", () => {
  const prefix = AGENT_IMAGE.replace(/-agent:base$/, "");
  test.each([
    ["agent:base", ["node"]],
    ["agent:slim", ["node"]],
    ["agent:browser", ["node"]],
    ["sidecar:latest", ["node", "pillion-health"]],
  ])(
    "%s, with Pi, Node and Debian's packages accounted for",
    async (name, programs) => {
      const { findings, accepted, inventories, totals } = await auditByName(`${prefix}-${name}`);
      expect(findings).toEqual([]);
      expect(accepted).toEqual([]);
      expect(totals.debianPackages).toBeGreaterThan(50);
      const [inventory] = inventories;
      expect(inventory?.npm.find(({ name: npm }) => npm === "@earendil-works/pi-coding-agent")).toMatchObject(
        {
          licence: "MIT",
        },
      );
      expect(inventory?.programs.map((program) => program.name).toSorted()).toEqual(programs);
    },
    180_000,
  );
});
