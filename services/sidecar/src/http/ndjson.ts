/** Values as lines of JSON. There is no heartbeat: every line is a value. */

export async function* toNdjsonLines(values: AsyncIterable<unknown>): AsyncGenerator<string> {
  for await (const value of values) yield `${JSON.stringify(value)}\n`;
}
