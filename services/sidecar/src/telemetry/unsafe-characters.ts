/** Characters that make a log or a terminal show something else than what was written. */

/**
 * Control characters but tab and line feed (C0, DEL, C1), soft hyphen, bidi marks and overrides, zero-width and other
 * invisible format characters, line and paragraph separators, tags. A lone surrogate counts too.
 */
const UNSAFE =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  /[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\u{1d173}-\u{1d17a}\u{e0000}-\u{e0fff}]|\p{Surrogate}/gu;

/** Escape sequences of terminals: CSI, and OSC, DCS and their like with their text. */
const SEQUENCES =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  /(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]{0,4096}(?:\x07|\x1b\\|\x9c)/g;

/** The same text with every unsafe character as `\uXXXX`; inside JSON it stays the same string. */
export function escapeUnsafe(text: string): string {
  return text.replace(UNSAFE, toEscapes);
}

/** The same text without unsafe characters and without terminal sequences. */
export function stripUnsafe(text: string): string {
  return text.replace(SEQUENCES, "").replace(UNSAFE, "");
}

function toEscapes(character: string): string {
  const units = Array.from({ length: character.length }, (_, index) => character.charCodeAt(index));
  return units.map((unit) => `\\u${unit.toString(16).padStart(4, "0")}`).join("");
}
