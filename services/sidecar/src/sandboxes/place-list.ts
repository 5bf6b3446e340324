/** Which kinds of sandbox this host offers, and which one a run gets. Never a weaker one than was asked for. */
import type { SandboxKind, SandboxRequest } from "#contract/sandbox";
import { Fault } from "../kernel/fault.ts";
import type { PlaceKind, PlaceProbe } from "./sandbox.ts";

const MEND =
  "Mend it by running as root, by allowing unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1 or " +
  "user.max_user_namespaces), by installing util-linux, bash and perl, or, accepting runs without isolation, by " +
  "PILLION_ALLOW_UNISOLATED=true.";

export class PlaceList {
  readonly #probed: readonly { readonly place: PlaceKind; readonly probe: PlaceProbe }[];
  readonly #operatorKind: "auto" | SandboxKind;

  private constructor(
    probed: readonly { readonly place: PlaceKind; readonly probe: PlaceProbe }[],
    operatorKind: "auto" | SandboxKind,
  ) {
    this.#probed = probed;
    this.#operatorKind = operatorKind;
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
    return this.#find(this.#operatorKind)?.probe ?? null;
  }

  /** Throws sandbox_unavailable for a kind that is not there, isolation_unavailable when there is none at all. */
  choose(request: SandboxRequest): PlaceKind {
    const kind = request.kind === "auto" ? this.#operatorKind : request.kind;
    if (this.#operatorKind !== "auto" && kind !== this.#operatorKind) {
      throw new Fault(
        "sandbox_unavailable",
        `The operator's setting allows only ${this.#operatorKind} sandboxes.`,
      );
    }
    const found = this.#find(kind);
    if (found !== undefined) return found.place;
    if (kind === "docker") {
      throw new Fault(
        "sandbox_unavailable",
        "Docker sandboxes are not implemented yet; nothing weaker is taken instead.",
      );
    }
    throw new Fault(
      "isolation_unavailable",
      `A run cannot be isolated on this machine, so it is refused. ${MEND}`,
    );
  }

  async sweep(): Promise<number> {
    const found = await Promise.all(this.#probed.map(({ place }) => place.sweep()));
    return found.reduce((sum, count) => sum + count, 0);
  }

  #find(kind: "auto" | SandboxKind): { place: PlaceKind; probe: PlaceProbe } | undefined {
    return this.#probed.find(({ probe }) => probe.available && (kind === "auto" || probe.kind === kind));
  }
}
