// Runs of the service in each target of the agent image: which shell, which interpreters, and the browser.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { toDockerEnv } from "../fakes/docker-env.ts";
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

const openWith = (target: Target, more: Record<string, string> = {}): Promise<LiveService> =>
  openLiveService({ env: toDockerEnv(model, { PILLION_IMAGE: toAgentImage(target), ...more }) });

const SCRIPT = "import json, os; print(json.dumps([os.getuid(), sum(range(10))]))";

async function runShell(target: Target, command: string, more?: Record<string, string>) {
  await using service = await openWith(target, more);
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

describe("S3.9 a run in the browser image", () => {
  const page = `data:text/html,<script>document.title=6*7</script>`;
  const command = `chromium-headless-shell --disable-gpu --dump-dom '${page}' 2>&1 | tail -n 20`;

  test("shows a page with Chromium's own sandbox on, where the operator named the image", async () => {
    const { run, result } = await runShell("browser", command, {
      PILLION_BROWSER_IMAGES: toAgentImage("browser"),
    });
    expect(result).toMatchObject({ isError: false, text: expect.stringContaining("<title>42</title>") });
    expect(run.receipt).toMatchObject({
      ...{ isolated: true, capabilities: [], noNewPrivileges: true },
      missing: expect.arrayContaining([expect.stringContaining("this image's browser makes them")]),
    });
  });

  test("has the usual profile otherwise, under which Chromium refuses to start", async () => {
    const { run, result } = await runShell("browser", command);
    expect(result).toMatchObject({ text: expect.stringContaining("No usable sandbox") });
    expect(run.receipt?.missing).not.toContainEqual(expect.stringContaining("browser"));
  });
});
