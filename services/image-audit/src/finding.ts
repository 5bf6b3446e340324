/** What an audit objects to: one rule broken at one place. A finding never repeats the secret it is about. */

/** Every rule of the audit, with what it means in one sentence. */
export const RULES = {
  "proprietary-program": "A vendor's proprietary program, by name, path, package, content or digest.",
  licence: "An npm package whose licence is not on the allow list.",
  "licence-text": "A package without the text of its licence.",
  "unlisted-code": "A program or script that no package and no list of third-party code accounts for.",
  "debian-section": "A Debian package that is not from `main`.",
  "debian-copyright": "A Debian package without its copyright file.",
  credential: "A credential, wherever it stands.",
  setuid: "A setuid or setgid file.",
  "package-cache": "What a package manager left behind.",
  "newer-than-declared": "Files younger than the image says it is.",
  "unread-content": "An archive that could not be looked into, so nothing is proven about it.",
  "incomplete-image": "A layer, configuration or platform that is named but missing, damaged or unreadable.",
} as const;

export type RuleName = keyof typeof RULES;

export type Finding = {
  readonly rule: RuleName;
  /** Absolute path in the image, `outer.tgz!/inner` inside an archive, or like `config: Env TOKEN`. */
  readonly path: string;
  /** Digest of the layer or blob; empty for what concerns the image as a whole. */
  readonly layer: string;
  readonly detail: string;
  /** The file is in this layer but no longer in the finished file system. It is shipped all the same. */
  readonly deleted?: boolean;
};

/** The same objection at the same place is told once. */
export function toDistinct(findings: readonly Finding[]): Finding[] {
  const known = new Map<string, Finding>();
  for (const finding of findings) {
    const key = JSON.stringify([finding.rule, finding.path, finding.layer, finding.detail]);
    if (!known.has(key)) known.set(key, finding);
  }
  return [...known.values()].sort((a, b) => compare(a.rule, b.rule) || compare(a.path, b.path));
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
