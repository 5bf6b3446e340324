/** The npm packages of an image: those that lie in node_modules, and those that a build says its bundles contain. */
import { createHash } from "node:crypto";
import { posix } from "node:path";
import { z } from "zod";
import type { AuditPolicy } from "./audit-policy.ts";
import type { Finding } from "./finding.ts";
import type { Image } from "./image-list.ts";
import type { Layer } from "./layer.ts";
import { findLicenceProblem, isLicenceText, toLicence } from "./licence-rule.ts";
import type { MergedTree } from "./merged-tree.ts";
import { findByPackage } from "./proprietary-rule.ts";
import { THIRD_PARTY_FILE, ThirdPartyList } from "./third-party-list.ts";

export type NpmPackage = {
  readonly name: string;
  readonly version: string;
  readonly licence: string | undefined;
  /** Where it lies, or the list that names it. */
  readonly path: string;
  /** Digest over its files as they are in the image; absent for what is inside a bundle. */
  readonly contentSha256?: string;
};

/** A list that was read, with the directory that its paths are relative to. */
export type FoundList = { readonly directory: string; readonly list: ThirdPartyList };

const Manifest = z.looseObject({
  name: z.string(),
  version: z.string().optional(),
  license: z.unknown().optional(),
  licenses: z.unknown().optional(),
});

/** Packages of every layer, also of files that a later layer deletes: those are shipped too. */
export function findNpmPackages(
  image: Image,
  tree: MergedTree,
  policy: AuditPolicy,
  report: (finding: Finding) => void,
): { packages: NpmPackage[]; lists: FoundList[] } {
  const packages = new Map<string, NpmPackage>();
  const lists: FoundList[] = [];
  for (const layer of image.layers) {
    for (const [path, content] of layer.kept) {
      const name = posix.basename(path);
      const found =
        name === "package.json"
          ? readInstalled(path, content, layer, tree, policy, report)
          : name === THIRD_PARTY_FILE
            ? readListed(path, content, layer, tree, lists, policy, report)
            : [];
      for (const item of found) packages.set(`${item.name}@${item.version} ${item.path}`, item);
    }
  }
  return { packages: [...packages.values()], lists };
}

export type EmbeddedPackage = { readonly name: string; readonly path: string };

/** What others' bundles contain besides: our own are told by their lists. The same name in one package is told once. */
export function findEmbedded(tree: MergedTree, lists: readonly FoundList[]): EmbeddedPackage[] {
  const listed = new Set(
    lists.flatMap(({ directory, list }) => list.files.map(({ path }) => posix.join(directory, path))),
  );
  const found = new Map<string, EmbeddedPackage>();
  for (const path of tree.paths()) {
    const entry = tree.get(path)?.entry;
    if (entry?.kind !== "file" || listed.has(path)) continue;
    const holder = toPackageDirectory(path) ?? path;
    for (const name of entry.embeds) found.set(`${name} ${holder}`, { name, path: holder });
  }
  return [...found.values()];
}

/** The package that a path lies in directly: `…/node_modules/name` or `…/node_modules/@scope/name`. */
export function toPackageDirectory(path: string): string | undefined {
  return /^(.*\/node_modules\/(?:@[^/]+\/)?[^@./][^/]*)\//.exec(path)?.[1];
}

function readInstalled(
  path: string,
  content: Buffer,
  layer: Layer,
  tree: MergedTree,
  policy: AuditPolicy,
  report: (finding: Finding) => void,
): NpmPackage[] {
  const parsed = Manifest.safeParse(toJson(content));
  if (!parsed.success) return [];
  const { name, version } = parsed.data;
  const tell = (rule: Finding["rule"], detail: string) =>
    report({ rule, path, layer: layer.name, detail: `${name}@${version ?? "?"} ${detail}` });
  const reason = findByPackage(policy.programs, name);
  if (reason !== undefined) tell("proprietary-program", `is ${reason}`);
  const directory = posix.dirname(path);
  const home = toPackageDirectory(path);
  // A package.json deeper in a package marks a folder's module type or an example; outside it needs name and version.
  if (version === undefined || (home !== undefined && home !== directory)) return [];
  const licence = toLicence(parsed.data);
  const problem = findLicenceProblem(licence, policy.licences.allowed);
  if (problem !== undefined) tell("licence", problem);
  if (!hasLicenceText(directory, layer, tree)) tell("licence-text", "has no file with its licence's text");
  const contentSha256 = toContentDigest(directory, tree);
  return [{ name, version, licence, path: directory, contentSha256 }];
}

function readListed(
  path: string,
  content: Buffer,
  layer: Layer,
  tree: MergedTree,
  lists: FoundList[],
  policy: AuditPolicy,
  report: (finding: Finding) => void,
): NpmPackage[] {
  const tell = (rule: Finding["rule"], detail: string) => report({ rule, path, layer: layer.name, detail });
  const parsed = ThirdPartyList.safeParse(toJson(content));
  if (!parsed.success) {
    tell("unlisted-code", "is not a list of third-party code");
    return [];
  }
  if (tree.shows(path, layer.name)) lists.push({ directory: posix.dirname(path), list: parsed.data });
  return parsed.data.packages.map(({ name, version, licence, text }) => {
    const reason = findByPackage(policy.programs, name);
    if (reason !== undefined) tell("proprietary-program", `lists ${reason}`);
    const problem = findLicenceProblem(licence, policy.licences.allowed);
    if (problem !== undefined) tell("licence", `${name}@${version} ${problem}`);
    if (text.trim().length < 100) tell("licence-text", `${name}@${version} has no text of its licence`);
    return { name, version, licence, path };
  });
}

/** In the finished image; for a package that a later layer deletes, in its own layer. */
function hasLicenceText(directory: string, layer: Layer, tree: MergedTree): boolean {
  const isText = (path: string) => isLicenceText(posix.basename(path));
  if (tree.list(directory).some(isText)) return true;
  return Iterator.from(layer.entries.keys()).some(
    (path) => posix.dirname(path) === directory && isText(path),
  );
}

/** SHA-256 over the sorted lines `<sha256>  <path in the package>` of its files, as `sha256sum` prints them. */
function toContentDigest(directory: string, tree: MergedTree): string {
  const lines = [...listFiles(directory, tree)].map(
    ([path, sha256]) => `${sha256}  ${path.slice(directory.length + 1)}\n`,
  );
  return createHash("sha256").update(lines.sort().join("")).digest("hex");
}

function* listFiles(directory: string, tree: MergedTree): Generator<[path: string, sha256: string]> {
  for (const path of tree.list(directory)) {
    const entry = tree.get(path)?.entry;
    if (entry?.kind === "file") yield [path, entry.sha256];
    else if (entry?.kind === "directory" && posix.basename(path) !== "node_modules")
      yield* listFiles(path, tree);
  }
}

function toJson(content: Buffer): unknown {
  try {
    return JSON.parse(content.toString("utf8"));
  } catch {
    return undefined;
  }
}
