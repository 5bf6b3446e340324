/** A run's container as the place it is: its pipe, its end, and what goes with it. */
import type { Duplex } from "node:stream";
import type { FillTarget, GuardView } from "#contract/guard";
import type { Receipt } from "#contract/sandbox";
import { within } from "../../kernel/deadline.ts";
import { Fault } from "../../kernel/fault.ts";
import type { Place, PlaceEnd, SandboxPaths } from "../sandbox.ts";
import { toPipe } from "./demultiplex.ts";

const END_MS = 15_000;
const STDERR_CHARS = 4_096;

export type DockerPlaceParts = {
  /** The container's attached streams. */
  readonly connection: Duplex;
  readonly paths: SandboxPaths;
  readonly filled: readonly FillTarget[];
  /** What has to go when the place ends: the container, its volumes. */
  readonly left: AsyncDisposableStack;
  toReceipt(view: GuardView): Receipt;
};

export class DockerPlace implements Place {
  readonly paths: SandboxPaths;
  readonly filled: readonly FillTarget[];
  readonly startHint =
    "The run's container ended before its guard answered: is PILLION_IMAGE an image that docker/agent.Dockerfile made?";
  readonly pipe: Duplex;
  readonly ended: Promise<PlaceEnd>;
  readonly toReceipt: DockerPlaceParts["toReceipt"];
  readonly #left: AsyncDisposableStack;

  constructor({ connection, paths, filled, left, toReceipt }: DockerPlaceParts) {
    this.paths = paths;
    this.filled = filled;
    this.toReceipt = toReceipt;
    this.#left = left;
    let errors = "";
    this.pipe = toPipe(connection, (bytes) => {
      errors = (errors + bytes.toString("utf8")).slice(-STDERR_CHARS);
    });
    this.ended = new Promise((resolve) => {
      this.pipe.once("close", () => {
        resolve({ detail: `the container's pipe closed ${errors.trim().split("\n").at(-1) ?? ""}`.trim() });
      });
    });
  }

  /** Everything is set when the container starts; nothing is left to take away. */
  async seal(): Promise<void> {}

  async [Symbol.asyncDispose](): Promise<void> {
    this.pipe.destroy();
    await endAll(this.#left);
  }
}

/** Bounded; what takes longer goes on, and a sweep finds what stays. */
export async function endAll(left: AsyncDisposableStack): Promise<void> {
  const late = () => new Fault("sandbox_lost", "The run's container was not removed in time.");
  await within(END_MS, left.disposeAsync(), late);
}
