/** The Debian packages of an image: from `main` only, each with its copyright file. */
import { createHash } from "node:crypto";
import type { Finding } from "./finding.ts";
import type { Image } from "./image-list.ts";
import type { MergedTree } from "./merged-tree.ts";

export type DebianPackage = {
  readonly name: string;
  readonly version: string;
  readonly architecture: string;
  readonly section: string;
  /** Names of licences in its machine-readable copyright file; none where that is prose. */
  readonly licences: readonly string[];
  /** Digest over its files as they are in the finished image. */
  readonly contentSha256: string;
};

const STATUS = /^\/var\/lib\/dpkg\/(status|status\.d\/[^/]+)$/;

/** Packages that any layer has installed, with what is wrong with them. */
export function findDebianPackages(
  image: Image,
  tree: MergedTree,
  report: (finding: Finding) => void,
): DebianPackage[] {
  const packages = new Map<string, DebianPackage>();
  for (const layer of image.layers) {
    for (const [path, content] of layer.kept) {
      if (!STATUS.test(path) || path.endsWith(".md5sums")) continue;
      const isFinal = tree.shows(path, layer.name);
      const paragraphs = [...toParagraphs(content.toString("utf8"))];
      for (const fields of paragraphs) {
        const found = toPackage(fields, tree);
        if (found === undefined) continue;
        const tell = (rule: Finding["rule"], detail: string) =>
          report({ rule, path, layer: layer.name, detail: `${found.name} ${found.version} ${detail}` });
        if (/^(contrib|non-free[a-z-]*)(\/|$)/.test(found.section))
          tell("debian-section", `is from ${found.section}`);
        const kin = paragraphs.filter((other) => toSource(other) === toSource(fields));
        if (isFinal && !kin.some((other) => hasCopyright(other.get("Package") ?? "", tree)))
          tell("debian-copyright", `lacks /usr/share/doc/${found.name}/copyright`);
        packages.set(`${found.name} ${found.version} ${found.architecture}`, found);
      }
    }
  }
  return [...packages.values()];
}

/** All paths of the finished image that Debian's packages account for, links followed. */
export function listDebianFiles(image: Image, tree: MergedTree): Set<string> {
  const owned = new Set<string>();
  for (const layer of image.layers) {
    for (const [path, content] of layer.kept) {
      if (path.endsWith(".list")) for (const line of content.toString("utf8").split("\n")) own(line);
      else if (path.endsWith(".md5sums"))
        for (const line of content.toString("utf8").split("\n")) own(`/${line.slice(34)}`);
    }
  }
  return owned;

  function own(path: string): void {
    const resolved = path.length > 1 ? tree.resolve(path) : undefined;
    if (resolved !== undefined) owned.add(resolved);
  }
}

/** Packages of one source share its copyright; some have only a link to the one that holds it, and slim images drop links. */
function toSource(fields: ReadonlyMap<string, string>): string {
  return (fields.get("Source") ?? fields.get("Package") ?? "").replace(/ .*/, "");
}

function hasCopyright(name: string, tree: MergedTree): boolean {
  return (tree.file(`/usr/share/doc/${name}/copyright`)?.bytes ?? 0) > 0;
}

/** Only what is installed; a removed package's settings are none. */
function toPackage(fields: ReadonlyMap<string, string>, tree: MergedTree): DebianPackage | undefined {
  const [name, version] = [fields.get("Package"), fields.get("Version")];
  const status = fields.get("Status");
  if (name === undefined || version === undefined) return undefined;
  if (status !== undefined && !status.endsWith(" installed")) return undefined;
  const architecture = fields.get("Architecture") ?? "all";
  return {
    name,
    version,
    architecture,
    section: fields.get("Section") ?? "",
    licences: toLicenceNames(name, tree),
    contentSha256: toContentDigest(name, architecture, tree),
  };
}

function toLicenceNames(name: string, tree: MergedTree): string[] {
  const path = tree.resolve(`/usr/share/doc/${name}/copyright`) ?? "";
  const text = tree.get(path)?.layer.kept.get(path)?.toString("utf8") ?? "";
  if (!text.startsWith("Format:")) return [];
  const names = [...text.matchAll(/^License:[ \t]*(\S.*)$/gm)].map((match) => match[1] ?? "");
  return [...new Set(names)].sort();
}

/** SHA-256 over the sorted lines `<sha256>  <path>` of those of its files that are in the finished image. */
function toContentDigest(name: string, architecture: string, tree: MergedTree): string {
  const lists = [`${name}.list`, `${name}:${architecture}.list`].map((file) => `/var/lib/dpkg/info/${file}`);
  const list = lists.flatMap((path) => {
    const entry = tree.get(path);
    return entry?.layer.kept.get(path)?.toString("utf8").split("\n") ?? [];
  });
  const lines = list.flatMap((path) => {
    const resolved = path.length > 1 ? tree.resolve(path) : undefined;
    const file = resolved === undefined ? undefined : tree.file(resolved);
    return file === undefined ? [] : [`${file.sha256}  ${path}\n`];
  });
  return createHash("sha256").update(lines.sort().join("")).digest("hex");
}

/** A field's continuation lines are left aside: none of those wanted has any. */
function* toParagraphs(text: string): Generator<Map<string, string>> {
  for (const paragraph of text.split(/\n\s*\n/)) {
    const fields = new Map<string, string>();
    for (const line of paragraph.split("\n")) {
      const [, name, value] = /^([A-Za-z-]+):[ \t]*(.*)$/.exec(line) ?? [];
      if (name !== undefined && value !== undefined) fields.set(name, value.trim());
    }
    if (fields.size > 0) yield fields;
  }
}
