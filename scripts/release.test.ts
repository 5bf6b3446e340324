// Which tags a commit's images get, and what is not published.
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";

let repository: string;

beforeEach(() => {
  repository = mkdtempSync(join(tmpdir(), "pillion-release-"));
  mkdirSync(join(repository, "scripts"));
  cpSync(join(import.meta.dirname, "release.sh"), join(repository, "scripts/release.sh"));
  writeFileSync(join(repository, "package.json"), '{ "version": "1.2.3" }');
  git("init", "--quiet");
  git("add", ".");
  git("-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "--quiet", "--message", "first");
});
afterEach(() => rmSync(repository, { recursive: true, force: true }));

function git(...args: string[]): string {
  return spawnSync("git", args, { cwd: repository, encoding: "utf8" }).stdout.trim();
}

function release(...args: string[]) {
  // Nobody's settings but its own; no engine is asked for a dry run.
  const env = { PATH: process.env.PATH, HOME: repository };
  const { status, stdout, stderr } = spawnSync("scripts/release.sh", args, {
    cwd: repository,
    env,
    encoding: "utf8",
  });
  return { status, lines: stdout.split("\n").filter(Boolean), stderr };
}

const sha = (): string => `sha-${git("rev-parse", "HEAD").slice(0, 12)}`;

test("S2.9 a commit with its version's tag is that version and the latest", () => {
  git("tag", "v1.2.3");
  const { status, lines } = release("--dry-run");
  expect(status).toBe(0);
  expect(lines).toEqual([
    `release: sidecar for linux/amd64,linux/arm64: pillion-sidecar:v1.2.3 pillion-sidecar:latest pillion-sidecar:${sha()}`,
    expect.stringContaining(
      `pillion-agent:v1.2.3 pillion-agent:latest pillion-agent:${sha()} pillion-agent:v1.2.3-base pillion-agent:latest-base`,
    ),
    expect.stringContaining(
      `pillion-agent:v1.2.3-slim pillion-agent:latest-slim pillion-agent:${sha()}-slim`,
    ),
    expect.stringContaining(
      `pillion-agent:v1.2.3-browser pillion-agent:latest-browser pillion-agent:${sha()}-browser`,
    ),
  ]);
});

test("S2.9 any other commit is dev, whatever else is tagged", () => {
  git("tag", "v1.2.2");
  const { lines } = release(
    "--dry-run",
    "--only",
    "sidecar",
    "--platforms",
    "linux/arm64",
    "--push",
    "example.com/a",
  );
  expect(lines).toEqual([
    `release: sidecar for linux/arm64: example.com/a/pillion-sidecar:dev example.com/a/pillion-sidecar:${sha()}`,
  ]);
});

test("what is not committed is dev and says so, and is not published", () => {
  git("tag", "v1.2.3");
  writeFileSync(join(repository, "new.txt"), "");
  expect(release("--dry-run", "--only", "sidecar").lines).toEqual([
    `release: sidecar for linux/amd64,linux/arm64: pillion-sidecar:dev pillion-sidecar:${sha()}-dirty`,
  ]);
  expect(release("--push", "example.com/a")).toEqual({
    status: 1,
    lines: [],
    stderr: "release: there are uncommitted changes; what is published must be a commit\n",
  });
});

test.each([["--pusch"], ["--only", "other"]])("a mistake is told before anything is built: %s", (...args) => {
  expect(release(...args).status).toBe(2);
});
