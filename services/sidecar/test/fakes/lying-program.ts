/** The built program with a liar in Pi's place: a copy of its own, which keeps to the protocol until its LIE. */
import { chmodSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { PROGRAM } from "./live-service.ts";

const BUILT = dirname(PROGRAM);
const MODULES = "product/pi/node_modules";
const PACKAGE = `${MODULES}/@earendil-works/pi-coding-agent`;
const LIAR = join(import.meta.dirname, "../fixtures/lying-pi.js");

export type LyingProgram = Disposable & {
  readonly command: readonly [string, string];
  readonly env: Readonly<Record<string, string>>;
};

/** `lie` is the text of a function that runs inside the sandbox; the fixture says what it is called with. */
export function makeLyingProgram(lie: string): LyingProgram {
  const directory = mkdtempSync(join(tmpdir(), "pillion-lying-"));
  const built = join(directory, "dist");
  const isPi = (path: string): boolean => relative(BUILT, path).startsWith(`${MODULES}/`);
  cpSync(BUILT, built, { recursive: true, filter: (path) => !isPi(path) });
  mkdirSync(join(built, PACKAGE, "dist/bundle"), { recursive: true });
  cpSync(join(BUILT, PACKAGE, "package.json"), join(built, PACKAGE, "package.json"));
  const program = readFileSync(LIAR, "utf8").replace("/* LIE */ () => ({})", lie);
  writeFileSync(join(built, PACKAGE, "dist/bundle/cli.js"), program);
  chmodSync(directory, 0o755);
  const root = join(BUILT, "..");
  return {
    command: [process.execPath, join(built, "pillion.mjs")],
    env: { PILLION_CONFIG_DIR: join(root, "config"), PILLION_SKILLS_DIR: join(root, "skills") },
    [Symbol.dispose]: () => rmSync(directory, { recursive: true, force: true }),
  };
}
