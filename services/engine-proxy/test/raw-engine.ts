// The engine of the tests as bytes and as calls, and a proxy before it: what a test compares is the same call of both.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { request } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AGENT_IMAGE, readEngineHost } from "../../sidecar/test/behaviours/open-places.ts";
import type { Profiles } from "../src/container-body.ts";
import { readOptions } from "../src/options.ts";
import { openProxy, type ProxyParts, type Told } from "../src/proxy.ts";

export const ENGINE = readEngineHost().replace("unix://", "");

const PROFILES = join(import.meta.dirname, "../../../docker");

/** The texts of our seccomp profiles, as the program reads them. */
export function readProfiles(): Profiles {
  const read = (name: string) => JSON.stringify(JSON.parse(readFileSync(join(PROFILES, name), "utf8")));
  return { usual: read("seccomp.json"), browser: read("seccomp-browser.json") };
}

export type LiveProxy = AsyncDisposable & { readonly socket: string; readonly told: Told[] };

export async function openTestProxy(
  flags: readonly string[] = [],
  more: Partial<ProxyParts> = {},
): Promise<LiveProxy> {
  const directory = mkdtempSync(join(tmpdir(), "pillion-proxy-"));
  const socket = join(directory, "engine.sock");
  const wish = readOptions(["--listen", socket, "--engine", ENGINE, "--image", AGENT_IMAGE, ...flags]);
  if (wish.kind !== "serve") throw new Error("these flags do not serve");
  const told: Told[] = [];
  const proxy = await openProxy({
    options: wish.options,
    profiles: readProfiles(),
    onRefusal: (refusal) => told.push(refusal),
    ...more,
  });
  return {
    socket,
    told,
    async [Symbol.asyncDispose]() {
      await proxy[Symbol.asyncDispose]();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

export type Answer = { readonly status: number; readonly text: string };

/** One call with its own connection; `body` is JSON unless it is bytes. */
export function call(socketPath: string, method: string, path: string, body?: unknown): Promise<Answer> {
  const bytes = body instanceof Uint8Array ? body : body === undefined ? undefined : JSON.stringify(body);
  const type = body instanceof Uint8Array ? "application/x-tar" : "application/json";
  const headers =
    bytes === undefined ? {} : { "content-type": type, "content-length": Buffer.byteLength(bytes) };
  return new Promise((resolve, reject) => {
    const sent = request({ socketPath, method, path, headers, agent: false }, (answer) => {
      let text = "";
      const settle = (): void => resolve({ status: answer.statusCode ?? 0, text });
      // Enough is known of an answer that goes on for ever.
      const late = setTimeout(() => answer.destroy(), 1_000);
      answer.setEncoding("utf8").on("data", (part: string) => (text += part));
      answer.once("close", () => {
        clearTimeout(late);
        settle();
      });
      answer.on("error", settle);
    });
    sent.on("upgrade", ({ statusCode }, socket) => {
      socket.destroy();
      resolve({ status: statusCode ?? 0, text: "" });
    });
    sent.on("error", reject).end(bytes);
  });
}

/** Exactly these bytes; resolves to all that comes back until the other side closes or falls silent. */
export function sendBytes(socketPath: string, bytes: string, silenceMs = 1_500): Promise<string> {
  return new Promise((resolve) => {
    let text = "";
    const socket = connect(socketPath, () => socket.write(bytes, "latin1"));
    socket.setTimeout(silenceMs, () => socket.destroy());
    socket.setEncoding("latin1").on("data", (part) => (text += String(part)));
    socket.on("error", () => undefined).once("close", () => resolve(text));
  });
}
