/** Reads the settings once, at the start: flag beats environment beats config file beats default. */
import { readFileSync, realpathSync, statSync } from "node:fs";
import { userInfo } from "node:os";
import { dirname, join, resolve } from "node:path";
import type { z } from "zod";
import { toSecretForms } from "./secret-forms.ts";
import { toShown } from "./setting-issues.ts";
import { toItems } from "./setting-kinds.ts";
import { type Complaint, collectGiven, type Sources, withoutServiceLinks } from "./setting-sources.ts";
import { SETTINGS, SettingTable } from "./setting-table.ts";

/** Of the wrong entries of a list. */
const MOST_SHOWN = 10;

export type Settings = Readonly<z.output<typeof SettingTable>> & {
  /** Real paths of the files that hold secrets: no sandbox may show them. */
  readonly secretFiles: readonly string[];
  /** Of those, the ones that hold one secret and nothing else. */
  readonly keyFiles: readonly string[];
};

/** Where settings come from. Only tests give more than flags. */
export type SettingsSources = Partial<Sources> & {
  /** The real path of an existing directory, else undefined. */
  readonly findDirectory?: (path: string) => string | undefined;
  /** Where a file that exists really lies; what cannot be found stays as it is. */
  readonly toRealPath?: (path: string) => string;
  /** Home directory of the current user by the system's own list; undefined for a user that is not in it. */
  readonly findUserHome?: () => string | undefined;
  /** Where the program lies; the product's directories are looked for from here upwards. */
  readonly programDir?: string;
  /** Complains of what cannot be seen by looking at one setting alone, as far as these are right by themselves. */
  readonly review?: (settings: ReviewedSettings, complain: Complain) => void;
};

/** Everything that is wrong with the settings, at once. It names settings, rules and entries of lists, never a secret. */
export class SettingsError extends Error {
  override readonly name = "SettingsError";
  readonly complaints: readonly Complaint[];

  constructor(complaints: readonly Complaint[]) {
    const lines = complaints.map(({ setting, message }) => `  ${setting} ${message}`);
    super(`The settings are not valid:\n${lines.join("\n")}`);
    this.complaints = complaints;
  }
}

/** Throws one SettingsError that lists every missing, wrong or unknown setting. */
export function readSettings(sources: SettingsSources = {}): Settings {
  const env = withoutServiceLinks(sources.env ?? process.env);
  const readFile = sources.readFile ?? ((path) => readFileSync(path, "utf8"));
  const findDirectory = sources.findDirectory ?? findRealDirectory;
  const toReal = (paths: readonly string[]) => paths.map((path) => (sources.toRealPath ?? toRealPath)(path));
  const given = collectGiven({ flags: sources.flags ?? {}, env, readFile });
  const complaints = [...given.complaints];
  const complain: Complain = (name, message) => {
    const variable = SETTINGS.find((entry) => entry.name === name)?.env ?? name;
    complaints.push({ setting: given.labels.get(name) ?? variable, message });
  };

  const places = findPlaces({ ...sources, env, findDirectory });
  const raw: Readonly<Record<string, unknown>> = { ...fixedDefaults(), ...places, ...given.raw };
  const parsed = SettingTable.safeParse(raw);
  for (const [name, messages] of toMessages(parsed.error?.issues ?? [], raw)) {
    if (raw[name] !== undefined) for (const message of messages) complain(name, message);
    else if (!given.labels.has(name)) complain(name, "must be set: no place for it could be found");
  }
  const workspaceRoots = resolveRoots("workspaceRoots", raw, findDirectory, complain);
  const referenceRoots = resolveRoots("referenceRoots", raw, findDirectory, complain);
  complainOfDemoModel(raw, complain);
  sources.review?.(toReviewed(raw), complain);
  const settings = parsed.success ? withDemoModel(parsed.data) : undefined;
  if (settings === undefined || complaints.length > 0) throw new SettingsError(complaints);
  const { keyFiles } = given;
  return { ...settings, workspaceRoots, referenceRoots, secretFiles: toReal(given.secretFiles), keyFiles };
}

/** By setting, each rule that is broken once, with the entries of a list that break it. */
function toMessages(
  issues: readonly z.core.$ZodIssue[],
  raw: Readonly<Record<string, unknown>>,
): Map<string, readonly string[]> {
  const found = new Map<string, Map<string, string[]>>();
  for (const { path, message } of issues) {
    const [name, index] = [String(path[0]), path[1]];
    const rules = found.get(name) ?? new Map<string, string[]>();
    const value = raw[name];
    const entry = typeof index === "number" && isList(value) ? toItems(value)[index] : undefined;
    // What stands before an `@` may be a password.
    const shown = entry === undefined || entry.includes("@") ? [] : [toShown(entry)];
    found.set(name, rules.set(message, [...(rules.get(message) ?? []), ...shown]));
  }
  const toText = ([rule, entries]: [string, string[]]) =>
    entries.length === 0 ? rule : `${rule}; not so: ${entries.slice(0, MOST_SHOWN).join(", ")}`;
  return new Map([...found].map(([name, rules]) => [name, [...rules].map(toText)]));
}

function isList(value: unknown): value is string | string[] {
  return typeof value === "string" || Array.isArray(value);
}

/** For logs and for `doctor`: a secret is "(set)" or "(not set)", with no part of it. */
export function toPublicSettings(settings: Settings): Record<string, unknown> {
  const values: Record<string, unknown> = settings;
  const toPublic = (value: unknown, isSecret: boolean): unknown =>
    isSecret ? (value === undefined ? "(not set)" : "(set)") : (value ?? null);
  return Object.fromEntries(
    SETTINGS.map(({ name, secret }) => [name, toPublic(values[name], secret === true)]),
  );
}

/** Every secret that the settings hold, a header's value also without its scheme: what the log must not show. */
export function toSecrets(settings: Settings): string[] {
  const { token, openaiApiKey, anthropicApiKey, openrouterApiKey, credentials = [] } = settings;
  const headers = credentials.flatMap(({ value }) => toSecretForms(value));
  const keys = [token, openaiApiKey, anthropicApiKey, openrouterApiKey].filter((key) => key !== undefined);
  return [...new Set([...keys, ...headers])].filter((secret) => secret !== "");
}

type TableSettings = z.output<typeof SettingTable>;
/** `name` is a setting's, or whatever else the reader has to change. */
export type Complain = (name: string, message: string) => void;

export type ReviewedSettings = {
  readonly configDir: string | undefined;
  readonly egress: readonly string[] | undefined;
  readonly privateTargets: readonly string[];
};

function toReviewed(raw: Readonly<Record<string, unknown>>): ReviewedSettings {
  const { configDir, egress, privateTargets } = SettingTable.shape;
  return {
    configDir: configDir.safeParse(raw.configDir).data,
    egress: raw.egress === undefined ? undefined : (egress.safeParse(raw.egress).data ?? []),
    privateTargets: privateTargets.safeParse(raw.privateTargets).data ?? [],
  };
}

type FindDirectory = (path: string) => string | undefined;

type Surroundings = Pick<SettingsSources, "findUserHome" | "programDir"> & {
  readonly env: Sources["env"];
  readonly findDirectory: FindDirectory;
};

function fixedDefaults(): Record<string, string> {
  const pairs = SETTINGS.flatMap(({ name, default: text }): [string, string][] =>
    text === undefined ? [] : [[name, text]],
  );
  return Object.fromEntries(pairs);
}

/** The defaults that have to be found out. */
function findPlaces(around: Surroundings): Record<string, string | undefined> {
  const programDir = around.programDir ?? import.meta.dirname;
  return {
    home: findHome(around.env, around.findUserHome ?? readUserHome),
    configDir: findProductDirectory("config", programDir, around.findDirectory),
    // One that we do not speak (ssh://…) was set for others, and is no mistake in our settings.
    dockerHost:
      SettingTable.shape.dockerHost.safeParse(around.env.DOCKER_HOST).data ?? "unix:///var/run/docker.sock",
    skillsDir: findProductDirectory("skills", programDir, around.findDirectory),
  };
}

/** A user without an entry in the system's list has no home; container engines then set HOME to `/`. */
function findHome(env: Sources["env"], findUserHome: () => string | undefined): string | undefined {
  const data = env.XDG_DATA_HOME;
  if (data?.startsWith("/")) return join(data, "pillion");
  const isHome = (path: string | undefined) => path?.startsWith("/") === true && path !== "/";
  const home = [env.HOME, findUserHome()].find(isHome);
  return home === undefined ? undefined : join(home, ".local/share/pillion");
}

function readUserHome(): string | undefined {
  try {
    return userInfo().homedir;
  } catch {
    return undefined;
  }
}

/** From a bundle the directory lies one floor up, from the sources three; no higher, where it would not be ours. */
function findProductDirectory(name: string, programDir: string, find: FindDirectory): string | undefined {
  const places = [programDir];
  for (let up = dirname(programDir); places.length < 4; up = dirname(up)) places.push(up);
  return places.map((place) => join(place, name)).find((path) => find(path) !== undefined);
}

/** Roots are compared with real paths later, so they are kept as real paths. */
function resolveRoots(
  name: "workspaceRoots" | "referenceRoots",
  raw: Readonly<Record<string, unknown>>,
  find: FindDirectory,
  complain: Complain,
): string[] {
  const roots = SettingTable.shape[name].safeParse(raw[name]);
  if (!roots.success) return []; // its complaint stands
  const found = roots.data.map((path) => ({ path, real: path.startsWith("/") ? find(path) : undefined }));
  const lost = found.filter(({ real }) => real === undefined).map(({ path }) => toShown(path));
  if (lost.length > 0) {
    complain(name, `must be absolute paths of existing directories; not so: ${lost.join(", ")}`);
  }
  return [...new Set(found.flatMap(({ real }) => (real === undefined ? [] : [real])))];
}

/** The demo model is what a request without a model gets, so that a newcomer needs no key; never beside real models. */
function withDemoModel(settings: TableSettings): TableSettings {
  const { openaiApiKey, anthropicApiKey, openrouterApiKey, credentials } = settings;
  const hasKey = [openaiApiKey, anthropicApiKey, openrouterApiKey, credentials].some(
    (key) => key !== undefined,
  );
  const isDefault = settings.model === undefined && settings.demoModel && !hasKey;
  return isDefault ? { ...settings, model: "demo/tour" } : settings;
}

/** Judged by itself, so that it is told together with whatever else is wrong. */
function complainOfDemoModel(raw: Readonly<Record<string, unknown>>, complain: Complain): void {
  const isOff = SettingTable.shape.demoModel.safeParse(raw.demoModel).data === false;
  if (isOff && typeof raw.model === "string" && raw.model.startsWith("demo/")) {
    complain("model", "names the demo model, which PILLION_DEMO_MODEL takes away");
  }
}

function findRealDirectory(path: string): string | undefined {
  try {
    const real = realpathSync(path);
    return statSync(real).isDirectory() ? real : undefined;
  } catch {
    return undefined;
  }
}

function toRealPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return resolve(path);
  }
}
