/** Which kinds of sandbox this host offers, and which one a run gets. Never a weaker one than was asked for. */
import type { SandboxKind, SandboxRequest } from "#contract/sandbox";
import { Fault } from "../kernel/fault.ts";
import type { PlaceKind, PlaceProbe } from "./sandbox.ts";

const MEND =
  "Mend it by giving Pillion a container engine (PILLION_DOCKER_HOST; where Pillion itself is in a container this is the " +
  "way), by running as root, by allowing unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1 or " +
  "user.max_user_namespaces), by installing util-linux, bash and perl, or, accepting runs without isolation, by " +
  "PILLION_ALLOW_UNISOLATED=true.";

/** How many were found, and the kinds that could not be looked into. */
export type Swept = { readonly count: number; readonly unseen: readonly SandboxKind[] };

type Probed = { readonly place: PlaceKind; probe: PlaceProbe };

export class PlaceList {
  readonly #probed: readonly Probed[];
  readonly #operatorKind: "auto" | SandboxKind;
  /** What `auto` means is settled at the start: an engine that goes away must not make runs weaker. */
  readonly #auto: "auto" | SandboxKind;
  #looking: Promise<void> | undefined;

  private constructor(probed: readonly Probed[], operatorKind: "auto" | SandboxKind) {
    this.#probed = probed;
    this.#operatorKind = operatorKind;
    const strongest = probed.find(({ probe }) => probe.available)?.probe.kind;
    this.#auto = operatorKind === "auto" ? (strongest ?? "auto") : operatorKind;
  }

  /** `places` in order of preference, strongest first. */
  static async probe(places: readonly PlaceKind[], operatorKind: "auto" | SandboxKind): Promise<PlaceList> {
    const probed = await Promise.all(places.map(async (place) => ({ place, probe: await place.probe() })));
    return new PlaceList(probed, operatorKind);
  }

  get probes(): readonly PlaceProbe[] {
    return this.#probed.map(({ probe }) => probe);
  }

  /** What `auto` takes, or null when no run can start here. */
  get inForce(): PlaceProbe | null {
    return this.#find(this.#auto)?.probe ?? null;
  }

  /** Asks again those whose engine may come and go. The kind that `auto` means stays what it was at the start. */
  async look(): Promise<void> {
    // Many who ask at once share one look: an engine that hangs is not asked ever more.
    this.#looking ??= this.#lookAgain().finally(() => {
      this.#looking = undefined;
    });
    await this.#looking;
  }

  /** Throws sandbox_unavailable or image_missing for a kind that is not there, isolation_unavailable when none is. */
  async choose(request: SandboxRequest): Promise<PlaceKind> {
    await this.look();
    const kind = request.kind === "auto" ? this.#auto : request.kind;
    if (this.#operatorKind !== "auto" && kind !== this.#operatorKind) {
      throw new Fault(
        "sandbox_unavailable",
        `The operator's setting allows only ${this.#operatorKind} sandboxes.`,
      );
    }
    const found = this.#find(kind);
    if (found !== undefined) return found.place;
    const wanted = this.#probed.find(({ probe }) => probe.kind === kind)?.probe;
    if (kind === "docker" || wanted?.code !== undefined) {
      const detail = wanted?.detail ?? "This service has no container engine.";
      throw new Fault(wanted?.code ?? "sandbox_unavailable", `${detail} Nothing weaker is taken instead.`);
    }
    throw new Fault(
      "isolation_unavailable",
      `A run cannot be isolated on this machine, so it is refused. ${MEND}`,
    );
  }

  async sweep(): Promise<Swept> {
    const looks = this.#probed.map(async ({ place }) => ({ kind: place.kind, count: await place.sweep() }));
    const found = await Promise.all(looks);
    return {
      count: found.reduce((sum, { count }) => sum + (count ?? 0), 0),
      unseen: found.filter(({ count }) => count === null).map(({ kind }) => kind),
    };
  }

  /** Removes what runs have left that are over; for while the service runs. */
  async reap(): Promise<number> {
    const found = await Promise.all(this.#probed.map(({ place }) => place.reap?.() ?? 0));
    return found.reduce((sum, count) => sum + count, 0);
  }

  async close(): Promise<void> {
    await Promise.all(this.#probed.map(({ place }) => place.close?.()));
  }

  async #lookAgain(): Promise<void> {
    for (const probed of this.#probed) {
      if (probed.place.mayChange) probed.probe = await probed.place.probe();
    }
  }

  #find(kind: "auto" | SandboxKind): { place: PlaceKind; probe: PlaceProbe } | undefined {
    return this.#probed.find(({ probe }) => probe.available && (kind === "auto" || probe.kind === kind));
  }
}
