// Every import runs down: which floor a file stands on, and the arrows that are not allowed.
import { type Import, isProduct, type SourceFile, toImports } from "./source-tree.ts";

const SIDECAR = "services/sidecar/src/";

/** Programs of their own. */
const GUESTS = ["services/guard", "services/pi-extension", "services/engine-proxy", "services/image-audit"];

const FAMILIES: Readonly<Record<string, number>> = {
  kernel: 2,
  sandboxes: 3,
  broker: 3,
  tools: 3,
  agents: 3,
  telemetry: 3,
  store: 4,
  harnesses: 5,
  runs: 6,
  http: 7,
};

/** Files that lie beside the folders. */
const TOP: readonly (readonly [RegExp, number])[] = [
  [/^settings?(-(files|issues|kinds|sources|table))?\.ts$/, 1],
  [/^(sidecar|settings-review|held-keys)\.ts$/, 8],
  [/^(main|cli|cli-[a-z-]+|live-view|exit-code)\.ts$/, 9],
  [/^(product|instance|secret-forms|model-endpoint|model-price)\.ts$/, 1],
];

/** The floor of a file of ours; undefined for one that the plan does not know. */
export function toFloor(path: string): number | undefined {
  if (path.startsWith("services/contract/")) return 1;
  if (GUESTS.some((guest) => path.startsWith(`${guest}/`))) return 2;
  if (!path.startsWith(SIDECAR)) return undefined;
  const [first = "", ...rest] = path.slice(SIDECAR.length).split("/");
  return rest.length > 0 ? FAMILIES[first] : TOP.find(([name]) => name.test(first))?.[1];
}

export function findUpwardImports(files: readonly SourceFile[]): string[] {
  return arrows(files, (from, to) => {
    const [below, above] = [toFloor(from), toFloor(to)];
    return below !== undefined && above !== undefined && above > below;
  });
}

export function findNeighbourImports(files: readonly SourceFile[]): string[] {
  return arrows(files, (from, to) => {
    const isThird = toFloor(from) === 3 && toFloor(to) === 3;
    return isThird && toFamily(from) !== toFamily(to);
  });
}

/** Guests are programs of their own: all they share with the sidecar is the contract. */
export function findGuestImports(files: readonly SourceFile[]): string[] {
  const toProgram = (path: string) => path.split("/").slice(0, 2).join("/");
  return arrows(files, (from, to) => {
    const isGuest = GUESTS.includes(toProgram(from));
    return isGuest && toProgram(to) !== toProgram(from) && toProgram(to) !== "services/contract";
  });
}

/** Runs know interfaces: a sandbox or harness can vanish and they still compile. */
export function findConcreteImports(files: readonly SourceFile[]): string[] {
  const concrete = /^services\/sidecar\/src\/(sandboxes\/(local|docker)|harnesses\/[a-z-]+)\//;
  return arrows(files, (from, to) => from.startsWith(`${SIDECAR}runs/`) && concrete.test(to));
}

export function findFilesWithoutFloor(files: readonly SourceFile[]): string[] {
  return files
    .filter((file) => isProduct(file) && toFloor(file.path) === undefined)
    .map(({ path }) => `${path} stands on no floor; the plan is in test/house/layers.ts`);
}

function arrows(files: readonly SourceFile[], isWrong: (from: string, to: string) => boolean): string[] {
  const wrong = ({ from, file }: Import) =>
    file !== undefined && isWrong(from, file) ? [toArrow(from, file)] : [];
  return files.filter(isProduct).flatMap((file) => toImports(file).flatMap(wrong));
}

function toArrow(from: string, to: string): string {
  return `${toShort(from)} → ${toShort(to)}`;
}

function toShort(path: string): string {
  return path.replace(SIDECAR, "").replace(/^services\//, "");
}

function toFamily(path: string): string {
  return path.slice(SIDECAR.length).split("/")[0] ?? "";
}
