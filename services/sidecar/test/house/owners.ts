// What only some places may name: packages, the environment, the process itself.
import { isProduct, type SourceFile, toBareCode, toImports } from "./source-tree.ts";

const SIDECAR = "services/sidecar/src/";

type Owner = { readonly module: RegExp; readonly places: readonly string[] };

const OWNERS: readonly Owner[] = [
  { module: /^dockerode(\/|$)/, places: [`${SIDECAR}sandboxes/docker/`] },
  { module: /^(hono|@hono\/.+)(\/|$)/, places: [`${SIDECAR}http/`, `${SIDECAR}main.ts`] },
  { module: /agent-?client-?protocol/, places: [`${SIDECAR}harnesses/acp/`] },
];

export function findMisplacedPackages(files: readonly SourceFile[]): string[] {
  return files.filter(isProduct).flatMap((file) =>
    toImports(file).flatMap(({ module }) => {
      const owner = OWNERS.find((known) => module !== undefined && known.module.test(module));
      const isWelcome = owner?.places.some((place) => file.path.startsWith(place)) ?? true;
      return isWelcome ? [] : [`${file.path} imports ${module}`];
    }),
  );
}

/** The contract is what two programs agree on: zod and itself. */
export function findForeignContractImports(files: readonly SourceFile[]): string[] {
  return files
    .filter(({ path }) => path.startsWith("services/contract/"))
    .flatMap(toImports)
    .filter(({ file, module }) => module !== "zod" && !file?.startsWith("services/contract/"))
    .map(({ from, file, module }) => `${from} imports ${module ?? file}`);
}

/** Only settings.ts reads the environment; the two commands may pass it in. */
export function findEnvironmentReaders(files: readonly SourceFile[]): string[] {
  const allowed = ["settings.ts", "main.ts", "cli.ts"].map((name) => SIDECAR + name);
  return findInCode(
    files,
    /\bprocess\s*\??\.\s*env\b|\bprocess\s*\[|\{[^{}]*\benv\b[^{}]*\}\s*=\s*process\b/,
    allowed,
  )
    .concat(findProcessImports(files, allowed))
    .map((path) => `${path} reads the environment`);
}

/** Only the two commands end the process, print, or listen to signals. */
export function findProcessOwners(files: readonly SourceFile[]): string[] {
  const allowed = ["main.ts", "cli.ts"].map((name) => SIDECAR + name);
  const own = files.filter(({ path }) => path.startsWith(SIDECAR));
  const pattern = /\bprocess\.(exit|exitCode|abort|on|once|addListener|stdout|stderr)\b|\bconsole\.\w/;
  return findInCode(own, pattern, allowed).map(
    (path) => `${path} ends the process, prints or listens to signals`,
  );
}

function findProcessImports(files: readonly SourceFile[], allowed: readonly string[]): string[] {
  return files
    .filter((file) => isProduct(file) && !allowed.includes(file.path))
    .filter((file) => toImports(file).some(({ module }) => module === "node:process" || module === "process"))
    .map(({ path }) => path);
}

function findInCode(files: readonly SourceFile[], pattern: RegExp, allowed: readonly string[]): string[] {
  return files
    .filter((file) => isProduct(file) && !allowed.includes(file.path))
    .filter(({ text }) => pattern.test(toBareCode(text)))
    .map(({ path }) => path);
}
