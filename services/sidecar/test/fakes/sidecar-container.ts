// The service's image as it is used: a container with a published port of its own, gone when the test is over.
import { randomUUID } from "node:crypto";
import { vi } from "vitest";
import { docker } from "../behaviours/open-places.ts";

const PREFIX = process.env.PILLION_IMAGE_PREFIX ?? "pillion";

/** What scripts/images.sh has built. */
export const SIDECAR_IMAGE = `${PREFIX}-sidecar:latest`;

/** As the documents tell an operator to lock it. */
export const LOCKED = [
  ...["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"],
  ...["--tmpfs", "/tmp:size=256m,mode=1777"],
];

export type SidecarContainer = AsyncDisposable & { readonly url: string; readonly name: string };

export type ContainerWishes = {
  /** Flags of `docker run`. */
  readonly flags?: readonly string[];
  readonly image?: string;
  /** What stands after the image. */
  readonly args?: readonly string[];
};

/** Resolves when `/health` answers; throws with the log where it does not. */
export async function openSidecarContainer(wishes: ContainerWishes = {}): Promise<SidecarContainer> {
  const { flags = [], image = SIDECAR_IMAGE, args = [] } = wishes;
  const name = `pillion-test-${randomUUID().slice(0, 8)}`;
  docker(["run", "--detach", "--name", name, "--publish", "127.0.0.1:0:8765", ...flags, image, ...args]);
  const close = async (): Promise<void> => void docker(["rm", "--force", "--volumes", name]);
  try {
    const url = `http://${docker(["port", name, "8765"]).split("\n")[0]}`;
    await waitForHealth(url);
    return { url, name, [Symbol.asyncDispose]: close };
  } catch (error) {
    const log = docker(["logs", "--tail", "20", name]);
    await close();
    throw new Error(`the container did not come up:\n${log}`, { cause: error });
  }
}

export async function waitForHealth(url: string): Promise<void> {
  await vi.waitFor(
    async () => {
      const { status } = await fetch(`${url}/health`, { signal: AbortSignal.timeout(2_000) });
      if (status !== 200) throw new Error(`health says ${status}`);
    },
    { timeout: 30_000, interval: 100 },
  );
}

/** A POST with JSON; with a bearer token where one is given. */
export function send(url: string, path: string, body: object, token?: string): Promise<Response> {
  return fetch(url + path, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    },
    body: JSON.stringify(body),
  });
}
