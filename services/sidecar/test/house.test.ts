// The house's rules on the real tree. Each rule is shown to bite: its control is a small tree that breaks it.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { FailureCode } from "#contract/failure";
import { readAuditPolicy } from "../../image-audit/src/audit-policy.ts";
import { findUndescribedFailures, findUnnamedFolders } from "./house/doc-rules.ts";
import {
  findAny,
  findBannedNames,
  findLongFiles,
  findMissingFirstLines,
  findModuleState,
  findReExports,
} from "./house/file-rules.ts";
import {
  findConcreteImports,
  findFilesWithoutFloor,
  findGuestImports,
  findNeighbourImports,
  findUpwardImports,
  toFloor,
} from "./house/layers.ts";
import {
  findForbiddenLicences,
  findForbiddenPackages,
  plantPackages,
  readInstalledLicences,
} from "./house/lock-file.ts";
import {
  findEnvironmentReaders,
  findForeignContractImports,
  findMisplacedPackages,
  findProcessOwners,
} from "./house/owners.ts";
import { isProduct, readSourceTree, type SourceFile, toImports } from "./house/source-tree.ts";

const ROOT = join(import.meta.dirname, "../../..");
const S = "services/sidecar/src";
const tree = readSourceTree(ROOT);

type Rule = {
  readonly name: string;
  readonly find: (files: readonly SourceFile[]) => string[];
  /** Files that break the rule, and what is then told. */
  readonly bad: Readonly<Record<string, string>>;
  readonly told: readonly string[];
  /** Files that look alike and keep it. */
  readonly good: Readonly<Record<string, string>>;
};

const RULES: readonly Rule[] = [
  {
    name: "every import runs down",
    find: findUpwardImports,
    bad: {
      [`${S}/runs/x.ts`]: 'import { type A, b } from "../http/y.ts";',
      [`${S}/kernel/z.ts`]:
        'import type { Settings } from "../runs/run.ts";\nconst late = await import("../sidecar.ts");',
      "services/contract/a.ts": 'export type { B } from "../guard/src/b.ts";',
    },
    told: [
      "runs/x.ts → http/y.ts",
      "kernel/z.ts → runs/run.ts",
      "kernel/z.ts → sidecar.ts",
      "contract/a.ts → guard/src/b.ts",
    ],
    good: {
      [`${S}/http/y.ts`]: 'import { b } from "../runs/x.ts";\nimport { c } from "./c.ts";\nimport "node:fs";',
      [`${S}/runs/x.ts`]:
        '// import { b } from "../http/y.ts";\nconst text = `\nimport { b } from "../http/y.ts";\n`;',
      [`${S}/telemetry/a.ts`]: 'import { S } from "../settings.ts";\nimport { f } from "#contract/failure";',
      "services/sidecar/test/unit/x.test.ts": 'import { m } from "../../src/main.ts";',
    },
  },
  {
    name: "neighbours of the third floor never import each other",
    find: findNeighbourImports,
    bad: { [`${S}/broker/a.ts`]: 'import {\n  b,\n} from "../sandboxes/b.ts";' },
    told: ["broker/a.ts → sandboxes/b.ts"],
    good: {
      [`${S}/broker/a.ts`]: 'import { b } from "./b.ts";\nimport { f } from "../kernel/fault.ts";',
      [`${S}/sandboxes/local/a.ts`]: 'import { b } from "../sandbox.ts";',
    },
  },
  {
    name: "guard, extension and image audit import nothing of ours but the contract",
    find: findGuestImports,
    bad: {
      "services/guard/src/a.ts": 'import { f } from "../../sidecar/src/kernel/fault.ts";',
      "services/pi-extension/src/a.ts": 'import { f } from "../../guard/src/door.ts";',
      "services/image-audit/src/a.ts": 'import { f } from "../../sidecar/src/settings.ts";',
    },
    told: [
      "guard/src/a.ts → kernel/fault.ts",
      "pi-extension/src/a.ts → guard/src/door.ts",
      "image-audit/src/a.ts → settings.ts",
    ],
    good: { "services/guard/src/a.ts": 'import { f } from "#contract/guard";\nimport { b } from "./b.ts";' },
  },
  {
    name: "runs know interfaces only",
    find: findConcreteImports,
    bad: {
      [`${S}/runs/a.ts`]:
        'import { p } from "../harnesses/pi/pi-harness.ts";\nimport { l } from "../sandboxes/local/l.ts";',
    },
    told: ["runs/a.ts → harnesses/pi/pi-harness.ts", "runs/a.ts → sandboxes/local/l.ts"],
    good: {
      [`${S}/runs/a.ts`]:
        'import type { Harness } from "../harnesses/harness.ts";\nimport type { S } from "../sandboxes/sandbox.ts";',
      [`${S}/sidecar.ts`]: 'import { p } from "./harnesses/pi/pi-harness.ts";',
    },
  },
  {
    name: "every file stands on a floor",
    find: findFilesWithoutFloor,
    bad: { [`${S}/shed/a.ts`]: "", [`${S}/stray.ts`]: "" },
    told: [
      `${S}/shed/a.ts stands on no floor; the plan is in test/house/layers.ts`,
      `${S}/stray.ts stands on no floor; the plan is in test/house/layers.ts`,
    ],
    good: {
      [`${S}/main.ts`]: "",
      [`${S}/setting-table.ts`]: "",
      [`${S}/http/sse.ts`]: "",
      "scripts/a.mjs": "",
    },
  },
  {
    name: "dockerode, hono and ACP are named in their places only",
    find: findMisplacedPackages,
    bad: {
      [`${S}/runs/a.ts`]: 'import Docker from "dockerode";',
      [`${S}/sandboxes/local/a.ts`]: 'import type Docker from "dockerode";',
      [`${S}/sidecar.ts`]: 'import { serve } from "@hono/node-server";',
      [`${S}/harnesses/pi/a.ts`]: 'import { x } from "@agentclientprotocol/sdk";',
      [`${S}/telemetry/a.ts`]: 'import { x } from "hono/streaming";',
    },
    told: [
      `${S}/runs/a.ts imports dockerode`,
      `${S}/sandboxes/local/a.ts imports dockerode`,
      `${S}/sidecar.ts imports @hono/node-server`,
      `${S}/harnesses/pi/a.ts imports @agentclientprotocol/sdk`,
      `${S}/telemetry/a.ts imports hono/streaming`,
    ],
    good: {
      [`${S}/sandboxes/docker/a.ts`]: 'import Docker from "dockerode";',
      [`${S}/http/a.ts`]: 'import { Hono } from "hono";',
      [`${S}/main.ts`]: 'import { serve } from "@hono/node-server";',
      "scripts/openapi.ts": 'import { Hono } from "hono";',
    },
  },
  {
    name: "the contract imports zod and itself only",
    find: findForeignContractImports,
    bad: {
      "services/contract/a.ts":
        'import { createHash } from "node:crypto";\nimport { f } from "../sidecar/src/f.ts";',
    },
    told: [
      "services/contract/a.ts imports node:crypto",
      "services/contract/a.ts imports services/sidecar/src/f.ts",
    ],
    good: { "services/contract/a.ts": 'import { z } from "zod";\nimport { b } from "./b.ts";' },
  },
  {
    name: "only settings.ts reads the environment",
    find: findEnvironmentReaders,
    bad: {
      [`${S}/runs/a.ts`]: "const home = process.env.HOME;",
      [`${S}/runs/b.ts`]: "const { env } = process;",
      [`${S}/runs/c.ts`]: 'import { env } from "node:process";',
      "services/guard/src/a.ts": "spawn(x, { env: process.env });",
    },
    told: [
      `${S}/runs/a.ts reads the environment`,
      `${S}/runs/b.ts reads the environment`,
      "services/guard/src/a.ts reads the environment",
      `${S}/runs/c.ts reads the environment`,
    ],
    good: {
      [`${S}/settings.ts`]: "process.env",
      [`${S}/main.ts`]: "start(process.env)",
      [`${S}/runs/a.ts`]:
        '// process.env is not read here\nconst text = "process.env"; const pattern = /process.env/;',
      "services/sidecar/test/a.test.ts": "process.env",
    },
  },
  {
    name: "only main.ts and cli.ts end the process, print or listen to signals",
    find: findProcessOwners,
    bad: {
      [`${S}/runs/a.ts`]: "process.exit(1);",
      [`${S}/runs/b.ts`]: 'console.log("x");',
      [`${S}/http/c.ts`]: 'process.on("SIGTERM", stop);',
    },
    told: ["runs/a.ts", "runs/b.ts", "http/c.ts"].map(
      (path) => `${S}/${path} ends the process, prints or listens to signals`,
    ),
    good: {
      [`${S}/cli.ts`]: "process.stdout.write(text); process.exitCode = 1;",
      [`${S}/runs/a.ts`]: "process.pid",
    },
  },
  {
    name: "no file re-exports another",
    find: findReExports,
    bad: {
      [`${S}/runs/a.ts`]: 'export * from "./b.ts";',
      [`${S}/runs/b.ts`]: 'export {\n  type C,\n  d,\n} from "./c.ts";',
      [`${S}/runs/c.ts`]: 'export type { D } from "./d.ts";',
      [`${S}/runs/d.ts`]: 'export * as e from "./e.ts";',
    },
    told: ["a", "b", "c", "d"].map((name) => `${S}/runs/${name}.ts re-exports what another file defines`),
    good: {
      [`${S}/runs/a.ts`]: 'import { b } from "./b.ts";\nexport { a };\nexport type C = { from: "x" };',
    },
  },
  {
    name: "no module has state",
    find: findModuleState,
    bad: { [`${S}/runs/a.ts`]: "// x\nlet count = 0;", [`${S}/runs/b.ts`]: "export let count = 0;" },
    told: ["a", "b"].map((name) => `${S}/runs/${name}.ts has a let at the top of the module`),
    good: {
      [`${S}/runs/a.ts`]: "function f() {\n  let count = 0;\n}\nconst text = `\nlet there be light\n`;",
    },
  },
  {
    name: "no file has a name that says nothing",
    find: findBannedNames,
    bad: {
      [`${S}/runs/utils.ts`]: "",
      [`${S}/index.ts`]: "",
      [`${S}/helpers/a.ts`]: "",
      [`${S}/types.test.ts`]: "",
    },
    told: ["runs/utils.ts", "index.ts", "helpers/a.ts", "types.test.ts"].map(
      (path) => `${S}/${path} has a name that says nothing`,
    ),
    good: { [`${S}/runs/run-index-page.ts`]: "", "services/contract/harness.ts": "" },
  },
  {
    name: "every file opens with a line that says what it is for",
    find: findMissingFirstLines,
    bad: {
      [`${S}/a.ts`]: 'import "node:fs";\n// late',
      [`${S}/b.ts`]: "/**\n * Spread over lines.\n */",
      [`${S}/c.ts`]: "",
    },
    told: ["a", "b", "c"].map((name) => `${S}/${name}.ts does not open with a line that says what it is for`),
    good: {
      [`${S}/a.ts`]: "// Does this.",
      [`${S}/b.ts`]: "/** Does that. */",
      "bin/c.mjs": "#!/usr/bin/env node\n// Starts.",
      "services/sidecar/test/unit/a.test.ts": 'import { test } from "vitest";',
    },
  },
  {
    name: "a file above 400 lines has its reason in docs/decisions/",
    find: (files) => findLongFiles(files, `long, for a reason: ${S}/known.ts. ${readDecisions()}`),
    bad: { [`${S}/a.ts`]: "x\n".repeat(401) },
    told: [`${S}/a.ts has 401 lines and docs/decisions/ does not say why`],
    good: { [`${S}/a.ts`]: "x\n".repeat(400), [`${S}/known.ts`]: "x\n".repeat(500) },
  },
  {
    name: "nothing is any",
    find: findAny,
    bad: {
      [`${S}/a.ts`]: "function f(x: any): void {}",
      [`${S}/b.ts`]: "const x = y as any;",
      [`${S}/c.ts`]: "const x: Record<string, any> = {};",
      [`${S}/d.ts`]: "type X = any[];\n",
      [`${S}/e.ts`]: "const x: Promise<any> = y;",
    },
    told: ["a", "b", "c", "d", "e"].map((name) => `${S}/${name}.ts uses any`),
    good: {
      [`${S}/a.ts`]:
        '// any: of them\nconst x = await Promise.any(all); const y = { any: 1 }; const z: "any" = "any";',
      [`${S}/b.mjs`]: "const any = 1; f(any);",
    },
  },
  {
    name: "every folder is named in docs/architecture.md",
    find: (files) =>
      findUnnamedFolders(
        files,
        files === tree ? readDoc("architecture.md") : "services/ `http/` sidecar/\nsrc/",
      ),
    bad: { [`${S}/runs/a.ts`]: "", [`${S}/http/deep/a.ts`]: "" },
    told: [`docs/architecture.md lacks ${S}/runs/`, `docs/architecture.md lacks ${S}/http/deep/`],
    good: { [`${S}/http/a.ts`]: "", "services/sidecar/test/anywhere/a.ts": "" },
  },
];

describe.each(RULES)("$name", ({ find, bad, told, good }) => {
  test("holds in the tree", () => expect(find(tree)).toEqual([]));

  test("is noticed when it is broken", () => expect(find(toFiles(bad))).toEqual(told));

  test("does not cry wolf", () => expect(find(toFiles(good))).toEqual([]));
});

describe("every failure is described in docs/failures.md", () => {
  test("holds in the tree", () => {
    expect(findUndescribedFailures(FailureCode.options, readDoc("failures.md"))).toEqual([]);
  });

  test("is noticed when it is broken", () => {
    expect(findUndescribedFailures(["lost", "internal"], "## `lost`\ninternal")).toEqual([
      "docs/failures.md lacks `internal`",
    ]);
  });
});

describe("S1.5 the lock file brings nothing proprietary and no licence that is not allowed", () => {
  const policy = readAuditPolicy(join(ROOT, "config"));
  const lockFile = readFileSync(join(ROOT, "pnpm-lock.yaml"), "utf8");
  const installed = readInstalledLicences(ROOT);

  test("holds in the tree", () => {
    expect(findForbiddenPackages(lockFile, policy.programs)).toEqual([]);
    expect(findForbiddenLicences(lockFile, installed, policy.licences)).toEqual([]);
    expect(installed.size).toBeGreaterThan(100);
  });

  test("a proprietary package is noticed: by its name, as a platform package, under an alias, as an adapter that embeds one", () => {
    const planted = [
      "@anthropic-ai/claude-code@2.0.0",
      "@anthropic-ai/claude-agent-sdk-linux-x64@0.1.0",
      "@agentclientprotocol/claude-agent-acp@0.9.0",
      "@sourcegraph/amp@0.0.1(zod@4.0.0)",
      "@github/copilot@1.0.0",
    ];
    expect(findForbiddenPackages(plantPackages(lockFile, planted), policy.programs)).toEqual(
      planted.map((key) => `pnpm-lock.yaml has ${key.replace(/\(.*/, "")}`),
    );
    const alike = plantPackages(lockFile, ["@github/copilot-sdk-types@1.0.0", "claudette@1.0.0"]);
    expect(findForbiddenPackages(alike, policy.programs)).toEqual([]);
  });

  test("a licence is noticed that is not allowed, is missing, or is for tools only and shipped", () => {
    const planted = new Map([...installed, ["hono@4.13.19", "MPL-2.0"]] as const);
    expect(findForbiddenLicences(lockFile, planted, policy.licences)).toEqual([
      "hono@4.13.19: MPL-2.0 is not on the allow list",
    ]);
    const copyleft = new Map([...installed, ["vitest@5.1.0", "GPL-3.0-only"]] as const);
    expect(findForbiddenLicences(lockFile, copyleft, policy.licences)).toEqual([
      "vitest@5.1.0: GPL-3.0-only is not on the allow list",
    ]);
    const unknown = plantPackages(lockFile, ["left-out@1.0.0"]);
    expect(findForbiddenLicences(unknown, installed, policy.licences)).toEqual([
      "left-out@1.0.0: declares no licence",
    ]);
  });
});

test("the real tree is really read, with its imports", () => {
  const fault = tree.find(({ path }) => path === `${S}/kernel/fault.ts`);
  expect(fault && toImports(fault)).toEqual([
    { from: `${S}/kernel/fault.ts`, file: "services/contract/failure.ts" },
  ]);
  expect(tree.length).toBeGreaterThan(50);
  const paths = new Set(tree.map(({ path }) => path));
  const lost = tree
    .filter(isProduct)
    .flatMap(toImports)
    .filter(({ file }) => file?.endsWith(".ts") && !paths.has(file));
  expect(lost).toEqual([]);
  expect(toFloor(`${S}/runs/conductor.ts`)).toBe(6);
});

function toFiles(texts: Readonly<Record<string, string>>): SourceFile[] {
  return Object.entries(texts).map(([path, text]) => ({ path, text }));
}

/** A page that is not written yet names nothing. */
function readDoc(name: string): string {
  const path = join(ROOT, "docs", name);
  return existsSync(path) ? readFileSync(path, "utf8") : "";
}

function readDecisions(): string {
  const folder = join(ROOT, "docs/decisions");
  const names = existsSync(folder) ? readdirSync(folder) : [];
  return names.map((name) => readDoc(`decisions/${name}`)).join("\n");
}
