/** A network of a test's own, without any way out: namespaces in which every address a probe wants to hit is a sink. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdtempSync, readlinkSync, rmSync } from "node:fs";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { writeCertificates } from "./lab-certificates.ts";
import { LabProcess } from "./lab-process.ts";
import { joinSockets, openRelayed, serveRelay } from "./lab-relay.ts";
import {
  ALL_LAB_ADDRESSES,
  type BadCertificate,
  type Hit,
  type HttpAnswer,
  type KeeperOrder,
  type KeeperSetting,
  LAB_OWN_ADDRESSES,
  LAB_PORTS,
  type LabPorts,
  type PacketCounts,
  type Zone,
} from "./lab-words.ts";
import { COMMAND, type LiveService, openLiveService, type ProgramEnd } from "./live-service.ts";

export type LabOptions = {
  /** Addresses of the laboratory; one example of each kind unless told otherwise. */
  readonly addresses?: readonly string[];
  readonly ports?: Partial<LabPorts>;
  /** What its DNS server knows. */
  readonly zone?: Zone;
  /** What the HTTPS sinks' certificate holds besides the zone's names and all addresses. */
  readonly certificateNames?: readonly string[];
  /** Server names for which the HTTPS sinks show a certificate that no client should take. */
  readonly badCertificates?: Readonly<Record<string, BadCertificate>>;
  /**
   * All those addresses lie at the other end of a cable, as they would for a real service, and are not the machine's own:
   * those are then LAB_OWN_ADDRESSES and loopback, with sinks too. Otherwise everything is in one network.
   */
  readonly apart?: boolean;
};

type StartOptions = { readonly env?: Readonly<Record<string, string>>; readonly stdin?: string };

/** Only root may make namespaces with a network that works as the sinks need it. */
export const canOpenLab = process.getuid?.() === 0;

/**
 * For example, a name whose second answer differs, and a service that asks it:
 *
 *     await using lab = await openNetworkLab({ apart: true, zone: {
 *       "a.example": { turns: [["8.8.8.8"], ["10.0.0.5"]] },
 *     } });
 *     await using service = await lab.startService({ PILLION_LOG_LEVEL: "debug" });
 *     await runToEnd(service, …);
 *     expect((await lab.hits()).filter(({ address }) => address === "10.0.0.5")).toEqual([]);
 *
 * Throws where the namespaces cannot be had, or would have a way out.
 */
export async function openNetworkLab(options: LabOptions = {}): Promise<NetworkLab> {
  const directory = mkdtempSync(join(tmpdir(), "pillion-lab-"));
  chmodSync(directory, 0o755);
  const addresses = options.addresses ?? ALL_LAB_ADDRESSES;
  const zone = options.zone ?? {};
  const names = [...Object.keys(zone), ...(options.certificateNames ?? []), "localhost"];
  writeCertificates(directory, [...names, ...addresses, ...LAB_OWN_ADDRESSES, "127.0.0.1", "::1"]);
  const setting = {
    ...{ directory, addresses, outside: readlinkSync("/proc/self/ns/net") },
    ...{ ports: { ...LAB_PORTS, ...options.ports }, badCertificates: options.badCertificates ?? {} },
  };
  const lab = new NetworkLab(directory);
  try {
    await lab.begin(setting, options.apart ?? false);
    await lab.setZone(zone);
    return lab;
  } catch (error) {
    await lab[Symbol.asyncDispose]();
    throw error;
  }
}

export class NetworkLab implements AsyncDisposable {
  /** PEM file of the authority of all HTTPS sinks, for NODE_EXTRA_CA_CERTS. */
  readonly caFile: string;
  readonly #directory: string;
  /** The last one's network is where programs run. */
  readonly #keepers: LabProcess[] = [];
  readonly #servers: Server[] = [];
  readonly #lent = new Set<number>();
  readonly #started = new Set<ChildProcess>();

  constructor(directory: string) {
    this.#directory = directory;
    this.caFile = join(directory, "ca.pem");
  }

  /** Resolves when all sinks listen. */
  async begin(setting: Omit<KeeperSetting, "part">, isApart: boolean): Promise<void> {
    this.#servers.push(await serveRelay(join(this.#directory, "out.sock")));
    const street = await this.#keep(["unshare", "--net", "--mount", "--"], {
      ...setting,
      part: { name: isApart ? "street" : "all" },
    });
    if (!isApart) return;
    const prefix = [
      "nsenter",
      "--target",
      String(street.pid),
      "--mount",
      "--",
      "unshare",
      "--net",
      "--",
    ] as const;
    const part = { name: "house", street: street.pid, far: setting.addresses } as const;
    await this.#keep(prefix, { ...setting, addresses: LAB_OWN_ADDRESSES, part });
  }

  async #keep(prefix: readonly [string, ...string[]], setting: KeeperSetting): Promise<LabProcess> {
    const keeper = new LabProcess(prefix, setting);
    this.#keepers.push(keeper);
    await keeper.begin();
    return keeper;
  }

  /** What to write before a program and its arguments, so that it runs in the laboratory. Its directory is then `/`. */
  get prefix(): readonly [string, ...string[]] {
    return ["nsenter", "--target", String(this.pid), "--net", "--mount", "--"];
  }

  /** Of the process that keeps the namespaces in which programs run. Throws when the laboratory has ended. */
  get pid(): number {
    return this.#house.pid;
  }

  get #house(): LabProcess {
    const keeper = this.#keepers.at(-1);
    if (keeper === undefined) throw new Error("the laboratory has not begun");
    return keeper;
  }

  /** `net:[number]`, to compare with what a process tells of its own. */
  get namespace(): string {
    return readlinkSync(`/proc/${this.pid}/ns/net`);
  }

  /** Starts a program inside; the environment is the given one and PATH. */
  start(argv: readonly string[], { env = {} }: StartOptions = {}) {
    const [file, ...args] = [...this.prefix, ...argv];
    const whole = { PATH: process.env.PATH ?? "", TMPDIR: tmpdir(), ...env };
    const child = spawn(file ?? "", args, { env: whole, stdio: ["pipe", "pipe", "pipe"] });
    this.#started.add(child);
    child.once("close", () => this.#started.delete(child));
    return child;
  }

  /** Runs a program inside to its end. */
  async run(argv: readonly string[], options: StartOptions = {}): Promise<ProgramEnd> {
    const child = this.start(argv, options);
    child.stdin.on("error", () => undefined); // a program that never reads
    child.stdin.end(options.stdin ?? "");
    const ended = once(child, "close");
    const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
    await ended;
    return { code: child.exitCode, signal: child.signalCode, stdout, stderr };
  }

  /** The built service inside, which trusts the sinks' authority; reached from outside by its `url`. */
  async startService(env: Readonly<Record<string, string>> = {}): Promise<LiveService> {
    return openLiveService({
      command: [...this.prefix, ...COMMAND],
      env: { NODE_EXTRA_CA_CERTS: this.caFile, ...env },
      toReachable: async (address) =>
        `http://127.0.0.1:${await this.openPort(Number(new URL(address).port))}`,
    });
  }

  /** A connection from the test to an address inside. */
  connect(port: number, host = "127.0.0.1"): Socket {
    return openRelayed(join(this.#directory, "in.sock"), host, port);
  }

  /** A port of the test's loopback that leads to one inside, by name or address as seen there. */
  async openPort(port: number, host = "127.0.0.1"): Promise<number> {
    const server = createServer({ allowHalfOpen: true }, (socket) =>
      joinSockets(socket, this.connect(port, host)),
    );
    server.listen({ host: "127.0.0.1", port: 0 });
    await once(server, "listening");
    this.#servers.push(server);
    return (server.address() as AddressInfo).port; // it listens on TCP
  }

  /** What listens on 127.0.0.1 of the test, a scripted model for instance, answers inside by the same address and port. */
  async lend(port: number): Promise<void> {
    if (this.#lent.has(port)) return;
    this.#lent.add(port);
    await this.#house.ask({ do: "lend", port });
  }

  /** All that reached a sink since the last reset, in order; where sinks stand apart, first what left. */
  async hits(): Promise<Hit[]> {
    const all = await this.#askAll({ do: "hits" });
    return (all as Hit[][]).flat(); // the keepers' own type
  }

  /** What the kernel counted inside since the last reset, whatever the port. Answers and the relay's own count too. */
  async packets(): Promise<PacketCounts> {
    const all = (await this.#askAll({ do: "packets" })) as PacketCounts[]; // the keepers' own type
    const add = (name: keyof PacketCounts): number => all.reduce((sum, counts) => sum + counts[name], 0);
    return { tcpSegments: add("tcpSegments"), udpDatagrams: add("udpDatagrams"), pings: add("pings") };
  }

  /** Forgets all hits; zone and answers stay. */
  async reset(): Promise<void> {
    await this.#askAll({ do: "reset" });
  }

  /** Replaces all names; turns begin anew. */
  async setZone(zone: Zone): Promise<void> {
    await this.#askAll({ do: "zone", zone });
  }

  /** Replaces how HTTP sinks answer. */
  async setAnswers(answers: readonly HttpAnswer[]): Promise<void> {
    await this.#askAll({ do: "answers", answers });
  }

  /** Ends what `start` and `run` began. The namespaces end with the last process in them. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#started) child.kill("SIGKILL");
    for (const server of this.#servers) server.close();
    for (const keeper of this.#keepers.toReversed()) await keeper[Symbol.asyncDispose]();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  #askAll(order: KeeperOrder): Promise<unknown[]> {
    return Promise.all(this.#keepers.map((keeper) => keeper.ask(order)));
  }
}
