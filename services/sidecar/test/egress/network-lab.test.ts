// The laboratory itself: what comes to any of its addresses is seen, its names may change, and nothing leaves it.
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { readlinkSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { AGENT_IMAGE, readEngineHost } from "../behaviours/open-places.ts";
import { ALL_LAB_ADDRESSES, LAB_OWN_ADDRESSES, LAB_PORTS } from "../fakes/lab-words.ts";
import { getJson, runToEnd } from "../fakes/live-service.ts";
import { canOpenLab, type NetworkLab, openNetworkLab } from "../fakes/network-lab.ts";
import { openScriptedModel } from "../fakes/scripted-model.ts";
import { toScriptedRequest } from "../fakes/scripted-request.ts";

const ZONE = {
  "api.example.com": ["8.8.8.8", "2001:4860:4860::8888"],
  "turns.example.com": { turns: [["8.8.8.8"], ["169.254.169.254"]] },
};

describe.runIf(canOpenLab)("the network laboratory", () => {
  let lab: NetworkLab;
  beforeAll(async () => {
    lab = await openNetworkLab({
      zone: ZONE,
      badCertificates: {
        "expired.example.com": "expired",
        "untrusted.example.com": "untrusted",
        "other.example.com": "wrong-name",
      },
    });
  });
  afterAll(() => lab?.[Symbol.asyncDispose]());
  beforeEach(() => lab.reset());

  const runNode = async (script: string, ...args: string[]): Promise<string> => {
    const { stdout, stderr } = await lab.run([process.execPath, "-e", script, ...args], {
      env: { NODE_EXTRA_CA_CERTS: lab.caFile },
    });
    return stdout + stderr;
  };

  test("is a network of its own whose only routes lead to itself", async () => {
    expect(lab.namespace).not.toBe(readlinkSync("/proc/self/ns/net"));
    expect((await lab.run(["readlink", "/proc/self/ns/net"])).stdout.trim()).toBe(lab.namespace);
    const script = `const s = require("node:dgram").createSocket("udp4");
      s.connect(9, "198.51.100.77", (error) => { console.log(error?.code ?? "a route"); s.close(); });`;
    expect((await runNode(script)).trim()).toBe("ENETUNREACH");
    expect((await runNode(script.replace("198.51.100.77", "198.51.100.1"))).trim()).toBe("a route"); // the control
  });

  test("sees a connection to each of its addresses", async () => {
    const script = `const { connect } = require("node:net");
      for (const host of process.argv.slice(1)) connect(2375, host.startsWith("fe80:") ? host + "%lab0" : host).end("hello");`;
    expect(await runNode(script, ...ALL_LAB_ADDRESSES)).toBe("");
    const toHits = async () => (await lab.hits()).filter((hit) => hit.kind === "tcp" && hit.text === "hello");
    await expect
      .poll(async () => (await toHits()).map(({ address }) => address.split("%")[0]).sort())
      .toEqual([...ALL_LAB_ADDRESSES].sort());
  });

  test("answers HTTP and HTTPS as scripted, and remembers what was asked", async () => {
    await lab.setAnswers([
      { for: { host: "api.example.com", path: "/echo" }, echo: true, gzip: true },
      { for: { path: "/moved" }, status: 302, headers: { location: "http://10.0.0.5/{{x-mark}}" } },
    ]);
    const script = `(async () => {
      const echo = await fetch("https://api.example.com/echo?x=1", { method: "POST", body: "words", headers: { "x-mark": "a" } });
      const moved = await fetch("http://api.example.com/moved", { redirect: "manual", headers: { "x-mark": "b" } });
      console.log(JSON.stringify([echo.headers.get("content-encoding"), (await echo.json()).body, moved.status, moved.headers.get("location")]));
    })();`;
    expect(JSON.parse(await runNode(script))).toEqual(["gzip", "words", 302, "http://10.0.0.5/b"]);
    const asked = (await lab.hits()).flatMap((hit) => (hit.kind === "http" ? [hit] : []));
    expect(
      asked.map(({ secure, method, target, serverName, body }) => [secure, method, target, serverName, body]),
    ).toEqual([
      [true, "POST", "/echo?x=1", "api.example.com", "words"],
      [false, "GET", "/moved", undefined, ""],
    ]);
  });

  test("shows certificates that no client takes, by the name that is asked for", async () => {
    const names = ["api", "expired", "untrusted", "other"].map((name) => `${name}.example.com`);
    await lab.setZone(Object.fromEntries(names.map((name) => [name, ["8.8.8.8"]])));
    const script = `(async () => { const found = [];
      for (const name of process.argv.slice(1)) found.push(await fetch("https://" + name).then((r) => r.status, (e) => e.cause.code));
      console.log(JSON.stringify(found)); })();`;
    expect(JSON.parse(await runNode(script, ...names))).toEqual([
      ...[200, "CERT_HAS_EXPIRED", "UNABLE_TO_VERIFY_LEAF_SIGNATURE", "ERR_TLS_CERT_ALTNAME_INVALID"],
    ]);
  });

  test("answers with bytes that are no response, or not at all", async () => {
    await lab.setAnswers([
      { for: { path: "/raw" }, raw: "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd" },
      { for: { path: "/silent" }, silent: true },
    ]);
    const script = `(async () => {
      const raw = await fetch("http://10.0.0.5/raw").then((r) => r.text(), (e) => e.cause.code);
      const late = await fetch("http://10.0.0.5/silent", { signal: AbortSignal.timeout(200) }).catch((e) => e.name);
      console.log(JSON.stringify([raw, late])); })();`;
    expect(JSON.parse(await runNode(script))).toEqual([expect.stringMatching(/^(UND|HPE)_/), "TimeoutError"]);
    const asked = (await lab.hits()).flatMap((hit) => (hit.kind === "http" ? [hit.target] : []));
    expect(asked).toEqual(["/raw", "/silent"]);
  });

  test("has names whose addresses change from question to question", async () => {
    const script = `const { promises } = require("node:dns");
      (async () => { const found = [];
        for (const round of [1, 2, 3]) found.push((await promises.lookup("turns.example.com", 4)).address);
        found.push(await promises.lookup("unknown.example.com").catch((e) => e.code));
        console.log(JSON.stringify(found)); })();`;
    await lab.setZone(ZONE);
    expect(JSON.parse(await runNode(script))).toEqual([
      ...["8.8.8.8", "169.254.169.254", "169.254.169.254", "ENOTFOUND"],
    ]);
    const asked = (await lab.hits()).flatMap((hit) => (hit.kind === "dns" ? [hit.name] : []));
    expect(asked.filter((name) => name === "turns.example.com")).toHaveLength(3);
    await lab.setZone({
      "turns.example.com": { cname: "other.example.com" },
      "other.example.com": ["1.1.1.1"],
    });
    expect(JSON.parse(await runNode(script)).slice(0, 1)).toEqual(["1.1.1.1"]);
  });

  test("counts packets to ports that nobody listens on", async () => {
    const script = `const s = require("node:dgram").createSocket("udp4"); s.send("x", 40000, "10.0.0.5", () => s.close());`;
    expect(await lab.packets()).toMatchObject({ udpDatagrams: 0 });
    expect(await runNode(script)).toBe("");
    expect(await lab.packets()).toMatchObject({ udpDatagrams: 1 });
    expect(await lab.hits()).toEqual([]);
  });

  test("may have its addresses apart, where none of them is a program's own", async () => {
    await using apart = await openNetworkLab({ apart: true });
    const script = `const { connect } = require("node:net");
      const { networkInterfaces } = require("node:os");
      for (const host of process.argv.slice(1)) connect(2375, host.startsWith("fe80:") ? host + "%lab0" : host).end("hello");
      console.log(JSON.stringify(Object.values(networkInterfaces()).flat().map(({ address }) => address)));`;
    const all = [...ALL_LAB_ADDRESSES, ...LAB_OWN_ADDRESSES, "127.0.0.1", "::1"];
    const { stdout } = await apart.run([process.execPath, "-e", script, ...all]);
    const own: string[] = JSON.parse(stdout);
    expect(own.filter((address) => ALL_LAB_ADDRESSES.includes(address))).toEqual([]);
    expect(LAB_OWN_ADDRESSES.filter((address) => !own.includes(address))).toEqual([]);
    const toHits = async () =>
      (await apart.hits()).filter((hit) => hit.kind === "tcp" && hit.text === "hello");
    await expect
      .poll(async () => (await toHits()).map(({ address }) => address.split("%")[0]).sort())
      .toEqual([...all].sort());
    const beyond = ["ip", "route", "get", "198.51.100.77"];
    expect((await apart.run(beyond)).stderr).toContain("Network is unreachable");
    expect((await apart.run([...beyond.slice(0, -1), "198.51.100.1"])).code).toBe(0); // the control
  });

  test("ends with what was started in it", async () => {
    const other = await openNetworkLab({ addresses: ["1.1.1.1"] });
    const child = other.start(["sleep", "600"]);
    const ended = once(child, "exit");
    expect(await other.hits()).toEqual([]);
    await other[Symbol.asyncDispose]();
    expect(await ended).toEqual([null, "SIGKILL"]);
    await expect(other.hits()).rejects.toThrow("the laboratory has ended");
    expect(() => other.prefix).toThrow("the laboratory has ended");
  });

  test("is not made in the network of whoever asks for it", () => {
    const keeper = join(import.meta.dirname, "../fakes/lab-keeper.ts");
    const outside = readlinkSync("/proc/self/ns/net");
    const setting = {
      directory: "/nowhere",
      outside,
      addresses: [],
      ports: LAB_PORTS,
      badCertificates: {},
      part: { name: "all" },
    };
    const { status, stderr } = spawnSync(process.execPath, [keeper, JSON.stringify(setting)]);
    expect([status, String(stderr)]).toEqual([1, expect.stringContaining("has no network of its own")]);
  });

  test("runs a service with docker sandboxes of the machine's engine", async () => {
    await using model = await openScriptedModel({ script: [{ text: "Done." }] });
    await lab.lend(model.port);
    await using service = await lab.startService({
      ...{ PILLION_SANDBOX: "docker", PILLION_DOCKER_HOST: readEngineHost(), PILLION_IMAGE: AGENT_IMAGE },
      ...{ PILLION_MEMORY: "1g", PILLION_PRIVATE_TARGETS: model.url },
    });
    const { run } = await runToEnd(service, toScriptedRequest(model));
    expect(run).toMatchObject({ outcome: "succeeded", output: "Done.", receipt: { kind: "docker" } });
  });

  test("runs the service inside, which the test reaches by its url and which reaches the test's model", async () => {
    await using model = await openScriptedModel({ script: [{ text: "Done." }] });
    await lab.lend(model.port);
    await using service = await lab.startService({ PILLION_PRIVATE_TARGETS: model.url });
    expect(readlinkSync(`/proc/${service.pid}/ns/net`)).toBe(lab.namespace);
    expect(await getJson(service, "/health")).toMatchObject({ status: "ok" });
    const { run } = await runToEnd(service, toScriptedRequest(model));
    expect(run).toMatchObject({ outcome: "succeeded", output: "Done." });
  });
});
