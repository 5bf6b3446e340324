/** Composition root: settings in, a running sidecar out that closes whole. Nothing below knows how it was put together. */
import { mkdirSync, readdirSync, realpathSync } from "node:fs";
import { join } from "node:path";
import type { Capabilities } from "#contract/capabilities";
import type { Run } from "#contract/run";
import { readPriceList } from "./agents/price-list.ts";
import { readAgentDefaults } from "./agents/profile.ts";
import { type ProviderList, readProviderList } from "./agents/provider-list.ts";
import { toText } from "./broker/destination.ts";
import { Dialer } from "./broker/dialer.ts";
import { readEgressList } from "./broker/egress-list.ts";
import { toPrivateTarget } from "./broker/private-target.ts";
import { PiHarness } from "./harnesses/pi/pi-harness.ts";
import { HeldKeys } from "./held-keys.ts";
import { createCallerApp } from "./http/caller-app.ts";
import { openSandboxDoor } from "./http/sandbox-door.ts";
import { type Listening, listen } from "./http/server.ts";
import { readInstance } from "./instance.ts";
import type { Fault } from "./kernel/fault.ts";
import { findProductDir, readVersion } from "./product.ts";
import { openJournal } from "./runs/journal.ts";
import { openReaper } from "./runs/reaper.ts";
import { recover } from "./runs/recovery.ts";
import { redactTexts } from "./runs/redacted-texts.ts";
import { ResultStore } from "./runs/result-store.ts";
import { RunRegistry } from "./runs/run-registry.ts";
import type { RunStore } from "./runs/run-store.ts";
import { DockerPlaces } from "./sandboxes/docker/docker-places.ts";
import { LocalPlaces } from "./sandboxes/local/local-places.ts";
import { UnisolatedPlaces } from "./sandboxes/local/unisolated-places.ts";
import { PlaceList } from "./sandboxes/place-list.ts";
import type { PlaceKind, PlaceProbe } from "./sandboxes/sandbox.ts";
import type { Settings } from "./settings.ts";
import { findWarnings } from "./settings-review.ts";
import { forRun, type Log } from "./telemetry/log.ts";
import { createRedactor, type Redactor } from "./telemetry/redaction.ts";

const MAX_RESULT_BYTES = 256 * 1024 * 1024;
/** More than a run may take from the end of its time until nothing of it is left. */
const WIND_DOWN_MS = 5 * 60_000;

export type SidecarOptions = {
  readonly settings: Settings;
  readonly log: Log;
  readonly redactor: Redactor;
  /** The settings anew, from the same sources: for keys in files that have changed. */
  reread(): Settings;
  /** Called when the journal can no longer be used; the service should end. */
  readonly onFatal: (fault: Fault) => void;
};

export interface Sidecar extends AsyncDisposable {
  readonly runs: RunStore;
  readonly sandbox: PlaceProbe | null;
  readonly probes: readonly PlaceProbe[];
  /** What in the settings has no effect or too much, in words for the operator. */
  readonly warnings: readonly string[];
  /** Opens the caller's door. */
  listen(): Promise<Listening>;
  /** Not ready at once; runs get the grace, then are stopped; resolves when every last event is written. */
  drain(graceMs: number): Promise<void>;
}

/** Recovers what a crash left, then is ready for runs. Throws Faults and Errors that an operator can act on. */
export async function openSidecar(options: SidecarOptions): Promise<Sidecar> {
  const { settings, log, redactor } = options;
  await using held = new AsyncDisposableStack();
  mkdirSync(settings.home, { recursive: true, mode: 0o700 });
  const productDir = findProductDir();
  const kinds = toPlaces(settings, productDir); // a data directory that cannot be written to is told here
  const [journal, places] = await Promise.all([
    openJournal({ file: join(settings.home, "journal.db"), onFailure: options.onFatal }),
    PlaceList.probe(kinds, settings.sandbox),
  ]);
  held.use(journal);
  held.defer(() => places.close());
  const recovered = await recover(journal, places);
  if (recovered.lostRuns > 0 || recovered.sweptProcesses > 0)
    log.warn(recovered, "recovered from an earlier end");
  const results = await openResults(join(settings.home, "results"));
  const pi = new PiHarness(productDir, settings.modelRetries);
  const providers = readProviderList(settings.configDir);
  const egress = readEgressList(settings.configDir, settings.egress);
  const privateTargets = settings.privateTargets.map(toPrivateTarget);
  const isPlain = (host: string, port: number): boolean =>
    privateTargets.some((target) => target.scheme === "http" && target.host === host && target.port === port);
  const onFailure = (error: unknown): void =>
    log.error(
      { err: error },
      "the files with keys have changed and cannot be used; the earlier keys are kept",
    );
  const keys = new HeldKeys({ settings, redactor, reread: options.reread, onFailure });
  const runs = new RunRegistry({
    journal,
    results,
    places,
    harnesses: new Map([[pi.id, pi]]),
    profiles: toProfileContext(settings, providers, keys),
    concurrency: settings.concurrency,
    queue: settings.queue,
    ceiling: toCeiling(settings),
    egressBytes: settings.egressBytes,
    egress: {
      egress,
      isPlain,
      get credentials() {
        return keys.credentials;
      },
    },
    broker: { dialer: new Dialer({ privateTargets }), isPlain },
    prepareMs: settings.prepareMs,
    pids: settings.pids,
    workspaceBytes: settings.workspaceBytes,
    workspaceRoots: settings.workspaceRoots,
    referenceRoots: settings.referenceRoots,
    allowedImages: settings.allowedImages,
    hasOpenNetwork: settings.openNetwork !== undefined,
    protectedPaths: [
      ...[settings.home, settings.configDir, settings.skillsDir, productDir].map((path) =>
        realpathSync(path),
      ),
      ...settings.secretFiles,
    ],
    openDoor: openSandboxDoor,
    guardSecrets: (secrets) => guardSecrets(redactor, secrets),
    onEnd: (run) => forRun(log, run.id).info(toEndLine(run), "run ended"),
    onFailure: (runId, { code, cause }) =>
      forRun(log, runId).debug({ code, err: cause }, "why the run failed"),
    onCleanUpFailure: (runId, err) => forRun(log, runId).warn({ err }, "cleaning up after a run failed"),
  });
  held.use(
    openReaper({
      everyMs: settings.sweepMs,
      reap: () => places.reap(),
      onReaped: (count) => log.warn({ count }, "removed what ended runs had left on the container engine"),
      onFailure: (err) => log.warn({ err }, "what ended runs have left on the container engine is not known"),
    }),
  );
  const owned = held.move();
  const version = readVersion();
  return {
    runs,
    sandbox: places.inForce,
    probes: places.probes,
    warnings: findWarnings(settings, { providers, egress, privateTargets }),
    listen: () =>
      listen({
        host: settings.host,
        port: settings.port,
        maxBodyBytes: settings.requestBytes,
        log,
        app: createCallerApp({
          runs,
          log,
          harnesses: async () => [await pi.describe()],
          capabilities: async () =>
            toCapabilities(settings, places, { providers, keys }, egress.map(toText), version),
          settings: {
            ...(settings.token === undefined ? {} : { token: settings.token }),
            allowAnonymous: settings.allowAnonymous,
            boundToLoopback: isLoopback(settings.host),
            // The address that it listens on is a name that the operator chose, unless it stands for all of them.
            allowedHosts: [...settings.allowedHosts, ...toOwnName(settings.host)],
            port: settings.port,
            maxBodyBytes: settings.requestBytes,
            version,
          },
        }),
      }),
    drain: (graceMs) => runs.drain(graceMs),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** What an operator wants to know of a run without asking for it; the failure's own words may be the provider's. */
function toEndLine({ outcome, failure, model, timings, usage, stop }: Run): object {
  return {
    outcome,
    ...(failure === null ? {} : { code: failure.code, detail: failure.detail }),
    ...{ model, totalMs: timings.totalMs, modelCalls: usage.modelCalls, verified: stop?.verified ?? null },
  };
}

function toCeiling({ wallMs, idleMs, steps, requests, tokens, costUsd }: Settings) {
  return {
    ...{ wallMs, idleMs, steps, requests },
    ...(tokens === undefined ? {} : { tokens }),
    ...(costUsd === undefined ? {} : { costUsd }),
  };
}

/** In order of preference. The one without isolation is there only where the operator said so. */
function toPlaces(settings: Settings, productDir: string): PlaceKind[] {
  const common = {
    home: settings.home,
    productDir,
    nodePath: process.execPath,
    instance: readInstance(settings.home),
  };
  const local = new LocalPlaces({
    ...common,
    uidBase: settings.uidBase,
    hidden: [settings.home, settings.configDir, ...settings.secretFiles],
  });
  const docker = new DockerPlaces({
    host: settings.dockerHost,
    image: settings.image,
    runtime: settings.runtime,
    limits: { cpus: settings.cpus, memoryBytes: settings.memory },
    instance: common.instance,
    version: readVersion(),
    lifetimeMs: settings.wallMs + settings.prepareMs + WIND_DOWN_MS,
    profileDir: join(productDir, "docker"),
    openNetwork: settings.openNetwork,
    browserImages: settings.browserImages,
  });
  const isolated = settings.sandbox === "local" ? [local] : [docker, local];
  return settings.allowUnisolated ? [...isolated, new UnisolatedPlaces(common)] : isolated;
}

async function openResults(directory: string): Promise<ResultStore> {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const results = new ResultStore(directory, MAX_RESULT_BYTES);
  await results.sweep(async () => readdirSync(directory));
  return results;
}

function toProfileContext(settings: Settings, providers: ProviderList, keys: HeldKeys) {
  return {
    defaults: readAgentDefaults(settings.configDir),
    providers,
    prices: readPriceList(settings.configDir),
    isCostLimited: settings.costUsd !== undefined,
    skillsDir: settings.skillsDir,
    defaultModel: settings.model,
    demoModel: settings.demoModel,
    allowedPrograms: settings.allowedPrograms,
    // The range behind an origin is the dialler's business.
    privateTargets: settings.privateTargets.map((target) => target.replace(/=.*$/, "")),
    get credentials() {
      return keys.credentials;
    },
    get providerKeys() {
      return keys.providerKeys;
    },
  };
}

/** The log must not show the run's secrets while it lives; its events are redacted of its own secrets only. */
function guardSecrets(
  redactor: Redactor,
  secrets: readonly string[],
): { redact<T>(value: T): T } & Disposable {
  for (const secret of secrets) redactor.add(secret);
  const own = createRedactor(secrets);
  return {
    redact: <T>(value: T): T =>
      secrets.length === 0 ? value : redactTexts(value, (text) => own.redact(text)),
    [Symbol.dispose]: () => {
      for (const secret of secrets) redactor.remove(secret);
    },
  };
}

function toCapabilities(
  settings: Settings,
  places: PlaceList,
  { providers, keys }: { readonly providers: ProviderList; readonly keys: HeldKeys },
  egress: readonly string[],
  version: string,
): Capabilities {
  const { credentials, providerKeys } = keys;
  const hosts = new Set(credentials.map(({ host }) => host));
  return {
    version,
    sandboxes: places.probes.map(({ kind, available, isolated, detail, missing }) => ({
      kind,
      available,
      isolated,
      detail,
      missing: [...missing],
    })),
    sandboxInForce: places.inForce?.kind ?? null,
    networkModes: settings.openNetwork === undefined ? ["none"] : ["none", "open"],
    allowedImages: [...settings.allowedImages],
    allowedPrograms: [...settings.allowedPrograms],
    workspaceRoots: settings.workspaceRoots.length,
    limits: {
      concurrency: settings.concurrency,
      queue: settings.queue,
      wallMs: settings.wallMs,
      idleMs: settings.idleMs,
      steps: settings.steps,
      requests: settings.requests,
      egressBytes: settings.egressBytes,
      tokens: settings.tokens ?? null,
      costUsd: settings.costUsd ?? null,
      requestBytes: settings.requestBytes,
    },
    egress: [...egress],
    credentials: credentials.flatMap(({ name, host, header, pathPrefix, methods }) =>
      name === undefined
        ? []
        : [{ name, host, header, pathPrefix: pathPrefix ?? null, methods: methods ?? null }],
    ),
    providers: Object.entries(providers).map(([id, { api, baseUrl }]) => ({
      id,
      api,
      keyConfigured: providerKeys[id] !== undefined || hosts.has(new URL(baseUrl).host),
    })),
    defaultModel: settings.model ?? null,
    demoModel: settings.demoModel,
  };
}

function toOwnName(host: string): string[] {
  if (["0.0.0.0", "::"].includes(host)) return [];
  return [host.includes(":") ? `[${host}]` : host];
}

export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || host.startsWith("127.");
}
