/** Every program and script must be accounted for: by Debian, by an npm package, by a build's list, or by name. */
import { posix } from "node:path";
import type { AuditPolicy } from "./audit-policy.ts";
import { listDebianFiles } from "./debian-packages.ts";
import type { Finding } from "./finding.ts";
import type { Image } from "./image-list.ts";
import type { MergedTree } from "./merged-tree.ts";
import { type FoundList, toPackageDirectory } from "./npm-packages.ts";

/** A program of another origin than Debian or npm, as the policy names it. */
export type KnownProgram = {
  readonly name: string;
  readonly path: string;
  readonly licence: string;
  readonly sha256: string;
};

/** Reports code of unknown origin; resolves to the known programs that are there. */
export function checkCodeOwners(
  image: Image,
  tree: MergedTree,
  lists: readonly FoundList[],
  policy: AuditPolicy,
  report: (finding: Finding) => void,
): KnownProgram[] {
  const debian = listDebianFiles(image, tree);
  // A copy of a Debian package's file elsewhere is that package's still.
  const debianDigests = new Set([...debian].map((path) => tree.file(path)?.sha256));
  const listed = new Map(
    lists.flatMap(({ directory, list }) =>
      list.files.map(({ path, sha256 }) => [posix.join(directory, path), sha256] as const),
    ),
  );
  const known: KnownProgram[] = [];
  for (const path of tree.paths()) {
    const found = tree.get(path);
    if (found?.entry.kind !== "file") continue;
    const { content, sha256 } = found.entry;
    const tell = (rule: Finding["rule"], detail: string) =>
      report({ rule, path, layer: found.layer.name, detail });
    if (listed.has(path)) {
      if (listed.get(path) !== sha256) tell("unlisted-code", "differs from what its list says");
      continue;
    }
    const isCode = content === "elf" || (content === "text" && /\.[cm]?js$/.test(path));
    if (!isCode || debianDigests.has(sha256) || toPackageDirectory(path) !== undefined) continue;
    const program = policy.licences.programs.find(({ paths }) => paths.includes(path));
    if (program === undefined) {
      tell("unlisted-code", content === "elf" ? "a program of unknown origin" : "a script of unknown origin");
      continue;
    }
    if (!program.texts.some((text) => (tree.file(text)?.bytes ?? 0) > 100))
      tell(
        "licence-text",
        `${program.name} has no file with its licence's text: ${program.texts.join(" or ")}`,
      );
    known.push({ name: program.name, path, licence: program.licence, sha256 });
  }
  return known;
}
