/** A signal opens the debugger of a Node program, and with it everything that the program can do; guard and harness have none. */
import { describe, expect, test } from "vitest";
import { toDockerEnv } from "../fakes/docker-env.ts";
import { openLiveService, runToEnd } from "../fakes/live-service.ts";
import { openScriptedModel } from "../fakes/scripted-model.ts";
import { toScriptedRequest } from "../fakes/scripted-request.ts";
import { toResults } from "../fakes/tool-results.ts";
import type { Tally } from "./tally.ts";

/** What a shell of a run does: signals the guard, then the harness, and last a Node of its own, whose debugger it finds (port 9229, listening). */
const COMMAND = `
  look() { for i in $(seq 20); do
    if grep -q ":240D 00000000:0000 0A" /proc/net/tcp; then echo "$1 open"; return; fi; sleep 0.05
  done; echo "$1 closed"; }
  guard=$(sed -n "s/^PPid:[^0-9]*//p" /proc/$PPID/status)
  tr "\\0" " " </proc/$guard/cmdline | grep -o "guard/main.mjs"
  kill -USR1 $guard; look guard
  kill -USR1 $PPID; look harness
  node -e "process.kill(process.pid, 'SIGUSR1'); setInterval(() => {}, 1000)" 2>/dev/null & look own`;

export function probeDebuggers(tally: Tally): void {
  describe("S2.3 the debugger", () => {
    test("of guard and harness cannot be opened by a signal of the run's own shell", async () => {
      tally.begin("debugger");
      const script = [{ toolCalls: [{ name: "bash", arguments: { command: COMMAND } }] }, { text: "Done." }];
      await using model = await openScriptedModel({ script });
      await using service = await openLiveService({
        env: toDockerEnv(model),
      });
      const fields = { execution: { allowedPrograms: ["bash"] } };
      const { run, events } = await runToEnd(service, toScriptedRequest(model, { fields }));
      expect(toResults(events)).toMatchObject([
        { isError: false, text: "guard/main.mjs\nguard closed\nharness closed\nown open\n" },
      ]);
      expect(run).toMatchObject({ outcome: "succeeded" });
      tally.hold("debugger");
    }, 60_000);
  });
}
