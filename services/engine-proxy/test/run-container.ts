// A run's container as the service asks for it, for tests that weaken it.
import { randomUUID } from "node:crypto";
import { toContainerOptions } from "../../sidecar/src/sandboxes/docker/container-spec.ts";
import { readProfiles } from "./raw-engine.ts";

/** The options of the service with the seccomp profile that it ships, as plain JSON. */
export function toRunContainer(image: string, more: Partial<Parameters<typeof toContainerOptions>[0]> = {}) {
  const options = toContainerOptions({
    spec: {
      runId: `run_${randomUUID()}`,
      requestedKind: "docker",
      workspace: { kind: "scratch", bytes: 1024 * 1024 },
      readOnly: false,
      pids: 64,
      executable: false,
      references: [],
      network: "none",
    },
    limits: { cpus: 1, memoryBytes: 128 * 1024 * 1024, pids: 64 },
    instance: `test${randomUUID().slice(0, 8)}`,
    version: "0.0.0",
    expiresS: Math.floor(Date.now() / 1000) + 600,
    seccomp: readProfiles().usual,
    runtime: "runc",
    image,
    imageEnv: [],
    volumes: [],
    network: "none",
    user: { uid: 1000, gid: 1000 },
    ...more,
  });
  const { name, ...body } = structuredClone(options);
  return {
    name: name ?? "",
    body: body as Record<string, unknown> & { HostConfig: Record<string, unknown> },
  };
}
