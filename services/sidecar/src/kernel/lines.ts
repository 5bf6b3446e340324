/** Splits bytes into lines at `\n` only; readline would also split at U+2028 and U+2029 inside JSON strings. */
import { StringDecoder } from "node:string_decoder";

export class LineTooLong extends Error {
  override readonly name = "LineTooLong";
}

/** Yields lines without their `\n` (and one `\r`); throws LineTooLong beyond `maxChars` characters. */
export async function* readLines(bytes: AsyncIterable<Uint8Array>, maxChars: number): AsyncGenerator<string> {
  const decoder = new StringDecoder("utf8");
  // Only what is new is looked through: a long line comes in many pieces.
  let begun: string[] = [];
  let begunChars = 0;
  for await (const chunk of bytes) {
    const text = decoder.write(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength));
    let from = 0;
    for (let end = text.indexOf("\n"); end !== -1; end = text.indexOf("\n", from)) {
      yield (begun.join("") + text.slice(from, end)).replace(/\r$/, "");
      [begun, begunChars] = [[], 0];
      from = end + 1;
    }
    begun.push(text.slice(from));
    begunChars += text.length - from;
    if (begunChars > maxChars) throw new LineTooLong(`a line is longer than ${maxChars} characters`);
  }
  const last = begun.join("");
  if (last !== "") yield last;
}
