/** Whether a model call is worth parsing: a few megabytes of `{}` become hundreds of megabytes of objects. Pure. */

/** Far more than any harness sends. What is deeper cannot be written anew or measured without running out of stack. */
const MAX_DEPTH = 200;
const MAX_VALUES = 250_000;

const [QUOTE, BACKSLASH, COMMA, COLON] = [0x22, 0x5c, 0x2c, 0x3a];
const OPENING: readonly number[] = [0x5b, 0x7b];
const CLOSING: readonly number[] = [0x5d, 0x7d];

/** Counts what stands outside of texts. Of bytes that are no JSON it says nothing: the parser does. */
export function isParsable(json: Buffer): boolean {
  let depth = 0;
  let values = 0;
  for (let at = 0; at < json.length; at += 1) {
    const byte = json[at] ?? 0;
    if (byte === QUOTE) {
      at = findTextEnd(json, at + 1);
    } else if (byte === COMMA || byte === COLON) {
      values += 1;
    } else if (OPENING.includes(byte)) {
      depth += 1;
      values += 1;
    } else if (CLOSING.includes(byte)) {
      depth -= 1;
    }
    if (depth > MAX_DEPTH || values > MAX_VALUES) return false;
  }
  return true;
}

/** Where the text's closing quote is; the end of the bytes where there is none. */
function findTextEnd(json: Buffer, from: number): number {
  for (let at = from; at < json.length; at += 1) {
    if (json[at] === BACKSLASH) at += 1;
    else if (json[at] === QUOTE) return at;
  }
  return json.length;
}
