import { Duplex, PassThrough } from "node:stream";
import { buffer } from "node:stream/consumers";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { StdoutFrames, toPipe } from "../../../../src/sandboxes/docker/demultiplex.ts";

function toFrame(stream: number, payload: string | Buffer): Buffer {
  const bytes = Buffer.from(payload);
  const header = Buffer.alloc(8);
  header.writeUInt8(stream, 0);
  header.writeUInt32BE(bytes.length, 4);
  return Buffer.concat([header, bytes]);
}

async function takeApart(chunks: readonly Buffer[]): Promise<{ out: string; errors: string }> {
  let errors = "";
  const frames = new StdoutFrames((bytes) => {
    errors += bytes.toString("latin1");
  });
  for (const chunk of chunks) frames.write(chunk);
  frames.end();
  return { out: (await buffer(frames)).toString("latin1"), errors };
}

describe("the output of an attached container", () => {
  test("is its stdout; its stderr is told apart", async () => {
    const bytes = Buffer.concat([toFrame(1, "one "), toFrame(2, "oops"), toFrame(1, ""), toFrame(1, "two")]);
    expect(await takeApart([bytes])).toEqual({ out: "one two", errors: "oops" });
  });

  test("is the same however the frames are cut", async () => {
    const piece = fc.tuple(fc.constantFrom(1, 2), fc.uint8Array({ maxLength: 40 }));
    await fc.assert(
      fc.asyncProperty(
        fc.array(piece, { maxLength: 8 }),
        fc.array(fc.integer({ min: 1, max: 9 })),
        async (pieces, cuts) => {
          const of = (wanted: number): string =>
            pieces
              .map(([stream, bytes]) => (stream === wanted ? Buffer.from(bytes).toString("latin1") : ""))
              .join("");
          let rest = Buffer.concat(pieces.map(([stream, bytes]) => toFrame(stream, Buffer.from(bytes))));
          const chunks: Buffer[] = [];
          for (const size of cuts) {
            chunks.push(rest.subarray(0, size));
            rest = rest.subarray(size);
          }
          expect(await takeApart([...chunks, rest])).toEqual({ out: of(1), errors: of(2) });
        },
      ),
      { numRuns: 200 },
    );
  });

  test("that is not framed breaks the stream", async () => {
    await expect(takeApart([Buffer.from("HTTP/1.1 500 oops")])).rejects.toThrow("no known stream");
  });
});

describe("the pipe on it", () => {
  test("carries both ways, and its end ends the connection", async () => {
    const [input, output] = [new PassThrough(), new PassThrough()];
    const connection = Duplex.from({ readable: output, writable: input });
    const pipe = toPipe(connection, () => undefined);
    pipe.write("to the guard");
    expect(String(await new Promise((resolve) => input.once("data", resolve)))).toBe("to the guard");
    output.write(toFrame(1, "from the guard"));
    expect(String(await new Promise((resolve) => pipe.once("data", resolve)))).toBe("from the guard");
    const closed = new Promise((resolve) => connection.once("close", resolve));
    pipe.destroy();
    await closed;
  });

  test("ends when the connection does", async () => {
    const connection = new PassThrough();
    const pipe = toPipe(connection, () => undefined);
    const closed = new Promise((resolve) => pipe.once("close", resolve));
    connection.destroy();
    await closed;
  });
});
