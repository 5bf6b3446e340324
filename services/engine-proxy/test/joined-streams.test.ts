// Two connections joined: what goes through, what is left out, and that a slow reader slows the other side.
import { Duplex, PassThrough } from "node:stream";
import { text } from "node:stream/consumers";
import { expect, test, vi } from "vitest";
import { joinStreams } from "../src/joined-streams.ts";

/** A connection and what the test holds of it: what it will read, and what was written to it. */
function toConnection() {
  const [incoming, outgoing] = [new PassThrough(), new PassThrough()];
  return { socket: Duplex.from({ readable: incoming, writable: outgoing }), incoming, outgoing };
}

test.each([
  ["all of it at once", ["{options}in", "put"]],
  ["in pieces", ["{opt", "ions", "}input"]],
  ["with the head", ["{options}", "input"]],
])(
  "the body of the request is left out of the container's input: %s",
  async (_how, [first = "", ...rest]) => {
    const [near, far] = [toConnection(), toConnection()];
    joinStreams(
      { socket: near.socket, head: Buffer.from(first), skip: "{options}".length },
      { socket: far.socket, head: Buffer.from("early ") },
    );
    for (const part of rest) near.incoming.write(part);
    near.incoming.end();
    far.incoming.end("output");
    expect(await text(far.outgoing)).toBe("input");
    expect(await text(near.outgoing)).toBe("early output");
  },
);

test("a reader that stops makes the writer stop", async () => {
  let read = 0;
  const endless = new Duplex({
    read() {
      read += 65_536;
      this.push(Buffer.alloc(65_536));
    },
    write: (_chunk, _encoding, done) => done(),
  });
  const stopped = new Duplex({ read() {}, write() {} }); // takes one piece and never says that it is done
  joinStreams(
    { socket: stopped, head: Buffer.alloc(0), skip: 0 },
    { socket: endless, head: Buffer.alloc(0) },
  );
  await vi.waitFor(() => expect(endless.isPaused()).toBe(true));
  expect(read).toBeLessThan(1024 * 1024);
});

test("a side that breaks takes the other with it", async () => {
  for (const broken of [0, 1]) {
    const sides = [new Duplex({ read() {}, write() {} }), new Duplex({ read() {}, write() {} })] as const;
    joinStreams(
      { socket: sides[0], head: Buffer.alloc(0), skip: 0 },
      { socket: sides[1], head: Buffer.alloc(0) },
    );
    sides[broken]?.destroy(new Error("reset"));
    await vi.waitFor(() => expect(sides.map(({ destroyed }) => destroyed)).toEqual([true, true]));
  }
});
