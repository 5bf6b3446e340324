import { describe, expect, test } from "vitest";
import { LineTooLong, readLines } from "../../../src/kernel/lines.ts";

async function* toBytes(...pieces: (string | Buffer)[]): AsyncGenerator<Buffer> {
  for (const piece of pieces) yield Buffer.from(piece);
}

async function collect(lines: AsyncIterable<string>): Promise<string[]> {
  const collected: string[] = [];
  for await (const line of lines) collected.push(line);
  return collected;
}

describe("lines", () => {
  test("end at \\n only, lose one \\r, and may come in any pieces", async () => {
    const bytes = toBytes("o", "ne\ntw", "o\r", "\n\nthr\u2028ee\u2029\n", "last");
    expect(await collect(readLines(bytes, 100))).toEqual(["one", "two", "", "thr\u2028ee\u2029", "last"]);
  });

  test("keep characters whole that are cut between pieces", async () => {
    const euro = Buffer.from("€\n");
    expect(await collect(readLines(toBytes(euro.subarray(0, 1), euro.subarray(1)), 100))).toEqual(["€"]);
  });

  test("longer than allowed are refused before their end comes, not those of the allowed length", async () => {
    expect(await collect(readLines(toBytes("x".repeat(10), "\n"), 10))).toEqual(["x".repeat(10)]);
    await expect(collect(readLines(toBytes("short\n", "x".repeat(6), "x".repeat(5)), 10))).rejects.toThrow(
      LineTooLong,
    );
  });
});
