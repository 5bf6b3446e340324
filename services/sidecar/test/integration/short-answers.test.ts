// How many pieces an answer makes on its way into a sandbox: each wakes every program between the broker and the client.
import { once } from "node:events";
import { createServer } from "node:http";
import { Duplex } from "node:stream";
import { expect, onTestFinished, test, vi } from "vitest";
import { openSandboxDoor } from "../../src/http/sandbox-door.ts";
import { openLease, toPort } from "../fakes/told-lease.ts";

type Write = (error?: Error | null) => void;

/** The broker's side of a connection; keeps what is written to it, piece by piece. */
class Connection extends Duplex {
  readonly pieces: string[] = [];

  override _read(): void {}

  override _write(bytes: Buffer, _encoding: BufferEncoding, done: Write): void {
    this.pieces.push(bytes.toString());
    done();
  }

  override _writev(writes: { chunk: Buffer }[], done: Write): void {
    this.pieces.push(writes.map(({ chunk }) => chunk.toString()).join(""));
    done();
  }
}

test("S3.4 a short answer comes in one piece, and one that goes on comes as it is made", async () => {
  const server = createServer(async (request, response) => {
    if (request.url === "/short") return void response.end("short.");
    response.write("first.");
    await once(release, "go");
    response.end("last.");
  }).listen(0, "127.0.0.1");
  const release = new EventTarget();
  onTestFinished(() => void server.close());
  await once(server, "listening");
  const port = toPort(server);
  const host = `127.0.0.1:${port}`;
  const { lease } = openLease({
    patterns: [`http://${host}`],
    credentials: [{ host, header: "x-api-key", value: "a-secret-of-the-host" }],
    dialer: { privateTargets: [{ scheme: "http", host: "127.0.0.1", port, cidr: null }] },
  });
  const ask = (path: string): Connection => {
    const connection = new Connection();
    openSandboxDoor(lease)(connection);
    const head = [
      `GET /to/http/${host}${path} HTTP/1.1`,
      "host: door",
      `authorization: Bearer ${lease.placeholder}`,
    ];
    connection.push(`${head.join("\r\n")}\r\n\r\n`);
    return connection;
  };

  const short = ask("/short");
  await vi.waitFor(() => expect(short.pieces.join("")).toMatch(/\r\nshort\.\r\n0\r\n\r\n$/));
  expect(short.pieces).toHaveLength(1);

  const long = ask("/long");
  await vi.waitFor(() => expect(long.pieces.join("")).toMatch(/\r\nfirst\.\r\n$/)); // nothing waits for the end
  release.dispatchEvent(new Event("go"));
  await vi.waitFor(() => expect(long.pieces.join("")).toMatch(/\r\nlast\.\r\n0\r\n\r\n$/));
});
