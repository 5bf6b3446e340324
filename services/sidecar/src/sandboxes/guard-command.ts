/** How the guard is started where the sandbox is a PID namespace of its own. Pure. */
import type { GuardConfig } from "#contract/guard";
import { REFERENCES_DIR } from "#contract/sandbox";
import type { Reference, SandboxPaths } from "./sandbox.ts";

/** Less memory for a program that only carries bytes; and no debugger for whoever may send it a signal. */
const FLAGS = [
  ...["--max-semi-space-size=1", "--max-old-space-size=128", "--no-warnings"],
  "--disable-sigusr1",
];

export function toGuardCommand(paths: SandboxPaths, references: readonly Reference[]): string[] {
  const config: GuardConfig = {
    workspace: paths.workspace,
    home: paths.home,
    references: { directory: REFERENCES_DIR, names: references.map(({ name }) => name) },
    baseline: `${paths.temp}/.pillion-baseline`,
    ownsPidNamespace: true,
    marker: "",
  };
  return [paths.node, ...FLAGS, `${paths.product}/guard/main.mjs`, JSON.stringify(config)];
}
