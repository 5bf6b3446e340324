/** What package managers leave behind, told once for each cache with how much it is. */

/** Group 1 is the cache. */
const CACHES: readonly RegExp[] = [
  /^(\/var\/lib\/apt\/lists)\/(?!lock$|partial\/?$)/,
  /^(\/var\/cache\/apt)\/(?:archives\/.+\.deb|.*\.bin)$/,
  /^(\/var\/lib\/apk\/.*cache|\/var\/cache\/(?:apk|dnf|yum))\//,
  /^(.*\/_cacache)\//,
  /^(.*\/\.npm\/_[a-z]+)\//,
  /^(.*\/\.cache\/(?:pip|node-gyp|yarn|pnpm|node\/corepack|go-build|uv))\//,
  /^(.*\/(?:\.pnpm-store|pnpm\/store))\//,
  /^(.*\/\.yarn\/cache)\//,
  /^(.*\/\.cargo\/registry)\//,
];

export type PackageCache = { readonly directory: string; readonly files: number; readonly bytes: number };

export class PackageCaches {
  readonly #caches = new Map<string, { files: number; bytes: number }>();

  add(path: string, bytes: number): void {
    const directory = toCacheDirectory(path);
    if (directory === undefined) return;
    const known = this.#caches.get(directory) ?? { files: 0, bytes: 0 };
    this.#caches.set(directory, { files: known.files + 1, bytes: known.bytes + bytes });
  }

  list(): PackageCache[] {
    return [...this.#caches].map(([directory, size]) => ({ directory, ...size }));
  }
}

export function toCacheDirectory(path: string): string | undefined {
  for (const pattern of CACHES) {
    const directory = pattern.exec(path)?.[1];
    if (directory !== undefined) return directory;
  }
  return undefined;
}
