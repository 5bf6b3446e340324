/** The caller's door over a fake store, with a log that can be read back. */
import type { Capabilities } from "#contract/capabilities";
import type { HarnessInfo } from "#contract/harness";
import { type CallerApp, createCallerApp } from "../../src/http/caller-app.ts";
import type { HttpLog, HttpSettings } from "../../src/http/http-settings.ts";
import { FakeRunStore } from "./fake-run-store.ts";

export const TOKEN = "test-token-1234567890";
export const MAX_BODY_BYTES = 2_000_000;

export const SETTINGS: HttpSettings = {
  allowAnonymous: false,
  boundToLoopback: true,
  allowedHosts: [],
  port: 8765,
  maxBodyBytes: MAX_BODY_BYTES,
  version: "0.0.0-test",
};

export const CAPABILITIES: Capabilities = {
  version: "0.0.0-test",
  sandboxes: [],
  sandboxInForce: null,
  networkModes: ["none"],
  allowedPrograms: [],
  allowedImages: [],
  workspaceRoots: 0,
  limits: {
    concurrency: 1,
    queue: 1,
    wallMs: 1,
    idleMs: 1,
    steps: 1,
    requests: 10_000,
    egressBytes: 1024 ** 3,
    tokens: null,
    costUsd: null,
    requestBytes: MAX_BODY_BYTES,
  },
  egress: [],
  credentials: [],
  providers: [],
  defaultModel: "demo/tour",
  demoModel: true,
};

export const HARNESS: HarnessInfo = {
  id: "pi",
  title: "Pi",
  installed: true,
  version: "1.0.0",
  sha256: null,
  licence: "MIT",
  source: "baked",
  drivenBy: "pi-rpc",
};

export type LogLine = { readonly level: string; readonly fields: object; readonly message: string };

export type CallerDoor = {
  readonly app: CallerApp;
  readonly runs: FakeRunStore;
  readonly log: HttpLog;
  readonly lines: LogLine[];
};

type DoorSettings = Partial<Omit<HttpSettings, "token">> & { readonly token?: string | null };

/** A null token means that none is configured. */
export function openCallerDoor(
  { token = TOKEN, ...settings }: DoorSettings = {},
  heartbeatMs?: number,
): CallerDoor {
  const runs = new FakeRunStore();
  const lines: LogLine[] = [];
  const write = (level: string) => (fields: object, message: string) =>
    void lines.push({ level, fields, message });
  const log: HttpLog = { info: write("info"), warn: write("warn"), error: write("error") };
  const app = createCallerApp({
    runs,
    settings: { ...SETTINGS, ...settings, ...(token === null ? {} : { token }) },
    harnesses: async () => [HARNESS],
    capabilities: async () => CAPABILITIES,
    log,
    ...(heartbeatMs === undefined ? {} : { heartbeatMs }),
  });
  return { app, runs, log, lines };
}

/** Headers of a well-behaved caller. */
export function withToken(headers: Record<string, string> = {}): Record<string, string> {
  return { authorization: `Bearer ${TOKEN}`, ...headers };
}

/** A JSON post of a well-behaved caller. */
export function post(body: unknown, headers: Record<string, string> = {}): RequestInit {
  return {
    method: "POST",
    headers: withToken({ "content-type": "application/json", ...headers }),
    body: JSON.stringify(body),
  };
}
