// git as it is, led by the run's environment to the door's base URLs, where a credential is put in.
import { execFile } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, onTestFinished, test } from "vitest";
import { toDoorEnvironment } from "../../src/broker/door-environment.ts";
import { openDoor, openLease, toPort } from "../fakes/told-lease.ts";

const run = promisify(execFile);
const SECRET = `Basic ${Buffer.from("bot:a-secret-of-the-bot").toString("base64")}`;
const AUTHOR = ["-c", "user.email=a@example.com", "-c", "user.name=a"];

async function makeRepository(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "pillion-git-"));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  const work = join(directory, "work");
  await run("git", ["init", "-q", work]);
  await run("git", [...AUTHOR, "-C", work, "commit", "-q", "--allow-empty", "-m", "first"]);
  await run("git", ["-C", work, "update-server-info"]);
  return directory;
}

/** Serves a repository's files to whoever has the secret, as a static host with accounts does. */
async function openHost(directory: string): Promise<number> {
  const server = createServer((request, response) => {
    if (request.headers.authorization !== SECRET) {
      response.writeHead(401, { "www-authenticate": 'Basic realm="host"' }).end();
      return;
    }
    const [path = ""] = (request.url ?? "").split("?", 1);
    readFile(join(directory, "work/.git", path.replace("/shop/", ""))).then(
      (bytes) => response.end(bytes),
      () => response.writeHead(404).end(),
    );
  }).listen(0, "127.0.0.1");
  onTestFinished(() => void server.close());
  await once(server, "listening");
  return toPort(server);
}

test("S3.4 git clones with a credential that it never has, by the host's own address", async () => {
  const directory = await makeRepository();
  const port = await openHost(directory);
  const host = `127.0.0.1:${port}`;
  const { lease, events } = openLease({
    patterns: [`http://${host}`],
    credentials: [{ name: "bot", host, header: "authorization", value: SECRET }],
    dialer: { privateTargets: [{ scheme: "http", host: "127.0.0.1", port, cidr: null }] },
  });
  const { placeholder, credentials } = lease;
  const door = toDoorEnvironment({ port: await openDoor(lease), placeholder, credentials, isProxy: true });
  const clone = (name: string, env: Record<string, string>) =>
    run("git", ["clone", "-q", `http://${host}/shop/`, join(directory, name)], {
      env: { PATH: process.env.PATH, HOME: directory, ...env },
    });

  await clone("through-the-door", door);
  const { stdout } = await run("git", ["-C", join(directory, "through-the-door"), "log", "--format=%s"]);
  expect(stdout).toBe("first\n");
  const allowed = events.filter((event) => event.allowed);
  expect(allowed.length).toBeGreaterThan(1);
  expect(new Set(allowed.map(({ way, status, credential }) => `${way} ${status} ${credential}`))).toEqual(
    new Set(["base-url 200 bot"]),
  );

  await expect(clone("directly", { GIT_TERMINAL_PROMPT: "0" })).rejects.toThrow(/could not read Username/); // the control
});
