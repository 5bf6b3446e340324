/** Reads one layer: what every entry is, what the packages in it say of themselves, and what is wrong with its files. */
import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import type { Header } from "tar-stream";
import { readTar } from "./archive.ts";
import type { AuditPolicy } from "./audit-policy.ts";
import type { ByteKind } from "./byte-kind.ts";
import { hashed } from "./byte-window.ts";
import { ContentExaminer } from "./content-examiner.ts";
import type { Finding } from "./finding.ts";
import { toAbsolute } from "./image-path.ts";
import { PackageCaches } from "./package-cache.ts";
import { findByPath } from "./proprietary-rule.ts";

export type FileEntry = {
  readonly kind: "file";
  readonly sha256: string;
  readonly bytes: number;
  readonly content: ByteKind;
  readonly modifiedAt: number;
  /** Names of npm packages inside it, where it is a bundle. */
  readonly embeds: readonly string[];
};

export type LayerEntry =
  | FileEntry
  | { readonly kind: "symlink"; readonly target: string }
  /** `target` is an absolute path of the same layer or of one below. */
  | { readonly kind: "hardlink"; readonly target: string }
  | { readonly kind: "directory" | "special" };

export type Layer = {
  /** How findings name it: its digest, or its name in an archive that has none. */
  readonly name: string;
  /** SHA-256 of the tar file within, as configurations list it. */
  readonly diffId: string;
  /** By absolute path; whiteouts keep their `.wh.` name. */
  readonly entries: ReadonlyMap<string, LayerEntry>;
  /** Files that say what is installed, by absolute path. */
  readonly kept: ReadonlyMap<string, Buffer>;
  readonly bytes: number;
};

const KEPT_BYTES = 32 * 1024 * 1024;
const KEPT =
  /\/package\.json$|^\/var\/lib\/dpkg\/(status|status\.d\/[^/]+|info\/[^/]+\.list)$|^\/usr\/share\/doc\/[^/]+\/copyright$|\/THIRD-PARTY\.json$/;

/** Reads the tar file whole; throws where it is damaged. */
export async function readLayer(
  source: AsyncIterable<Buffer>,
  name: string,
  policy: AuditPolicy,
  report: (finding: Finding) => void,
): Promise<Layer> {
  const hash = createHash("sha256");
  const reader = new LayerReader(name, policy, report);
  for await (const { header, content } of readTar(Readable.from(hashed(source, hash))))
    await reader.take(header, content);
  return { name, diffId: `sha256:${hash.digest("hex")}`, ...reader.toFacts() };
}

class LayerReader {
  readonly #name: string;
  readonly #policy: AuditPolicy;
  readonly #report: (finding: Finding) => void;
  readonly #examiner: ContentExaminer;
  readonly #caches = new PackageCaches();
  readonly #entries = new Map<string, LayerEntry>();
  readonly #kept = new Map<string, Buffer>();
  #bytes = 0;

  constructor(name: string, policy: AuditPolicy, report: (finding: Finding) => void) {
    this.#name = name;
    this.#policy = policy;
    this.#report = report;
    this.#examiner = new ContentExaminer(policy, name, report);
  }

  async take(header: Header, content: AsyncIterable<Uint8Array>): Promise<void> {
    const path = toAbsolute(header.name);
    if (header.type === "file" || header.type === "contiguous-file") {
      await this.#takeFile(path, header, content);
      return;
    }
    for await (const _ of content); // a link has none, but the reader waits for its end
    this.#entries.set(path, toEntry(header));
    const reason = findByPath(this.#policy.programs, path, header.type !== "directory");
    if (reason !== undefined) this.#tell("proprietary-program", path, reason);
  }

  async #takeFile(path: string, { mode, mtime }: Header, content: AsyncIterable<Uint8Array>): Promise<void> {
    const keep = KEPT.test(path) ? KEPT_BYTES : 0;
    const { sha256, bytes, kind, embeds, kept } = await this.#examiner.examine(
      content,
      path,
      (mode & 0o111) !== 0,
      keep,
    );
    this.#bytes += bytes;
    if (kept !== undefined && keep > 0) this.#kept.set(path, kept);
    if ((mode & 0o6000) !== 0)
      this.#tell("setuid", path, `mode ${(mode & 0o7777).toString(8).padStart(4, "0")}`);
    this.#caches.add(path, bytes);
    const modifiedAt = mtime.getTime();
    this.#entries.set(path, { kind: "file", sha256, bytes, content: kind, modifiedAt, embeds });
  }

  toFacts(): Omit<Layer, "name" | "diffId"> {
    for (const { directory, files, bytes } of this.#caches.list())
      this.#tell("package-cache", directory, `${files} files, ${bytes} bytes`);
    return { entries: this.#entries, kept: this.#kept, bytes: this.#bytes };
  }

  #tell(rule: Finding["rule"], path: string, detail: string): void {
    this.#report({ rule, path, layer: this.#name, detail });
  }
}

function toEntry({ type, linkname }: Header): LayerEntry {
  if (type === "symlink") return { kind: "symlink", target: linkname };
  if (type === "link") return { kind: "hardlink", target: toAbsolute(linkname) };
  return { kind: type === "directory" ? "directory" : "special" };
}
