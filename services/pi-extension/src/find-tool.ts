/** Pi's own `find` tool over Node's glob: Pi wants the `fd` program, which no registry we install from carries. */
import { access, glob } from "node:fs/promises";
import { join } from "node:path";
import { createFindToolDefinition } from "@earendil-works/pi-coding-agent";

export function findTool(): ReturnType<typeof createFindToolDefinition> {
  return createFindToolDefinition(process.cwd(), {
    operations: {
      exists: (path: string) =>
        access(path).then(
          () => true,
          () => false,
        ),
      glob: findMatches,
    },
  });
}

/** Like fd: a bare pattern matches the base name at any depth. */
async function findMatches(
  pattern: string,
  root: string,
  options: { ignore: string[]; limit: number },
): Promise<string[]> {
  const anywhere = pattern.includes("/") ? pattern : `**/${pattern}`;
  const found: string[] = [];
  for await (const path of glob(anywhere, { cwd: root, exclude: options.ignore })) {
    found.push(join(root, path));
    if (found.length >= options.limit) break;
  }
  return found;
}
