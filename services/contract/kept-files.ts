/** Which changed files are taken out of a workspace: both ends of the pipe choose the same. Pure, without a schema library. */

type Changed = {
  readonly path: string;
  readonly change: string;
  readonly kind: string;
  readonly size: number;
};

/** What a tar needs around a file: its header and padding. */
const ENTRY_BYTES = 1536;

/** Files in the list's order, but those with which the sum would exceed `maxBytes`. */
export function selectKept(
  files: readonly Changed[],
  maxBytes: number,
): { readonly kept: string[]; readonly tooLarge: string[] } {
  const [kept, tooLarge]: [string[], string[]] = [[], []];
  let left = maxBytes;
  for (const { path, change, kind, size } of files) {
    if (change === "deleted" || kind !== "file") continue;
    const bytes = size + ENTRY_BYTES;
    if (bytes > left) {
      tooLarge.push(path);
      continue;
    }
    left -= bytes;
    kept.push(path);
  }
  return { kept, tooLarge };
}
