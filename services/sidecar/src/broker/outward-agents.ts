/** One run's connections to the outside: dialled by the checked address only, kept open between requests, closed with the lease. */
import { type ClientRequestArgs, Agent as HttpAgent } from "node:http";
import { isIP, type Socket } from "node:net";
import { Duplex } from "node:stream";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { unlessAborted } from "../kernel/deadline.ts";
import type { Destination } from "./destination.ts";
import { DialError, type Dialer } from "./dialer.ts";
import { toTlsCause } from "./egress-cause.ts";

/** For TLS, after the connection stands. */
const HANDSHAKE_MS = 10_000;
const MAX_FREE_PER_HOST = 8;
/** Kept open for all hosts together: Node counts by host, and a run may name many below one suffix. */
const MAX_FREE_SOCKETS = 16;

export type Outward = {
  readonly destination: Destination;
  readonly privateAllowed: boolean;
  readonly isModel: boolean;
};

/** Node's agent asks for connections by options; this is what ours are asked with. */
type DialOptions = ClientRequestArgs & { readonly outward?: Outward };

export class OutwardAgents {
  readonly #agents: Record<"http" | "https", CheckedAgent>;

  constructor(dialer: Dialer, ended: AbortSignal) {
    this.#agents = { http: new CheckedAgent(dialer, ended), https: new CheckedAgent(dialer, ended) };
  }

  /** Options for `node:http`'s `request`, whatever the scheme: the agent's sockets speak TLS themselves where it is https. */
  toOptions(outward: Outward): ClientRequestArgs & { readonly outward: Outward } {
    const { scheme, host, port } = outward.destination;
    return { agent: this.#agents[scheme], host, port, outward };
  }

  /** The address that was dialled for a socket of these agents. */
  readAddress(socket: object): string | null {
    return this.#agents.https.addresses.get(socket) ?? this.#agents.http.addresses.get(socket) ?? null;
  }

  close(): void {
    for (const agent of Object.values(this.#agents)) agent.destroy();
  }
}

class CheckedAgent extends HttpAgent {
  readonly addresses = new WeakMap<object, string>();
  readonly #dialer: Dialer;
  readonly #ended: AbortSignal;

  constructor(dialer: Dialer, ended: AbortSignal) {
    super({ keepAlive: true, maxFreeSockets: MAX_FREE_PER_HOST }); // Node's bound for sockets in use does not hold for ones still being made
    this.#dialer = dialer;
    this.#ended = ended;
  }

  override keepSocketAlive(socket: Duplex): boolean {
    const free = Object.values(this.freeSockets).reduce((sum, sockets) => sum + (sockets?.length ?? 0), 0);
    const kept: unknown = super.keepSocketAlive(socket); // whether it can be kept, though its type says nothing
    return free < MAX_FREE_SOCKETS && kept === true;
  }

  override createConnection(
    options: DialOptions,
    callback?: (error: Error | null, stream: Duplex) => void,
  ): undefined {
    void this.#open(options).then(
      (socket) => callback?.(null, socket),
      (error: Error) => callback?.(error, new Duplex()), // Node does not look at the stream then
    );
    return undefined;
  }

  async #open({ outward }: DialOptions): Promise<Socket> {
    if (outward === undefined) throw new DialError("unreachable", "nothing to dial");
    const { destination, ...rest } = outward;
    const { socket, address } = await this.#dialer.dial(destination, { signal: this.#ended, ...rest });
    socket.setNoDelay(true);
    const ready =
      destination.scheme === "https" ? await secure(socket, destination.host, this.#ended) : socket;
    this.addresses.set(ready, address);
    return ready;
  }
}

/** Verifies the server's certificate for the name that was asked for. */
async function secure(socket: Socket, host: string, ended: AbortSignal): Promise<Socket> {
  const { promise, resolve, reject } = Promise.withResolvers<Socket>();
  const name = isIP(host) === 0 ? { servername: host } : {};
  const tls = connectTls({ socket, host, ...name, ALPNProtocols: ["http/1.1"] });
  const onEnd = (): void => void tls.destroy();
  ended.addEventListener("abort", onEnd, { once: true });
  const late = setTimeout(() => tls.destroy(new DialError("timed_out", "no TLS in time")), HANDSHAKE_MS);
  tls.once("secureConnect", () => resolve(tls));
  tls.once("error", (error) => reject(toDialError(error, tls)));
  const message = "closed during the TLS handshake";
  tls.once("close", () => reject(new DialError("unreachable", message, { why: "closed" })));
  try {
    return await unlessAborted(promise, ended);
  } catch (error) {
    tls.destroy();
    throw error;
  } finally {
    ended.removeEventListener("abort", onEnd);
    clearTimeout(late); // the listener for errors stays: until a request has the socket, nobody else listens
  }
}

function toDialError(error: Error, { authorizationError }: TLSSocket): DialError {
  if (error instanceof DialError) return error;
  const isUntrusted = Boolean(authorizationError); // Node has its code here once it has refused a certificate
  const why = isUntrusted ? "certificate" : toTlsCause(error);
  return new DialError("unreachable", "no TLS came about", { why });
}
