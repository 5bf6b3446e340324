/** Splits bytes into lines at `\n` only; readline would also split at U+2028 and U+2029 inside JSON strings. */
import { StringDecoder } from "node:string_decoder";

export class LineTooLong extends Error {
  override readonly name = "LineTooLong";
}

/** Yields lines without their `\n` (and one `\r`); throws LineTooLong beyond `maxChars` characters. */
export async function* readLines(bytes: AsyncIterable<Uint8Array>, maxChars: number): AsyncGenerator<string> {
  const decoder = new StringDecoder("utf8");
  let rest = "";
  for await (const chunk of bytes) {
    rest += decoder.write(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength));
    let from = 0;
    for (let end = rest.indexOf("\n", from); end !== -1; end = rest.indexOf("\n", from)) {
      yield rest.slice(from, end).replace(/\r$/, "");
      from = end + 1;
    }
    rest = rest.slice(from);
    if (rest.length > maxChars) throw new LineTooLong(`a line is longer than ${maxChars} characters`);
  }
  if (rest !== "") yield rest;
}
