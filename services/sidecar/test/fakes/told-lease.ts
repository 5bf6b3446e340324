/** A lease as a run has one, with everything that it tells kept, and its door on a port as the guard has it inside a sandbox. */
import { once } from "node:events";
import { createServer, type Server } from "node:net";
import { onTestFinished } from "vitest";
import { Dialer, type DialerOptions } from "../../src/broker/dialer.ts";
import type { EgressEvent } from "../../src/broker/egress-audit.ts";
import { toEgressRule } from "../../src/broker/egress-policy.ts";
import { Lease, type LeaseRequest, type LeaseTimes } from "../../src/broker/lease.ts";
import { openSandboxDoor } from "../../src/http/sandbox-door.ts";
import type { Fault } from "../../src/kernel/fault.ts";

export type LeaseWishes = Partial<LeaseRequest> & {
  readonly dialer?: Partial<DialerOptions>;
  readonly times?: LeaseTimes;
};

export type ToldLease = { readonly lease: Lease; readonly events: EgressEvent[]; readonly faults: Fault[] };

/** Ends with the test. `patterns` become its rules. */
export function openLease({ dialer, times, patterns = [], ...wishes }: LeaseWishes = {}): ToldLease {
  const [events, faults]: [EgressEvent[], Fault[]] = [[], []];
  const privateTargets = dialer?.privateTargets ?? [];
  const lease = new Lease(
    {
      runId: "run",
      model: "m",
      api: "openai-completions",
      upstream: { kind: "demo" },
      price: null,
      maxTokens: 4_096,
      egress: patterns.map(toEgressRule),
      patterns,
      credentials: [],
      limits: { requests: 10_000, bytes: 1024 ** 3 },
      onModelCall: () => true,
      onExceeded: (fault) => faults.push(fault),
      tell: async (event) => void events.push(event),
      ...wishes,
    },
    {
      dialer: new Dialer({ privateTargets, ...dialer }),
      ...(times === undefined ? {} : { times }),
      isPlain: (host, port) =>
        privateTargets.some(
          (target) => target.scheme === "http" && target.host === host && target.port === port,
        ),
    },
  );
  onTestFinished(() => lease.settle());
  return { lease, events, faults };
}

/** Port on 127.0.0.1. */
export async function openDoor(lease: Lease): Promise<number> {
  const server = createServer({ allowHalfOpen: true }, openSandboxDoor(lease)).listen(0, "127.0.0.1");
  onTestFinished(() => void server.close());
  await once(server, "listening");
  return toPort(server);
}

export function toPort(server: Server): number {
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}
