// What the lock file brings: no proprietary package nor one that embeds one, and no licence that is not allowed.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parse, stringify } from "yaml";
import { z } from "zod";
import type { AuditPolicy } from "../../../image-audit/src/audit-policy.ts";
import { findLicenceProblem, toLicence } from "../../../image-audit/src/licence-rule.ts";
import { findByPackage } from "../../../image-audit/src/proprietary-rule.ts";

const Versions = z.record(z.string(), z.string()).optional();

const Wanted = z.record(z.string(), z.looseObject({ version: z.string() })).optional();

const LockFile = z.looseObject({
  importers: z.object({ ".": z.looseObject({ dependencies: Wanted, devDependencies: Wanted }) }),
  packages: z.record(
    z.string(),
    z.looseObject({
      os: z.array(z.string()).optional(),
      cpu: z.array(z.string()).optional(),
      libc: z.array(z.string()).optional(),
    }),
  ),
  snapshots: z.record(z.string(), z.looseObject({ dependencies: Versions, optionalDependencies: Versions })),
});
type LockFile = z.infer<typeof LockFile>;

/** Keys are names with versions, without what pnpm adds about peers; an alias has the real name there. */
export function findForbiddenPackages(text: string, programs: AuditPolicy["programs"]): string[] {
  return listPackages(LockFile.parse(parse(text)))
    .filter((key) => findByPackage(programs, toName(key)) !== undefined)
    .map((key) => `pnpm-lock.yaml has ${key}`);
}

/** `installed` is by name@version. What only other machines install is not here, and has its own machine's word. */
export function findForbiddenLicences(
  text: string,
  installed: ReadonlyMap<string, string | undefined>,
  { allowed, allowedForTools }: AuditPolicy["licences"],
): string[] {
  const lockFile = LockFile.parse(parse(text));
  const { dependencies, devDependencies } = lockFile.importers["."];
  const isForOtherMachine = (key: string): boolean => {
    const { os, cpu, libc } = lockFile.packages[withoutPeers(key)] ?? {};
    return !installed.has(withoutPeers(key)) && (os ?? cpu ?? libc) !== undefined;
  };
  const shipped = listReached(lockFile, dependencies, isForOtherMachine);
  const all = listReached(lockFile, { ...devDependencies, ...dependencies }, isForOtherMachine);
  return [...all].sort().flatMap((key) => {
    const problem = findLicenceProblem(
      installed.get(key),
      shipped.has(key) ? allowed : [...allowed, ...allowedForTools],
    );
    return problem === undefined ? [] : [`${key}: ${problem}`];
  });
}

/** What is installed says its licence itself. */
export function readInstalledLicences(root: string): Map<string, string | undefined> {
  const store = join(root, "node_modules/.pnpm");
  const licences = new Map<string, string | undefined>();
  for (const entry of readdirSync(store)) {
    for (const directory of listOwnPackages(join(store, entry, "node_modules"))) {
      const manifest = z
        .looseObject({
          name: z.string(),
          version: z.string(),
          license: z.unknown().optional(),
          licenses: z.unknown().optional(),
        })
        .parse(JSON.parse(readFileSync(join(directory, "package.json"), "utf8")));
      licences.set(`${manifest.name}@${manifest.version}`, toLicence(manifest));
    }
  }
  return licences;
}

/** The lock file with more packages in it, as a careless change would leave it. */
export function plantPackages(text: string, keys: readonly string[]): string {
  const lockFile = LockFile.parse(parse(text));
  const empty = Object.fromEntries(keys.map((key) => [key, {}]));
  const wanted = Object.fromEntries(keys.map((key) => [toName(withoutPeers(key)), { version: key }]));
  const own = lockFile.importers["."];
  return stringify({
    ...lockFile,
    importers: { ".": { ...own, devDependencies: { ...own.devDependencies, ...wanted } } },
    packages: { ...lockFile.packages, ...empty },
    snapshots: { ...lockFile.snapshots, ...empty },
  });
}

function listPackages({ packages }: LockFile): string[] {
  return Object.keys(packages).map(withoutPeers);
}

/** All that these dependencies reach, as name@version. */
function listReached(
  { snapshots }: LockFile,
  wanted: z.infer<typeof Wanted>,
  isLeftOut: (key: string) => boolean,
): Set<string> {
  const open = Object.entries(wanted ?? {}).map(([name, { version }]) => toKey(name, version));
  const reached = new Set<string>();
  for (let key = open.pop(); key !== undefined; key = open.pop()) {
    if (reached.has(key) || isLeftOut(key)) continue;
    reached.add(key);
    const { dependencies, optionalDependencies } = snapshots[key] ?? {};
    for (const [name, version] of Object.entries({ ...dependencies, ...optionalDependencies }))
      open.push(toKey(name, version));
  }
  return new Set([...reached].map(withoutPeers));
}

/** An alias names the real package in its version. */
function toKey(name: string, version: string): string {
  return /^@?[^@(]+@/.test(version) ? version : `${name}@${version}`;
}

function withoutPeers(key: string): string {
  return key.replace(/\(.*/, "");
}

function toName(key: string): string {
  return key.slice(0, key.lastIndexOf("@"));
}

/** Links lead to other packages, which have entries of their own. */
function listOwnPackages(modules: string): string[] {
  const list = (directory: string) => {
    try {
      return readdirSync(directory, { withFileTypes: true }).filter((entry) => entry.isDirectory());
    } catch {
      return [];
    }
  };
  return list(modules).flatMap(({ name }) => {
    if (name.startsWith(".")) return [];
    if (!name.startsWith("@")) return [join(modules, name)];
    return list(join(modules, name)).map((inner) => join(modules, name, inner.name));
  });
}
