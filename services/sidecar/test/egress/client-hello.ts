/** The first bytes of a TLS client, as Node's own writes them. */
import { once } from "node:events";
import { Duplex } from "node:stream";
import { connect } from "node:tls";

export async function readClientHello(servername: string | undefined): Promise<Buffer> {
  const wire = new Duplex({
    read: () => undefined,
    write(bytes: Buffer, _encoding, done) {
      this.emit("hello", bytes);
      done();
    },
  });
  const said = once(wire, "hello");
  const client = connect({ socket: wire, ...(servername === undefined ? {} : { servername }) });
  client.on("error", () => undefined);
  const [bytes] = await said;
  client.destroy();
  return bytes;
}
