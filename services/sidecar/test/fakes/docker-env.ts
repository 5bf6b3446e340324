// The settings of a service whose runs live in containers of the engine that `npm test` has set up.
import { AGENT_IMAGE, readEngineHost } from "../behaviours/open-places.ts";
import type { ScriptedModel } from "./scripted-model.ts";

export function toDockerEnv(model: ScriptedModel, more: Record<string, string> = {}): Record<string, string> {
  return {
    PILLION_SANDBOX: "docker",
    PILLION_DOCKER_HOST: readEngineHost(),
    PILLION_IMAGE: AGENT_IMAGE,
    PILLION_PRIVATE_TARGETS: model.url,
    PILLION_ALLOWED_PROGRAMS: "bash",
    PILLION_MEMORY: "1g",
    ...more,
  };
}
