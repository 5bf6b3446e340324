// Why what is allowed cannot be reached: the run is told, and the audit says it.
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer as createHttp } from "node:http";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  createServer as createTls,
  getCACertificates,
  setDefaultCACertificates,
  type TlsOptions,
} from "node:tls";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { EgressRefusal } from "#contract/egress";
import { toNetworkCause } from "../../src/broker/egress-cause.ts";
import { writeCertificates } from "../fakes/lab-certificates.ts";
import { openDoor, openLease, toPort } from "../fakes/told-lease.ts";
import { sendRaw } from "../fixtures/raw-http.ts";

const HOST = "inside.example";

let directory: string;
const trusted = getCACertificates("default");
const read = (name: string): string => readFileSync(join(directory, name), "utf8");
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "pillion-causes-"));
  writeCertificates(directory, [HOST]);
  setDefaultCACertificates([...trusted, read("ca.pem")]);
});
afterAll(() => {
  setDefaultCACertificates(trusted);
  rmSync(directory, { recursive: true });
});

const withCertificate = (name: string): TlsOptions => ({ key: read("leaf.key"), cert: read(`${name}.pem`) });
const secure = (options: TlsOptions): Server => {
  const http = createHttp((_request, response) => void response.end("here"));
  return createTls(options, (socket) => void http.emit("connection", socket)).on(
    "tlsClientError",
    () => undefined,
  );
};

/** Listens on loopback for the test; null stands for a port where nobody does. */
async function openServer(server: Server | null): Promise<number> {
  if (server === null) return 1;
  onTestFinished(() => void server.close());
  await once(server.listen(0, "127.0.0.1"), "listening");
  return toPort(server);
}

type Place = { readonly scheme?: "http" | "https"; readonly resolve?: () => Promise<string[]> };
const nameless = async () => Promise.reject(new Error("ENOTFOUND"));

async function openRun(port: number, { scheme = "https", resolve = async () => ["127.0.0.1"] }: Place = {}) {
  const told = openLease({
    patterns: [`${scheme}://${HOST}:${port}`],
    dialer: { privateTargets: [{ scheme, host: HOST, port, cidr: null }], resolve },
  });
  const [door, key] = [await openDoor(told.lease), told.lease.placeholder];
  const ask = (line: string) =>
    sendRaw(
      door,
      `${line} HTTP/1.1\r\nhost: ${HOST}:${port}\r\nproxy-authorization: Bearer ${key}\r\nconnection: close\r\n\r\n`,
    );
  return { ...told, ask };
}

describe("S3.4 a request to what cannot be reached says why, to the run and in the audit", () => {
  const cases: [string, string, () => Server | null, Place][] = [
    ["a name without an address", "dns", () => null, { resolve: nameless }],
    ["a port where nobody listens", "refused", () => null, {}],
    [
      "a certificate of an authority that is not trusted",
      "certificate",
      () => secure(withCertificate("untrusted")),
      {},
    ],
    ["a certificate that is no longer good", "certificate", () => secure(withCertificate("expired")), {}],
    ["a certificate of another name", "certificate", () => secure(withCertificate("wrong-name")), {}],
    ["plain HTTP where TLS was asked for", "not_tls", () => createHttp(), {}],
    ["TLS that agrees to nothing", "tls", () => secure({}), {}],
    ["a server that hangs up on TLS", "closed", () => createServer((socket) => void socket.destroy()), {}],
    [
      "one that hangs up on a request",
      "closed",
      () => createHttp((request) => void request.socket.destroy()),
      { scheme: "http" },
    ],
  ];
  test.each(cases)("%s: %s", async (_what, cause, toServer, place) => {
    const port = await openServer(toServer());
    const { ask, events } = await openRun(port, place);
    const got = await ask(`GET /to/${place.scheme ?? "https"}/${HOST}:${port}/x`);
    const refusal = EgressRefusal.parse(JSON.parse(got.body).error);
    expect([got.status, refusal]).toMatchObject([502, { code: "unreachable", cause, host: HOST, port }]);
    expect(refusal.message).toMatch(/^inside\.example:\d+ cannot be reached: [^.]+\.$/);
    expect(refusal.hint ?? "").toContain(cause === "certificate" ? "NODE_EXTRA_CA_CERTS" : "");
    expect(events).toMatchObject([{ allowed: true, failure: "unreachable", cause }]);
  });

  test("the control: with a good certificate it is reached", async () => {
    const port = await openServer(secure(withCertificate("leaf")));
    const { ask, events } = await openRun(port);
    expect((await ask(`GET /to/https/${HOST}:${port}/x`)).body).toContain("here");
    expect(events).toMatchObject([{ allowed: true, failure: null, cause: null }]);
  });

  test.each<[string, Place]>([
    ["dns", { resolve: nameless }],
    ["refused", {}],
  ])("a tunnel too: %s", async (cause, place) => {
    const { ask, events } = await openRun(1, place);
    const got = await ask(`CONNECT ${HOST}:1`);
    expect([got.status, JSON.parse(got.body).error]).toMatchObject([502, { code: "unreachable", cause }]);
    expect(events).toMatchObject([{ way: "connect", failure: "unreachable", cause }]);
  });

  test.each([
    ["EHOSTUNREACH", "no_route"],
    ["ENETUNREACH", "no_route"],
    ["ECONNRESET", "closed"],
    ["EMFILE", null],
  ])("of what the system says, %s is %s", (code, cause) => {
    expect(toNetworkCause(Object.assign(new Error("x"), { code }))).toBe(cause);
  });
});
