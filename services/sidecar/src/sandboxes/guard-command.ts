/** How the guard is started where the sandbox is a PID namespace of its own. Pure. */
import type { GuardConfig } from "#contract/guard";
import type { SandboxPaths } from "./sandbox.ts";

/** Less memory for a program that only carries bytes. */
const FLAGS = ["--max-semi-space-size=1", "--max-old-space-size=128", "--no-warnings"];

export function toGuardCommand(paths: SandboxPaths): string[] {
  const config: GuardConfig = {
    workspace: paths.workspace,
    home: paths.home,
    baseline: `${paths.temp}/.pillion-baseline`,
    ownsPidNamespace: true,
    marker: "",
  };
  return [paths.node, ...FLAGS, `${paths.product}/guard/main.mjs`, JSON.stringify(config)];
}
