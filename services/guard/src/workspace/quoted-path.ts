/** A path as git writes it into a diff. Pure. */

const LETTERS: ReadonlyMap<number, string> = new Map([
  [0x07, "a"],
  [0x08, "b"],
  [0x09, "t"],
  [0x0a, "n"],
  [0x0b, "v"],
  [0x0c, "f"],
  [0x0d, "r"],
  [0x22, '"'],
  [0x5c, "\\"],
]);

/** Unchanged when plain; else in quotes with C escapes, bytes beyond ASCII in octal (git's `core.quotePath`). */
export function toQuotedPath(path: string): string {
  let quoted = "";
  for (const byte of Buffer.from(path)) quoted += toEscaped(byte);
  return quoted === path ? path : `"${quoted}"`;
}

function toEscaped(byte: number): string {
  const letter = LETTERS.get(byte);
  if (letter !== undefined) return `\\${letter}`;
  if (byte >= 0x20 && byte < 0x7f) return String.fromCharCode(byte);
  return `\\${byte.toString(8).padStart(3, "0")}`;
}
