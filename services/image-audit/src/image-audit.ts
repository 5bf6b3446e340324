/** The audit of one saved image: everything in it is read, judged, and told. */
import type { Readable } from "node:stream";
import { checkAge } from "./age-rule.ts";
import { type Accepted, type AuditPolicy, matchesPath } from "./audit-policy.ts";
import { checkCodeOwners } from "./code-owners.ts";
import { checkConfig } from "./config-rule.ts";
import { findDebianPackages } from "./debian-packages.ts";
import { type Finding, toDistinct } from "./finding.ts";
import { type Image, listImages } from "./image-list.ts";
import { MergedTree } from "./merged-tree.ts";
import { findEmbedded, findNpmPackages } from "./npm-packages.ts";
import { readSavedImage, type SavedParts } from "./saved-image.ts";
import type { Inventory } from "./sbom.ts";
import { findSecrets } from "./secret-scan.ts";

export type Totals = {
  readonly images: number;
  readonly layers: number;
  readonly files: number;
  /** Unpacked. */
  readonly bytes: number;
  readonly npmPackages: number;
  readonly debianPackages: number;
  readonly seconds: number;
};

export type ImageAudit = {
  readonly inventories: readonly Inventory[];
  readonly findings: readonly Finding[];
  /** Findings that the policy's exceptions cover, each with the reason. */
  readonly accepted: readonly (Finding & { readonly why: string })[];
  /** Exceptions that covered nothing: they can go. */
  readonly unused: readonly Accepted[];
  readonly totals: Totals;
};

/** Reads `source` to its end. Throws AuditError where it is no whole saved image. */
export async function auditImage(
  source: Readable,
  policy: AuditPolicy,
  onPart: (name: string, bytes: number) => void,
): Promise<ImageAudit> {
  const start = performance.now();
  const findings: Finding[] = [];
  const report = (finding: Finding) => void findings.push(finding);
  const parts = await readSavedImage(source, { policy, report, onPart });
  const images = listImages(parts, report);
  await checkDocuments(parts, images, report);
  const inventories: Inventory[] = [];
  const trees: MergedTree[] = [];
  for (const image of images) {
    const tree = new MergedTree(image.layers);
    trees.push(tree);
    inventories.push(await auditOne(image, tree, policy, report));
  }
  const marked = toDistinct(findings).map((finding) => markDeleted(finding, images, trees));
  return {
    inventories,
    ...settle(marked, policy.accepted),
    totals: toTotals(parts, inventories, (performance.now() - start) / 1000),
  };
}

async function auditOne(
  image: Image,
  tree: MergedTree,
  policy: AuditPolicy,
  report: (finding: Finding) => void,
): Promise<Inventory> {
  await checkConfig(image, report);
  checkAge(image, report);
  const debian = findDebianPackages(image, tree, report);
  const { packages: npm, lists } = findNpmPackages(image, tree, policy, report);
  const programs = checkCodeOwners(image, tree, lists, policy, report);
  return { image, npm, embedded: findEmbedded(tree, lists), debian, programs };
}

/** Texts beside the configurations: manifests, and what a builder attests, build arguments among it. */
async function checkDocuments(
  { documents }: SavedParts,
  images: readonly Image[],
  report: (finding: Finding) => void,
): Promise<void> {
  const ids = images.map(({ id }) => id.replace("sha256:", ""));
  for (const [name, text] of documents) {
    if (ids.some((id) => name.includes(id))) continue; // told with its own places
    for (const { rule, line } of await findSecrets(text, name))
      report({ rule: "credential", path: name, layer: "", detail: `${rule}, line ${line}` });
  }
}

/** Deleted means: in no image's finished file system as this layer has it. */
function markDeleted(finding: Finding, images: readonly Image[], trees: readonly MergedTree[]): Finding {
  const path = finding.path.split("!")[0] ?? "";
  const holders = trees.filter((_, index) =>
    images[index]?.layers.some(({ name }) => name === finding.layer),
  );
  if (!path.startsWith("/") || holders.length === 0) return finding;
  const isThere = holders.some((tree) =>
    tree.get(path)?.entry.kind === "file" ? tree.shows(path, finding.layer) : tree.holds(path),
  );
  return isThere ? finding : { ...finding, deleted: true };
}

function settle(findings: readonly Finding[], exceptions: readonly Accepted[]) {
  const covers = (exception: Accepted, { rule, path }: Finding) =>
    exception.rule === rule && matchesPath(exception.path, path);
  const accepted = findings.flatMap((finding) => {
    const exception = exceptions.find((known) => covers(known, finding));
    return exception === undefined ? [] : [{ ...finding, why: exception.why }];
  });
  return {
    findings: findings.filter((finding) => !exceptions.some((known) => covers(known, finding))),
    accepted,
    unused: exceptions.filter((known) => !findings.some((finding) => covers(known, finding))),
  };
}

function toTotals({ layers }: SavedParts, inventories: readonly Inventory[], seconds: number): Totals {
  const all = [...layers.values()];
  const count = (entries: Iterable<{ kind: string }>) =>
    Iterator.from(entries).reduce((sum, { kind }) => sum + (kind === "file" ? 1 : 0), 0);
  return {
    images: inventories.length,
    layers: all.length,
    files: all.reduce((sum, { entries }) => sum + count(entries.values()), 0),
    bytes: all.reduce((sum, { bytes }) => sum + bytes, 0),
    npmPackages: inventories.reduce((sum, { npm }) => sum + npm.length, 0),
    debianPackages: inventories.reduce((sum, { debian }) => sum + debian.length, 0),
    seconds: Math.round(seconds * 10) / 10,
  };
}
