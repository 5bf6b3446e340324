/** Opens connections to the outside: a name is resolved once, every address is checked, one that was checked is dialled. */
import { lookup } from "node:dns/promises";
import { once } from "node:events";
import { connect, isIP, Socket } from "node:net";
import { networkInterfaces } from "node:os";
import pLimit, { type LimitFunction } from "p-limit";
import type { EgressCause } from "#contract/egress";
import { unlessAborted } from "../kernel/deadline.ts";
import { isSameOrigin, judgeAddresses, type PrivateTarget } from "./address-rule.ts";
import { type Destination, toText } from "./destination.ts";
import { toCauseHint, toNetworkCause } from "./egress-cause.ts";

type DialDetails = {
  readonly address?: string | null;
  readonly why?: EgressCause | null;
  readonly hint?: string | null;
};

/** Why nothing was connected. Message and hint are fit for a sandbox; `address` is for the audit only. */
export class DialError extends Error {
  override readonly name = "DialError";
  readonly code: "address_not_allowed" | "unreachable" | "timed_out";
  readonly address: string | null;
  /** Of `unreachable`, where it is known. */
  readonly why: EgressCause | null;
  readonly hint: string | null;

  constructor(code: DialError["code"], message: string, details: DialDetails = {}) {
    super(message);
    const { address = null, why = null, hint = toCauseHint(why) } = details;
    this.code = code;
    this.address = address;
    this.why = why;
    this.hint = hint;
  }
}

export type DialerOptions = {
  readonly privateTargets: readonly PrivateTarget[];
  /** For name and connection together. */
  readonly connectMs?: number;
  readonly resolve?: (host: string) => Promise<readonly string[]>;
  readonly readOwnAddresses?: () => readonly string[];
};

export type DialOptions = {
  readonly signal: AbortSignal;
  /** The operator configured this very origin as a model's provider: private addresses pass as if it was listed. */
  readonly privateAllowed?: boolean;
  /** The host is that of the run's model. */
  readonly isModel?: boolean;
};

const CONNECT_MS = 10_000;
/** A lookup holds one of the four threads that all work on files shares. */
const MAX_LOOKUPS = 2;
/** Beside those: a run that names hosts whose name servers never answer must not keep others from their models. */
const MAX_MODEL_LOOKUPS = 1;
/** A run may ask for many slow names: they wait for each other. */
const MAX_LOOKUPS_PER_RUN = 1;
/** A name may have hundreds of addresses; no run shall knock at them all with one request. */
const MAX_TRIES = 4;

/** One for the whole process: it bounds how many names are looked up at once. */
export class Dialer {
  readonly #privateTargets: readonly PrivateTarget[];
  readonly #connectMs: number;
  readonly #resolve: (host: string) => Promise<readonly string[]>;
  readonly #readOwnAddresses: () => readonly string[];
  readonly #limit = pLimit(MAX_LOOKUPS);
  readonly #modelLimit = pLimit(MAX_MODEL_LOOKUPS);
  /** By the signal that says that the run is over. */
  readonly #runLimits = new WeakMap<AbortSignal, LimitFunction>();

  constructor(options: DialerOptions) {
    this.#privateTargets = options.privateTargets;
    this.#connectMs = options.connectMs ?? CONNECT_MS;
    this.#resolve = options.resolve ?? resolveName;
    this.#readOwnAddresses = options.readOwnAddresses ?? readOwnAddresses;
  }

  /** The socket is connected and belongs to the caller. Throws DialError, or the signal's reason. */
  async dial(destination: Destination, options: DialOptions): Promise<{ socket: Socket; address: string }> {
    const timeUp = new AbortController();
    const endsAt = performance.now() + this.#connectMs;
    const timer = setTimeout(() => timeUp.abort(toLate(destination)), this.#connectMs);
    const signal = AbortSignal.any([options.signal, timeUp.signal]);
    try {
      const found = await this.#findAddresses(destination.host, signal, options);
      const addresses = this.#check(destination, found, options.privateAllowed ?? false);
      return await connectToOne(destination, addresses, endsAt, signal);
    } finally {
      clearTimeout(timer);
    }
  }

  /** The lookup itself cannot be stopped: it keeps its place until the system answers. */
  async #findAddresses(
    host: string,
    signal: AbortSignal,
    { signal: run, isModel = false }: DialOptions,
  ): Promise<readonly string[]> {
    signal.throwIfAborted();
    if (isIP(host) !== 0) return [host];
    const look = async () => (signal.aborted ? [] : await this.#resolve(host));
    const found = isModel
      ? this.#modelLimit(look)
      : this.#toRunLimit(run)(() => (signal.aborted ? [] : this.#limit(look)));
    const addresses = await unlessAborted(
      found.catch(() => []),
      signal,
    );
    if (addresses.length > 0) return addresses;
    throw new DialError("unreachable", `The name ${host} has no address.`, { why: "dns" });
  }

  #toRunLimit(run: AbortSignal): LimitFunction {
    const limit = this.#runLimits.get(run) ?? pLimit(MAX_LOOKUPS_PER_RUN);
    this.#runLimits.set(run, limit);
    return limit;
  }

  #check(destination: Destination, found: readonly string[], privateAllowed: boolean): readonly string[] {
    const isListed = this.#privateTargets.some((target) => isSameOrigin(target, destination));
    const meant = privateAllowed && !isListed ? [{ ...destination, cidr: null }] : [];
    const verdict = judgeAddresses(destination, found, {
      own: this.#readOwnAddresses(),
      privateTargets: [...this.#privateTargets, ...meant],
    });
    if ("allowed" in verdict) return verdict.allowed;
    throw new DialError(
      "address_not_allowed",
      `${toText(destination)} leads to an address that must not be reached (${verdict.why}).`,
      { address: verdict.refused, hint: verdict.isListable ? toListingHint(destination, isListed) : null },
    );
  }
}

/** In the order given; each but the last gets its part of the time that is left, so that a silent one does not use it up. */
async function connectToOne(
  destination: Destination,
  addresses: readonly string[],
  endsAt: number,
  signal: AbortSignal,
): Promise<{ socket: Socket; address: string }> {
  const tried = addresses.slice(0, MAX_TRIES);
  let why: EgressCause | null = null; // of the last one
  for (const [index, address] of tried.entries()) {
    const left = tried.length - index;
    const shareMs = left === 1 ? null : (endsAt - performance.now()) / left;
    const made = await connectTo(address, destination.port, shareMs, signal);
    if (made instanceof Socket) return { socket: made, address };
    why = toNetworkCause(made);
  }
  const message = `${toText(destination)} cannot be reached.`;
  throw new DialError("unreachable", message, { address: tried.at(-1) ?? null, why });
}

/** The error where it did not come about. */
async function connectTo(
  address: string,
  port: number,
  ms: number | null,
  signal: AbortSignal,
): Promise<Socket | Error> {
  signal.throwIfAborted();
  const share = new AbortController();
  const timer = ms === null ? undefined : setTimeout(() => share.abort(), ms);
  const socket = connect({ host: address, port });
  socket.on("error", () => undefined); // one that comes before the caller listens must not end the service
  try {
    await once(socket, "connect", { signal: AbortSignal.any([signal, share.signal]) });
    return socket;
  } catch (error) {
    socket.destroy();
    signal.throwIfAborted();
    return error instanceof Error ? error : new Error(String(error));
  } finally {
    clearTimeout(timer);
  }
}

/** With the hosts file, as the system has it, and in the system's order. */
async function resolveName(host: string): Promise<readonly string[]> {
  const found = await lookup(host, { all: true, order: "verbatim" });
  return found.map(({ address }) => address);
}

function readOwnAddresses(): readonly string[] {
  return Object.values(networkInterfaces()).flatMap((all) => (all ?? []).map(({ address }) => address));
}

function toListingHint(destination: Destination, isListed: boolean): string {
  if (isListed) return "The operator lists this origin with other addresses (PILLION_PRIVATE_TARGETS).";
  const origin = `${destination.scheme === "https" ? "https://" : ""}${toText(destination)}`;
  return `Addresses that are not public are reached only where the operator lists the origin: PILLION_PRIVATE_TARGETS=${origin}`;
}

function toLate(destination: Destination): DialError {
  return new DialError("timed_out", `${toText(destination)} did not answer in time.`);
}
