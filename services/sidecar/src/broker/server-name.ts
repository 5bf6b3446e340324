/** Which server a TLS client asks for, read from its first message by the TLS library itself. */
import { Duplex } from "node:stream";
import { TLSSocket } from "node:tls";

const HANDSHAKE_RECORD = 0x16;
/** A client's first message, with post-quantum shares and tickets, is at most a few kilobytes. */
const MAX_HELLO_BYTES = 32_768;

export type ServerName =
  | { readonly kind: "named"; readonly name: string }
  | { readonly kind: "unnamed" }
  | { readonly kind: "not-tls" }
  /** What came was too little to know, when time was up or the client went. */
  | { readonly kind: "late" | "gone" };

/**
 * Takes a client's first bytes as they come, and tells once it is known which server they ask for. The bytes are the
 * caller's to keep: nothing is answered to the client.
 */
export class ServerNameReader {
  readonly found: Promise<ServerName>;
  readonly #resolve: (found: ServerName) => void;
  readonly #input: Duplex;
  #size = 0;

  constructor() {
    const { promise, resolve } = Promise.withResolvers<ServerName>();
    this.found = promise;
    this.#input = new Duplex({ read: () => undefined, write: (_bytes, _encoding, done) => done() });
    const tls = new TLSSocket(this.#input, {
      isServer: true,
      SNICallback: (name) => this.#end({ kind: "named", name: name.toLowerCase() }),
    });
    tls.on("error", () => this.#end({ kind: "unnamed" })); // it got as far as wanting a certificate, or is broken
    this.#resolve = (found) => {
      resolve(found);
      setImmediate(() => tls.destroy()); // not inside its own callback
    };
  }

  write(bytes: Buffer): void {
    if (this.#size === 0 && bytes[0] !== HANDSHAKE_RECORD) return this.#end({ kind: "not-tls" });
    this.#size += bytes.length;
    if (this.#size > MAX_HELLO_BYTES) return this.#end({ kind: "unnamed" });
    this.#input.push(bytes);
  }

  /** Gives up. */
  close(kind: "late" | "gone"): void {
    this.#end({ kind });
  }

  #end(found: ServerName): void {
    this.#resolve(found);
  }
}
