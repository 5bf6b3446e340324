// A run of the service in the slim image: Pi's shell there is bash, and the program that it runs is Python.
import { afterAll, beforeAll, expect, test } from "vitest";
import { readEngineHost } from "../behaviours/open-places.ts";
import { type LiveService, openLiveService, runToEnd } from "../fakes/live-service.ts";
import { openScriptedModel, type ScriptedModel } from "../fakes/scripted-model.ts";
import { toScriptedRequest } from "../fakes/scripted-request.ts";
import { toResults } from "../fakes/tool-results.ts";
import { type Target, toAgentImage } from "./agent-container.ts";

let model: ScriptedModel;
beforeAll(async () => {
  model = await openScriptedModel({});
});
afterAll(() => model[Symbol.asyncDispose]());

const openWith = (target: Target): Promise<LiveService> =>
  openLiveService({
    env: {
      ...{ PILLION_SANDBOX: "docker", PILLION_DOCKER_HOST: readEngineHost(), PILLION_MEMORY: "1g" },
      ...{ PILLION_IMAGE: toAgentImage(target), PILLION_ALLOWED_PROGRAMS: "bash" },
      PILLION_PRIVATE_TARGETS: model.url,
    },
  });

const SCRIPT = "import json, os; print(json.dumps([os.getuid(), sum(range(10))]))";

async function runShell(target: Target, command: string) {
  await using service = await openWith(target);
  model.reset({ script: [{ toolCalls: [{ name: "bash", arguments: { command } }] }, { text: "Done." }] });
  const fields = {
    workspace: { kind: "files", files: [{ path: "sum.py", content: `${SCRIPT}\n` }] },
    execution: { allowedPrograms: ["bash"] },
  };
  const { run, events } = await runToEnd(service, toScriptedRequest(model, { fields }));
  return { run, result: toResults(events).at(-1) };
}

test("S3.9 a run in the slim image has bash, Python, jq and ripgrep", async () => {
  const command = "shopt -s extglob && echo bash; python3 sum.py | jq -c .; rg -c getuid sum.py";
  const { run, result } = await runShell("slim", command);
  expect(result).toMatchObject({ tool: "bash", isError: false, text: "bash\n[1000,45]\n1\n" });
  expect(run).toMatchObject({
    ...{ outcome: "succeeded", stop: { verified: true } },
    receipt: { kind: "docker", isolated: true, network: "none", capabilities: [], readOnlySystem: true },
  });
});

test("S4.3 a run in the default image that is given a shell has sh, and no Python for it", async () => {
  const command =
    "python3 sum.py 2>/dev/null || echo $0; for name in perl awk bash python3; do command -v $name; done; env | grep -c '^PI_.*=[01]$'";
  const { run, result } = await runShell("base", command);
  expect(result).toMatchObject({ tool: "bash", text: "sh\n3\n" });
  expect(run).toMatchObject({ outcome: "succeeded", stop: { verified: true } });
});
