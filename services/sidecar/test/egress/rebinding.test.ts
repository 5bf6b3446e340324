// A name that leads elsewhere the second time: what a run asks of it then reaches no sink; a program without the broker does.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { LAB_ADDRESSES as AT, LAB_OWN_ADDRESSES } from "../fakes/lab-words.ts";
import { type LiveService, runToEnd } from "../fakes/live-service.ts";
import { canOpenLab, type NetworkLab, openNetworkLab } from "../fakes/network-lab.ts";
import { openScriptedModel, type ScriptedModel } from "../fakes/scripted-model.ts";

const NAME = "model.example.com";
const FIRST = AT.public[0];

const SECOND: readonly (readonly [what: string, address: string])[] = [
  ["a cloud's metadata", AT.metadata[0]],
  ["a private address", AT.hosts[0]],
  ["a private address of IPv6", AT.hosts6[0]],
  ["loopback", "127.0.0.1"],
  ["the machine's own public address", LAB_OWN_ADDRESSES[1] ?? ""],
];

describe.runIf(canOpenLab)("S3.4 a name that leads elsewhere the second time", () => {
  const held = new AsyncDisposableStack();
  let [lab, model, service]: [NetworkLab?, ScriptedModel?, LiveService?] = [];

  beforeAll(async () => {
    model = held.use(await openScriptedModel({ script: [{ text: "Done." }] }));
    lab = held.use(await openNetworkLab({ apart: true, certificateNames: [NAME] }));
    await lab.setAnswers([{ for: { host: NAME }, forward: model.port }]);
    service = held.use(await lab.startService());
  });
  afterAll(() => held.disposeAsync());

  const ask = () =>
    runToEnd(service!, {
      prompt: "Do it.",
      model: { name: "acme/scripted", baseUrl: `https://${NAME}/v1`, api: "openai-completions" },
      credentials: [{ host: NAME, header: "authorization", value: "Bearer canary-5d1c92e0" }],
    });
  const readHits = async (address: string) =>
    (await lab!.hits()).filter((hit) => hit.address === address && hit.kind !== "dns");

  test.each(SECOND)("to %s: refused, and nothing is sent there", async (_what, second) => {
    const turns = { [NAME]: { turns: [[FIRST], [second]] } };
    await lab!.setZone(turns);
    await lab!.reset();
    expect((await ask()).run).toMatchObject({ outcome: "succeeded", output: "Done." });
    expect(await readHits(FIRST)).toContainEqual(
      expect.objectContaining({ kind: "http", secure: true, serverName: NAME }),
    );
    const { run, events } = await ask();
    expect(run).toMatchObject({ outcome: "failed", egress: { allowed: 0, denied: 1 } });
    expect(events).toContainEqual(
      expect.objectContaining({ type: "egress", host: NAME, reason: "address_not_allowed", address: second }),
    );
    expect(await readHits(second)).toEqual([]);

    await lab!.setZone(turns);
    const script = `const { connect } = require("node:net");
      const once = () => new Promise((end) => { const socket = connect(443, "${NAME}", () => { socket.destroy(); end(); }); });
      once().then(once);`;
    expect(await lab!.run([process.execPath, "-e", script])).toMatchObject({ code: 0, stderr: "" });
    await expect.poll(() => readHits(second)).not.toEqual([]); // the control
  });
});
