// Which certificate authorities the programs of a local sandbox trust, tried by real ones.
import { execFileSync, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Duplex } from "node:stream";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { HAND_SCRIPT, Hand } from "../escape/hand.ts";
import { writeCertificates } from "../fakes/lab-certificates.ts";

const BUNDLE = "/etc/ssl/certs/ca-certificates.crt";

let directory = "";
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "pillion-authorities-"));
  writeCertificates(directory, ["localhost"]);
});
afterAll(() => rm(directory, { recursive: true, force: true }));

/** A hand in a local sandbox of a machine that trusts `bundle` and nobody else. */
function openSandbox(bundle: string): AsyncDisposable & { readonly hand: Hand } {
  const start = 'mount --bind "$0" "$1" && exec "$2" "$3"';
  const program = [process.execPath, join(import.meta.dirname, "local-run.ts")];
  const mounts = ["--mount", "--propagation", "private"];
  const child = spawn("unshare", [...mounts, "sh", "-c", start, bundle, BUNDLE, ...program]);
  child.stderr.resume();
  const ended = new Promise((resolve) => child.once("close", resolve));
  return {
    hand: new Hand(Duplex.from({ readable: child.stdout, writable: child.stdin })),
    [Symbol.asyncDispose]: async () => {
      child.stdin.end();
      await ended;
    },
  };
}

/** Asks an HTTPS server on the sandbox's own loopback by curl, as it is installed; what it exits with, and what it got. */
async function askByCurl(key: string, cert: string): Promise<{ code: number | null; got: string }> {
  const server = process
    .getBuiltinModule("node:https")
    .createServer({ key, cert }, (_request, response) => response.end("hello"));
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const url = `https://localhost:${typeof address === "object" ? address?.port : ""}/`;
  const child = process.getBuiltinModule("node:child_process").spawn("curl", ["-sS", "--noproxy", "*", url]);
  let got = "";
  child.stdout.on("data", (piece) => {
    got += piece;
  });
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  server.close();
  return { code, got };
}

const readFile = (path: string): string =>
  process.getBuiltinModule("node:fs").readFileSync(path, { encoding: "utf8" });

const tryToWrite = (path: string): string => {
  try {
    process.getBuiltinModule("node:fs").appendFileSync(path, "x");
    return "written";
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
};

const listFolder = (path: string): string[] => process.getBuiltinModule("node:fs").readdirSync(path);

describe.runIf(process.getuid?.() === 0)("S3.4 the authorities of a local sandbox", () => {
  const pair = (name: string): [string, string] => [
    readFileSync(join(directory, "leaf.key"), "utf8"),
    readFileSync(join(directory, `${name}.pem`), "utf8"),
  ];

  test("are the machine's: curl trusts a server by them, and no server of another one", async () => {
    await using opened = openSandbox(join(directory, "ca.pem"));
    expect(await opened.hand.do(askByCurl, ...pair("leaf"))).toEqual({ code: 0, got: "hello" });
    const untrusted = 60; // curl(1): PEER_FAILED_VERIFICATION
    expect(await opened.hand.do(askByCurl, ...pair("untrusted"))).toEqual({ code: untrusted, got: "" });
  });

  test("are found where the systems' programs look, can be read and not be written, and are no keys", async () => {
    await using opened = openSandbox(join(directory, "ca.pem"));
    const expected = readFileSync(join(directory, "ca.pem"), "utf8");
    for (const path of [
      BUNDLE,
      "/etc/ssl/cert.pem",
      "/etc/ssl/ca-bundle.pem",
      "/etc/pki/tls/certs/ca-bundle.crt",
    ])
      expect([path, await opened.hand.do(readFile, path)]).toEqual([path, expected]);
    expect(await opened.hand.do(tryToWrite, BUNDLE)).toMatch(/EROFS|EACCES/);
    expect(await opened.hand.do(listFolder, "/etc/ssl")).not.toContain("private");
    expect(listFolder("/etc/ssl")).toContain("private");
  });

  test("the control: without a sandbox a program of this machine trusts its own, which the test's is not", async () => {
    const child = spawn(process.execPath, ["-e", HAND_SCRIPT], { env: { PATH: process.env.PATH } });
    const hand = new Hand(Duplex.from({ readable: child.stdout, writable: child.stdin }));
    expect(await hand.do(readFile, BUNDLE)).toBe(execFileSync("cat", [BUNDLE], { encoding: "utf8" }));
    expect(await hand.do(askByCurl, ...pair("leaf"))).toEqual({ code: 60, got: "" });
    child.stdin.end();
  });
});
