/** Every way out of one run, written down: one event each when it is over, and the sum for the result. */
import type { z } from "zod";
import type { EgressBody, EgressCause, EgressDenial, EgressFailure, EgressSummary } from "#contract/egress";
import type { Destination } from "./destination.ts";

export type EgressEvent = { readonly type: "egress" } & {
  [K in keyof typeof EgressBody]: z.infer<(typeof EgressBody)[K]>;
};

const MAX_HOSTS = 100;
const MAX_PATH_CHARS = 512;
const MAX_HOST_CHARS = 260;

type HostSum = EgressSummary["hosts"][number];

export class EgressAudit {
  readonly #tell: (event: EgressEvent) => Promise<void>;
  readonly #open = new Set<EgressEntry>();
  /** Resolves when everything up to the last event is told. */
  #told: Promise<void> = Promise.resolve();
  readonly #hosts = new Map<string, HostSum>();
  #sum = { allowed: 0, denied: 0, bytesSent: 0, bytesReceived: 0 };

  /** `tell` resolves when the event is accepted; one that fails ends the run elsewhere. */
  constructor(tell: (event: EgressEvent) => Promise<void>) {
    this.#tell = tell;
  }

  open(way: EgressEvent["way"]): EgressEntry {
    const entry = new EgressEntry(way, (event) => this.#close(entry, event));
    this.#open.add(entry);
    return entry;
  }

  summary(): EgressSummary {
    return { ...this.#sum, hosts: [...this.#hosts.values()].map((host) => ({ ...host })) };
  }

  /** Ends what is still open as cut; resolves when every event is accepted. */
  async settle(): Promise<void> {
    for (const entry of this.#open) entry.end("cut");
    await this.#told;
  }

  /** One after the other: what a run does at once, a thousand times, must not fill the journal's queue and get lost. */
  #close(entry: EgressEntry, event: EgressEvent): Promise<void> {
    this.#open.delete(entry);
    this.#add(event);
    this.#told = this.#told.then(() => this.#tell(event)).catch(() => undefined);
    return this.#told;
  }

  #add(event: EgressEvent): void {
    const { host, port } = event;
    count(this.#sum, event);
    if (host === null || port === null) return;
    const key = `${host} ${port}`;
    const known = this.#hosts.get(key);
    if (known === undefined && this.#hosts.size >= MAX_HOSTS) return;
    const sum = known ?? { host, port, allowed: 0, denied: 0, bytesSent: 0, bytesReceived: 0 };
    this.#hosts.set(key, sum);
    count(sum, event);
  }
}

function count(sum: Omit<HostSum, "host" | "port">, event: EgressEvent): void {
  sum[event.allowed ? "allowed" : "denied"] += 1;
  sum.bytesSent += event.bytesSent;
  sum.bytesReceived += event.bytesReceived;
}

/** One way out while it is going on. What is noted after its end is not told. */
export class EgressEntry {
  destination: Destination | undefined;
  /** Where none could be read: what the other side wrote. */
  written: string | null = null;
  address: string | null = null;
  serverName: string | null = null;
  method: string | null = null;
  path: string | null = null;
  status: number | null = null;
  bytesSent = 0;
  bytesReceived = 0;
  credential: string | null = null;
  cause: EgressCause | null = null;
  /** The answer's own last word has come: whoever leaves after it cuts nothing. */
  isOver = false;
  readonly way: EgressEvent["way"];
  readonly #close: (event: EgressEvent) => Promise<void>;
  readonly #startedMs = performance.now();
  #told: Promise<void> | undefined;

  constructor(way: EgressEvent["way"], close: (event: EgressEvent) => Promise<void>) {
    this.way = way;
    this.#close = close;
  }

  /** Resolves when the event is accepted, so that nobody is refused unrecorded. */
  deny(reason: EgressDenial): Promise<void> {
    return this.#finish({ allowed: false, reason, failure: null });
  }

  end(failure: EgressFailure | null = null): Promise<void> {
    const isWhole = failure === "cut" && this.isOver;
    return this.#finish({ allowed: true, reason: null, failure: isWhole ? null : failure });
  }

  #finish(verdict: Pick<EgressEvent, "allowed" | "reason" | "failure">): Promise<void> {
    this.#told ??= this.#close({
      type: "egress",
      way: this.way,
      ...verdict,
      cause: verdict.failure === "unreachable" ? this.cause : null,
      scheme: this.destination?.scheme ?? null,
      host: this.destination?.host ?? toShown(this.written, MAX_HOST_CHARS),
      port: this.destination?.port ?? null,
      address: this.address,
      serverName: toShown(this.serverName, MAX_HOST_CHARS),
      method: toShown(this.method, 32),
      path: toShown(this.path?.split("?", 1)[0] ?? null, MAX_PATH_CHARS),
      status: this.status,
      bytesSent: this.bytesSent,
      bytesReceived: this.bytesReceived,
      durationMs: Math.round((performance.now() - this.#startedMs) * 10) / 10,
      credential: this.credential,
    });
    return this.#told;
  }
}

/** What the run wrote may be anything: printable, and not long. */
function toShown(text: string | null, maxChars: number): string | null {
  if (text === null) return null;
  const plain = text.replace(/[^\x20-\x7e]/g, "?");
  return plain.length > maxChars ? `${plain.slice(0, maxChars)}…` : plain;
}
