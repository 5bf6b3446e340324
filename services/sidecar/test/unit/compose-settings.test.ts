import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { SETTINGS } from "../../src/setting-table.ts";

const FILE = join(import.meta.dirname, "../../../../docker/compose.yaml");

/** What the compose file settles by itself, and what makes no sense in it; any other setting is the operator's to make. */
const SETTLED: Readonly<Record<string, string>> = {
  PILLION_HOST: "the image's",
  PILLION_PORT: "the image's; PILLION_PUBLISH says where it is to be had",
  PILLION_HOME: "the image's volume",
  PILLION_TOKEN: "a secret of the file",
  PILLION_ALLOW_ANONYMOUS: "there is always a token",
  PILLION_SANDBOX: "docker",
  PILLION_ALLOW_UNISOLATED: "there is no sandbox but docker's",
  PILLION_DOCKER_HOST: "the proxy",
  PILLION_WORKSPACE_ROOTS: "needs mounts",
  PILLION_REFERENCE_ROOTS: "needs mounts",
  PILLION_CONFIG_DIR: "mounted over the image's",
  PILLION_SKILLS_DIR: "mounted over the image's",
  PILLION_DRAIN_MS: "goes with the file's own grace period",
  PILLION_UID_BASE: "of local sandboxes",
};

test("S2.11 the compose file passes every setting on that it does not settle, and an empty one is not set", () => {
  const passed: Record<string, string> = parse(readFileSync(FILE, "utf8"))["x-settings"];
  const names = SETTINGS.map(({ env }) => env).filter((name) => SETTLED[name] === undefined);
  expect(names.filter((name) => !(name in passed))).toEqual([]);
  const plain = names.filter((name) => name !== "PILLION_IMAGE"); // the file's other services need its default as well
  expect(plain.filter((name) => passed[name] !== `\${${name}:-}`)).toEqual([]);
});

test("S2.11 the compose file passes nothing on that is no setting", () => {
  const passed: Record<string, string> = parse(readFileSync(FILE, "utf8"))["x-settings"];
  const known = SETTINGS.flatMap(({ env, secret }) => (secret ? [env, `${env}_FILE`] : [env]));
  expect(Object.keys(passed).filter((name) => !known.includes(name))).toEqual([]);
});
