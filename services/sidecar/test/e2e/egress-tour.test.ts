/** A tour of the ways out of a container without a network, by the programs that people use; each works where it may and is told why where it may not. */
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { RunEvent } from "#contract/event";
import type { Run } from "#contract/run";
import { AGENT_IMAGE } from "../behaviours/open-places.ts";
import { toDockerEnv } from "../fakes/docker-env.ts";
import { writeCertificates } from "../fakes/lab-certificates.ts";
import { type LiveService, runToEnd } from "../fakes/live-service.ts";
import { openNamedService } from "../fakes/named-service.ts";
import { type OutsideServer, openOutsideServer } from "../fakes/outside-server.ts";
import { openScriptedModel, type ScriptedModel } from "../fakes/scripted-model.ts";
import { DIALECTS, toScriptedRequest } from "../fakes/scripted-request.ts";
import { toResults } from "../fakes/tool-results.ts";

const REAL = "Bearer ghp_9d1f63c2a7b84e05";
const PAGE = "the page behind TLS\n";

let directory: string;
let model: ScriptedModel;
let outside: OutsideServer;
let secure: Server;
let service: LiveService;
/** Two that the run may reach, of which one has a credential, and one that it may not. */
let [open, bound, closed, tls]: string[] = [];

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "pillion-tour-"));
  model = await openScriptedModel({});
  outside = await openOutsideServer();
  [open, bound, closed] = ["open", "bound", "closed"].map((name) => `http://${name}.test:${outside.port}`);
  writeCertificates(directory, ["tls.test"]);
  const read = (name: string) => readFileSync(join(directory, name));
  secure = createServer({ key: read("leaf.key"), cert: read("leaf.pem") }, (_request, response) => {
    response.end(PAGE);
  }).listen(0, "127.0.0.1");
  await once(secure, "listening");
  const address = secure.address();
  tls = `tls.test:${typeof address === "object" ? address?.port : ""}`;
  serveRepository(outside, directory);
  const reachable = [open, bound, `https://${tls}`].join(",");
  const env = toDockerEnv(model, {
    PILLION_IMAGE: AGENT_IMAGE.replace(/:base$/, ":slim"),
    PILLION_PRIVATE_TARGETS: `${model.url},${reachable}`,
    PILLION_EGRESS: reachable,
    NODE_EXTRA_CA_CERTS: join(directory, "ca.pem"),
  });
  service = await openNamedService(["open.test", "bound.test", "closed.test", "tls.test"], env);
});
afterAll(async () => {
  await service[Symbol.asyncDispose]();
  secure.close();
  await outside[Symbol.asyncDispose]();
  await model[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true, force: true });
});
beforeEach(() => {
  outside.requests.length = 0;
});

/** A repository with one commit, as plain files; nobody without the real credential is given any. */
function serveRepository(server: OutsideServer, root: string): void {
  const git = (...args: string[]): void =>
    void execFileSync(
      "git",
      ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main", ...args],
      {
        cwd: root,
        stdio: "pipe",
      },
    );
  git("init", "-q", "work");
  writeFileSync(join(root, "work/read.me"), "cloned\n");
  git("-C", "work", "add", ".");
  git("-C", "work", "commit", "-qm", "first");
  git("clone", "-q", "--bare", "work", "repo.git");
  git("-C", "repo.git", "update-server-info");
  server.serve("/repo.git/", (request, response) => {
    const file = join(root, (request.url ?? "").split("?", 1)[0] ?? "");
    const isThere = statSync(file, { throwIfNoEntry: false })?.isFile() === true;
    if (request.headers.authorization !== REAL) response.writeHead(401).end();
    else if (isThere) response.end(readFileSync(file));
    else response.writeHead(404).end();
  });
}

type Toured = {
  readonly run: Run;
  readonly text: string;
  readonly egress: Extract<RunEvent, { type: "egress" }>[];
};

async function tour(command: string): Promise<Toured> {
  model.reset({ script: [{ toolCalls: [{ name: "bash", arguments: { command } }] }, { text: "Done." }] });
  const host = new URL(bound ?? "").host;
  const request = toScriptedRequest(model, {
    fields: { execution: { allowedPrograms: ["bash"] }, egress: [open, bound, tls] },
  });
  const own = "credentials" in request && Array.isArray(request.credentials) ? request.credentials : [];
  const credential = { host, header: "authorization", value: REAL, env: "GITHUB_TOKEN", name: "git" };
  const { run, events } = await runToEnd(service, { ...request, credentials: [...own, credential] });
  const [result] = toResults(events);
  const text = result !== undefined && "text" in result ? String(result.text) : "";
  const egress = events.filter((event) => event.type === "egress").filter(({ way }) => way !== "model");
  return { run, text, egress };
}

const toBare = ({
  way,
  allowed,
  reason,
  host,
  method,
  path,
  status,
  credential,
}: Toured["egress"][number]) => ({
  ...{ way, allowed, reason, host, method, path, status, credential },
});

describe.runIf(process.getuid?.() === 0)("S3.4 from a container without a network", () => {
  const clients: [name: string, toCommand: (origin: string) => string][] = [
    ["curl", (origin) => `curl -sS ${origin}/page`],
    [
      "Node's http",
      (origin) => `node -e 'require("http").get("${origin}/page", (a) => a.pipe(process.stdout))'`,
    ],
    [
      "Python's urllib",
      (origin) =>
        `python3 -c 'import urllib.request as u, urllib.error as e
try: print(u.urlopen("${origin}/page").read().decode(), end="")
except e.HTTPError as x: print(x.read().decode(), end="")'`,
    ],
  ];

  test.each(clients)(
    "%s reaches what the run may, and reads why where it may not",
    async (_name, toCommand) => {
      const allowed = await tour(toCommand(open ?? ""));
      expect(allowed.text).toBe("/page\n");
      expect(allowed.egress.map(toBare)).toMatchObject([
        {
          way: "proxy",
          allowed: true,
          host: "open.test",
          method: "GET",
          path: "/page",
          status: 200,
          credential: null,
        },
      ]);
      expect(allowed.run).toMatchObject({
        outcome: "succeeded",
        receipt: { network: "none", egressEnforced: true },
      });
      const refused = await tour(toCommand(closed ?? ""));
      expect(JSON.parse(refused.text)).toMatchObject({
        error: {
          type: "pillion_refused",
          code: "host_not_allowed",
          host: "closed.test",
          allowed: [open, bound, tls],
          hint: expect.stringContaining("egress"),
        },
      });
      expect(refused.egress.map(toBare)).toMatchObject([
        { way: "proxy", allowed: false, reason: "host_not_allowed", host: "closed.test", status: null },
      ]);
      expect(outside.requests.map(({ headers }) => headers.host)).toEqual([new URL(open ?? "").host]);
    },
  );

  test("a request past the door reaches nothing (control of the network)", async () => {
    const { text, egress } = await tour(`curl -sS --noproxy '*' ${open}/page; ls /sys/class/net`);
    expect(text).toMatch(/Could not resolve host.*\nlo\n/);
    expect([egress, outside.requests]).toEqual([[], []]);
  });

  test("git clones with a credential that only the outside sees", async () => {
    const { run, text, egress } = await tour(
      `git clone -q ${bound}/repo.git cloned 2>&1; cat cloned/read.me; echo "$GITHUB_TOKEN"; git clone -q ${closed}/repo.git no 2>&1`,
    );
    expect(text).toMatch(/^cloned\npillion_[0-9a-f]{48}\n/);
    expect(text).toContain("403");
    expect(outside.requests.length).toBeGreaterThan(2);
    expect(new Set(outside.requests.map(({ headers }) => headers.authorization))).toEqual(new Set([REAL]));
    const clones = egress.filter(({ host }) => host === "bound.test");
    expect(clones.length).toBeGreaterThan(2);
    expect(
      new Set(clones.filter(({ allowed }) => allowed).map(({ way, credential }) => `${way} ${credential}`)),
    ).toEqual(new Set(["base-url git"]));
    expect(run.egress.hosts.map(({ host }) => host)).toEqual(["127.0.0.1", "bound.test", "closed.test"]);
  });

  test("a credential is put in for a program that shows the placeholder, and does not come back", async () => {
    // Each character is told as its neighbour: the run's events have no secret in them whatever was seen inside.
    const shift = "explode | map(. + 1) | implode";
    const { text } = await tour(
      `curl -sS -H "Authorization: Bearer $GITHUB_TOKEN" ${bound}/echo | jq -r '.authorization | ${shift}'`,
    );
    const seen = [...text.trim()].map((letter) => String.fromCharCode(letter.charCodeAt(0) - 1)).join("");
    expect(outside.requests.map(({ headers }) => headers.authorization)).toEqual([REAL]);
    expect(seen).toBe("[redacted]");
  });

  test("TLS goes through a tunnel, or from the door on with the certificate checked", async () => {
    const { text, egress } = await tour(
      `curl -sS -k https://${tls}/; curl -sS -H "authorization: Bearer $PILLION_PLACEHOLDER" $PILLION_DOOR/to/https/${tls}/; curl -sS -k https://closed.test/ 2>&1`,
    );
    expect(text).toContain(`${PAGE}${PAGE}curl: (56) CONNECT tunnel failed, response 403\n`);
    expect(egress).toMatchObject([
      { way: "connect", allowed: true, host: "tls.test", serverName: "tls.test", path: null, status: null },
      { way: "base-url", allowed: true, host: "tls.test", method: "GET", path: "/", status: 200 },
      { way: "connect", allowed: false, reason: "host_not_allowed", host: "closed.test", port: 443 },
    ]);
  });

  test("Node's fetch, which asks for tunnels always, goes through one for TLS, and is told the way for plain HTTP", async () => {
    const { text, egress } = await tour(
      `NODE_NO_WARNINGS=1 NODE_TLS_REJECT_UNAUTHORIZED=0 node -e 'fetch("https://${tls}/").then((a) => a.text()).then((t) => process.stdout.write(t))'
       curl -sS -p ${open}/page -o no -w '%{http_connect}' 2>&1
       node -e 'fetch("${open}/page").catch((e) => console.log(e.cause.cause.message))'`,
    );
    expect(text).toContain(PAGE);
    expect(text).toContain("Proxy response (403) !== 200 when HTTP Tunneling");
    const told = egress.map(({ way, allowed, host }) => `${way} ${allowed} ${host}`);
    expect(told.toSorted()).toEqual([
      ...["connect false open.test", "connect false open.test"],
      "connect true tls.test", // told when it is over, which may be after the next ones were refused
    ]);
    expect(outside.requests).toEqual([]);
  });

  test("all is summed up in the run's result", async () => {
    const { run, egress } = await tour(
      `curl -s ${open}/give/5000 | wc -c; curl -s -d 12345 ${open}/take; curl -s ${closed}/`,
    );
    const sum = (name: "bytesSent" | "bytesReceived") =>
      egress.reduce((total, event) => total + event[name], 0);
    expect([sum("bytesSent"), sum("bytesReceived")]).toEqual([5, 5000 + "/take\n".length]);
    expect(run.egress).toMatchObject({ allowed: 2 + model.requests.length, denied: 1 });
    expect(run.egress.hosts).toMatchObject([
      { host: "127.0.0.1", port: model.port, allowed: 2 },
      { host: "open.test", port: outside.port, allowed: 2, denied: 0, bytesSent: 5, bytesReceived: 5006 },
      { host: "closed.test", port: outside.port, allowed: 0, denied: 1, bytesSent: 0, bytesReceived: 0 },
    ]);
  });
});

describe.runIf(process.getuid?.() === 0)(
  "S3.4 a model answers as a stream in a container without a network",
  () => {
    const toDeltas = (events: readonly RunEvent[]) =>
      events.flatMap((event) => (event.type === "message.delta" ? [event.text] : []));

    test.each(DIALECTS)("through %s", async (api) => {
      const text = Array.from({ length: 20 }, (_, index) => `piece ${index}, `);
      model.reset({ script: [{ text, chunkDelayMs: 30 }] });
      const { run, events } = await runToEnd(service, toScriptedRequest(model, { api }));
      expect(run).toMatchObject({
        outcome: "succeeded",
        output: text.join(""),
        receipt: { network: "none" },
      });
      expect(toDeltas(events).length).toBeGreaterThan(5);
      expect(toDeltas(events).join("")).toBe(text.join(""));
    });

    test("by the demo model", async () => {
      const { run, events } = await runToEnd(service, { prompt: "Show me", model: "demo/tour" });
      expect(run).toMatchObject({ outcome: "succeeded", demo: true, receipt: { network: "none" } });
      expect(toDeltas(events).length).toBeGreaterThan(5);
    });
  },
);
