/** Reads one file to its end: digest, signatures, credentials, and what lies inside it when it is an archive. */
import { createHash } from "node:crypto";
import { posix } from "node:path";
import type { Readable } from "node:stream";
import { openArchive } from "./archive.ts";
import type { AuditPolicy } from "./audit-policy.ts";
import { type ByteKind, HEAD_BYTES, toByteKind } from "./byte-kind.ts";
import { peek } from "./byte-window.ts";
import { EmbeddedSearch } from "./embedded-packages.ts";
import type { Finding } from "./finding.ts";
import { findByDigest, findByPackage, findByPath, SignatureSearch } from "./proprietary-rule.ts";
import { SecretSearch } from "./secret-scan.ts";
import { startSideReader } from "./side-reader.ts";

/** How deep archives within archives are opened; a `.tgz` is two levels. */
const MAX_DEPTH = 8;
/** Most that all archives of one file may unpack to; beyond it nothing is proven, and that is told. */
const MAX_UNPACKED_BYTES = 8 * 1024 ** 3;

export type Content = {
  readonly sha256: string;
  readonly bytes: number;
  readonly kind: ByteKind;
  /** Names of npm packages inside it, where it is a bundle. */
  readonly embeds: readonly string[];
  /** The whole content, where it was asked for and is not too long. */
  readonly kept?: Buffer;
};

type Place = {
  /** Absolute, or `archive!/inner`. */
  readonly path: string;
  readonly depth: number;
  readonly executable: boolean;
  readonly budget: { bytes: number };
};

/** What one layer's files are examined with. */
export class ContentExaminer {
  readonly #policy: AuditPolicy;
  readonly #layer: string;
  readonly #report: (finding: Finding) => void;

  constructor(policy: AuditPolicy, layer: string, report: (finding: Finding) => void) {
    this.#policy = policy;
    this.#layer = layer;
    this.#report = report;
  }

  /** Reads `source` whole. `keepBytes` is the most of it that comes back as `kept`. */
  async examine(source: AsyncIterable<Uint8Array>, path: string, executable: boolean, keepBytes = 0) {
    const place = { path, depth: 0, executable, budget: { bytes: MAX_UNPACKED_BYTES } };
    return await this.#examine(source, place, keepBytes);
  }

  async #examine(source: AsyncIterable<Uint8Array>, place: Place, keepBytes: number): Promise<Content> {
    const { head, all } = await peek(source, HEAD_BYTES);
    const kind = toByteKind(head);
    const hash = createHash("sha256");
    const signatures = new SignatureSearch(this.#policy.programs);
    const secrets = kind === "text" ? new SecretSearch(place.path) : undefined;
    const embedded = kind === "text" ? new EmbeddedSearch() : undefined;
    await using inner = this.#openInner(kind, place);
    const kept: Buffer[] = [];
    let bytes = 0;
    for await (const chunk of all) {
      bytes += chunk.length;
      hash.update(chunk);
      signatures.add(chunk);
      if (bytes <= keepBytes) kept.push(Buffer.from(chunk));
      embedded?.add(chunk);
      await secrets?.add(chunk);
      await inner?.write(chunk);
    }
    await inner?.end();
    const sha256 = hash.digest("hex");
    this.#judge(place, kind, sha256, signatures);
    for (const { rule, line } of (await secrets?.toPlaces()) ?? [])
      this.#tell("credential", place.path, `${rule}, line ${line}`);
    const embeds = embedded?.toNames() ?? [];
    for (const name of embeds) {
      const reason = findByPackage(this.#policy.programs, name);
      if (reason !== undefined) this.#tell("proprietary-program", place.path, `contains ${reason}`);
    }
    return { sha256, bytes, kind, embeds, ...(bytes <= keepBytes ? { kept: Buffer.concat(kept) } : {}) };
  }

  #judge(
    { path, executable, depth }: Place,
    kind: ByteKind,
    sha256: string,
    signatures: SignatureSearch,
  ): void {
    const programs = this.#policy.programs;
    const isList = sha256 === this.#policy.listDigest;
    const reasons = [
      findByPath(programs, path, executable || kind === "elf" || depth > 0),
      findByDigest(programs, sha256),
      isList ? undefined : signatures.toReason(),
    ];
    for (const reason of reasons) if (reason !== undefined) this.#tell("proprietary-program", path, reason);
    for (const { directory, name } of toPackageDirectories(path)) {
      const reason = findByPackage(programs, name);
      if (reason !== undefined) this.#tell("proprietary-program", directory, reason);
    }
  }

  /** Something that is fed this file's bytes and reads what lies inside it. */
  #openInner(kind: ByteKind, place: Place) {
    if (kind === "closed-archive") {
      this.#tell("unread-content", place.path, "an archive of a kind that the audit cannot open");
      return undefined;
    }
    if (kind !== "gzip" && kind !== "zstd" && kind !== "tar" && kind !== "zip") return undefined;
    if (place.depth >= MAX_DEPTH) {
      this.#tell("unread-content", place.path, `an archive ${MAX_DEPTH} levels deep`);
      return undefined;
    }
    return startSideReader(
      (stream) => this.#readArchive(kind, stream, place),
      (error) => this.#tell("unread-content", place.path, error.message),
    );
  }

  async #readArchive(kind: "gzip" | "zstd" | "tar" | "zip", stream: Readable, place: Place): Promise<void> {
    for await (const { name, content, executable } of openArchive(kind, stream)) {
      const path = name === undefined ? `${place.path}!` : toInnerPath(place.path, name);
      const inner = { path, depth: place.depth + 1, executable, budget: place.budget };
      const { kept } = await this.#examine(counted(content, place.budget), inner, 1024 * 1024);
      if (kept !== undefined && posix.basename(path) === "package.json") this.#judgePackage(path, kept);
    }
  }

  /** A package's own word for its name: in a published tarball it lies under `package/`. */
  #judgePackage(path: string, content: Buffer): void {
    const name = /"name"\s*:\s*"([^"]+)"/.exec(content.toString("utf8"))?.[1];
    const reason = name === undefined ? undefined : findByPackage(this.#policy.programs, name);
    if (reason !== undefined) this.#tell("proprietary-program", path, reason);
  }

  #tell(rule: Finding["rule"], path: string, detail: string): void {
    this.#report({ rule, path, layer: this.#layer, detail });
  }
}

/** The packages that a path lies in, outermost first: a forbidden one is told once, however many files it has. */
function toPackageDirectories(path: string): { directory: string; name: string }[] {
  return [...path.matchAll(/\/node_modules\/((?:@[^/]+\/)?[^@./][^/]*)(?=\/)/g)].map((match) => ({
    directory: path.slice(0, match.index + match[0].length),
    name: match[1] ?? "",
  }));
}

/** `a.tgz!` is the tar within; its entries are `a.tgz!/name`. */
function toInnerPath(outer: string, name: string): string {
  const inner = name.replace(/^(\.?\/)+/, "");
  return outer.endsWith("!") ? `${outer}/${inner}` : `${outer}!/${inner}`;
}

async function* counted(
  source: AsyncIterable<Uint8Array>,
  budget: { bytes: number },
): AsyncGenerator<Uint8Array> {
  for await (const chunk of source) {
    budget.bytes -= chunk.byteLength;
    if (budget.bytes < 0) throw new Error("it unpacks to more than the audit reads");
    yield chunk;
  }
}
