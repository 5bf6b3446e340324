/** Recognises a proprietary program by name, path, npm package, digest, or texts in its content. */
import { posix } from "node:path";
import { matches, type ProprietaryProgram } from "./audit-policy.ts";

/** Why a file of this path is a proprietary program; undefined where the path tells nothing. */
export function findByPath(
  programs: readonly ProprietaryProgram[],
  path: string,
  isProgram: boolean,
): string | undefined {
  const name = posix.basename(path);
  for (const { id, names, paths } of programs) {
    if (isProgram && names.includes(name)) return `${id}, by its name`;
    if (paths.some((pattern) => matches(pattern, path))) return `${id}, by its path`;
  }
  return undefined;
}

/** Why an npm package is a proprietary program or embeds one. */
export function findByPackage(programs: readonly ProprietaryProgram[], name: string): string | undefined {
  const found = programs.find(({ packages }) => packages.some((pattern) => matches(pattern, name)));
  return found === undefined ? undefined : `${found.id}, by the package name ${name}`;
}

export function findByDigest(programs: readonly ProprietaryProgram[], sha256: string): string | undefined {
  const found = programs.find((program) => program.sha256.includes(sha256));
  return found === undefined ? undefined : `${found.id}, by its SHA-256`;
}

/** Looks for the signatures' texts while a file streams by; what lies across two chunks is found too. */
export class SignatureSearch {
  readonly #programs: readonly ProprietaryProgram[];
  readonly #open: Map<string, Buffer>;
  readonly #found = new Set<string>();
  readonly #overlap: number;
  #tail: Buffer = Buffer.alloc(0);

  constructor(programs: readonly ProprietaryProgram[]) {
    this.#programs = programs;
    const texts = new Set(programs.flatMap(({ signatures }) => signatures.flat()));
    this.#open = new Map([...texts].map((text) => [text, Buffer.from(text)]));
    this.#overlap = Math.max(0, ...[...this.#open.values()].map(({ length }) => length - 1));
  }

  add(chunk: Buffer): void {
    const window = this.#tail.length === 0 ? chunk : Buffer.concat([this.#tail, chunk]);
    for (const [text, bytes] of this.#open) {
      if (!window.includes(bytes)) continue;
      this.#found.add(text);
      this.#open.delete(text);
    }
    this.#tail = Buffer.from(window.subarray(Math.max(0, window.length - this.#overlap)));
  }

  /** Call when the file is over. */
  toReason(): string | undefined {
    const found = this.#programs.find(({ signatures }) =>
      signatures.some((group) => group.every((text) => this.#found.has(text))),
    );
    return found === undefined ? undefined : `${found.id}, by its content`;
  }
}
