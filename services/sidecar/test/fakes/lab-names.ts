/** A laboratory's DNS server: answers from a zone that may change, over UDP and TCP, and tells each question. */
import { createSocket, type RemoteInfo, type Socket as UdpSocket } from "node:dgram";
import { once } from "node:events";
import { createServer, isIPv4, isIPv6, type Server, type Socket } from "node:net";
import { type Answer, decode, encode, type Packet, RECURSION_DESIRED, streamEncode } from "dns-packet";
import { type Hit, type NameAnswer, toUnmapped, type Zone } from "./lab-words.ts";

const FAILURES = { SERVFAIL: 2, NXDOMAIN: 3, REFUSED: 5 } as const;

export class LabNames {
  readonly #tell: (hit: Hit) => void;
  readonly #asked = new Map<string, number>();
  #zone: Zone = {};

  constructor(tell: (hit: Hit) => void) {
    this.#tell = tell;
  }

  setZone(zone: Zone): void {
    this.#zone = zone;
    this.#asked.clear();
  }

  async listen(addresses: readonly string[], port: number): Promise<void> {
    for (const address of addresses) await this.#listenUdp(address, port);
    const server: Server = createServer((socket) => this.#serve(socket));
    server.listen({ host: "::", port });
    await once(server, "listening");
  }

  async #listenUdp(address: string, port: number): Promise<void> {
    const socket: UdpSocket = createSocket({ type: isIPv4(address) ? "udp4" : "udp6", reuseAddr: true });
    socket.on("message", (bytes: Buffer, { address: peer, port: peerPort }: RemoteInfo) => {
      const answer = this.#answer(bytes, { address, port, peer }, "udp");
      if (answer !== undefined) socket.send(encode(answer), peerPort, peer);
    });
    socket.bind(port, address);
    await once(socket, "listening");
  }

  #serve(socket: Socket): void {
    const where = {
      address: toUnmapped(socket.localAddress),
      port: socket.localPort ?? 0,
      peer: toUnmapped(socket.remoteAddress),
    };
    this.#tell({ kind: "tcp", ...where, text: "" });
    let read = Buffer.alloc(0);
    socket.on("error", () => undefined);
    socket.on("data", (bytes: Buffer) => {
      read = Buffer.concat([read, bytes]);
      if (read.length < 2 || read.length < 2 + read.readUInt16BE(0)) return;
      const answer = this.#answer(read.subarray(2, 2 + read.readUInt16BE(0)), where, "tcp");
      read = read.subarray(2 + read.readUInt16BE(0));
      if (answer !== undefined) socket.write(streamEncode(answer));
    });
  }

  #answer(
    bytes: Buffer,
    where: Pick<Hit, "address" | "port" | "peer">,
    over: "udp" | "tcp",
  ): Packet | undefined {
    let question: Packet;
    try {
      question = decode(bytes);
    } catch {
      this.#tell({ kind: "udp", ...where, text: bytes.toString("latin1") });
      return undefined;
    }
    const [asked] = question.questions ?? [];
    if (asked === undefined) return undefined;
    this.#tell({ kind: "dns", ...where, over, name: asked.name, type: asked.type });
    const found = this.#find(asked.name.toLowerCase(), asked.type);
    const failure = "failure" in found ? found.failure : undefined;
    if (failure === "silence") return undefined;
    return {
      type: "response",
      id: question.id ?? 0,
      flags: RECURSION_DESIRED | 0x80 | (failure === undefined ? 0 : FAILURES[failure]),
      questions: [asked],
      answers: this.#toRecords(asked.name, asked.type, found),
    };
  }

  #toRecords(name: string, type: string, found: NameAnswer): Answer[] {
    if ("failure" in found) return [];
    if ("cname" in found) {
      const next = this.#find(found.cname.toLowerCase(), type);
      return [
        { type: "CNAME", name, ttl: 0, data: found.cname },
        ...("cname" in next ? [] : this.#toRecords(found.cname, type, next)),
      ];
    }
    if (type === "A") return found.filter(isIPv4).map((data) => ({ type: "A", name, ttl: 0, data }));
    if (type === "AAAA") return found.filter(isIPv6).map((data) => ({ type: "AAAA", name, ttl: 0, data }));
    return [];
  }

  #find(name: string, type: string): NameAnswer {
    const suffix = Object.keys(this.#zone).find((key) => key.startsWith("*.") && name.endsWith(key.slice(1)));
    const entry = this.#zone[name] ?? (suffix === undefined ? undefined : this.#zone[suffix]);
    if (entry === undefined) return { failure: "NXDOMAIN" };
    if (!("turns" in entry)) return entry;
    const key = `${type} ${name}`;
    const turn = this.#asked.get(key) ?? 0;
    this.#asked.set(key, turn + 1);
    return entry.turns[Math.min(turn, entry.turns.length - 1)] ?? { failure: "NXDOMAIN" };
  }
}
