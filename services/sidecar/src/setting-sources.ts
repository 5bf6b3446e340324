/** Finds what each setting was given as: flag before environment before config file; nothing is judged by kind here. */
import { toNearest } from "./setting-issues.ts";
import { CONFIG_ENTRY, SETTINGS, type SettingEntry } from "./setting-table.ts";

type Value = string | string[];
type Raw = Record<string, Value>;

export type Complaint = { readonly setting: string; readonly message: string };

export type Sources = {
  readonly flags: Readonly<Record<string, string | undefined>>;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly readFile: (path: string) => string;
};

/** What was given, how (for complaints), and what is wrong with it so far. */
export type Given = {
  readonly raw: Raw;
  /** By the setting's name: the flag, variable or key that its reader has to change. */
  readonly labels: ReadonlyMap<string, string>;
  readonly complaints: readonly Complaint[];
  /** Paths, as given, of the files that secrets were read from, and of the config file, which may hold some. */
  readonly secretFiles: readonly string[];
  /** Of those, the ones that hold one secret setting and nothing else. */
  readonly keyFiles: readonly string[];
};

/** Collects every setting that was given. A secret's value may stand in the file that its `_FILE` twin names. */
export function collectGiven(sources: Sources): Given {
  const complaints: Complaint[] = unknownNames(sources);
  const file = readConfigFile(sources, complaints);
  const raw: Raw = {};
  const labels = new Map<string, string>();
  const keyFiles: (Value | undefined)[] = [];
  for (const entry of SETTINGS) {
    const found = candidates(entry, sources, file).find(({ plain, path }) => plain ?? path);
    if (found === undefined) continue;
    labels.set(entry.name, found.label);
    keyFiles.push(found.path);
    const value = toValue(found, sources.readFile);
    if ("problem" in value) complaints.push({ setting: found.label, message: value.problem });
    else raw[entry.name] = value.ok;
  }
  const isPath = (path: Value | undefined) => typeof path === "string";
  const secretFiles = [findConfigFile(sources).path, ...keyFiles].filter(isPath);
  return { raw, labels, complaints, secretFiles, keyFiles: keyFiles.filter(isPath) };
}

type Candidate = {
  readonly label: string;
  readonly plain: Value | undefined;
  readonly path: Value | undefined;
};

function candidates(entry: SettingEntry, sources: Sources, file: Raw): Candidate[] {
  const { name, env, flag, secret } = entry;
  const flagged = present(sources.flags[toFlagKey(entry)]);
  const inEnv = present(sources.env[env]);
  const inFile = present(file[name]);
  if (!secret) {
    return [
      { label: flag, plain: flagged, path: undefined },
      { label: env, plain: inEnv, path: undefined },
      { label: `${name} in the config file`, plain: inFile, path: undefined },
    ];
  }
  const twinInEnv = present(sources.env[`${env}_FILE`]);
  const twinInFile = present(file[`${name}File`]);
  const toLabel = (plain: Value | undefined, own: string, twin: string) => (plain === undefined ? twin : own);
  return [
    { label: flag, plain: undefined, path: flagged },
    { label: toLabel(inEnv, env, `${env}_FILE`), plain: inEnv, path: twinInEnv },
    { label: `${toLabel(inFile, name, `${name}File`)} in the config file`, plain: inFile, path: twinInFile },
  ];
}

/** An empty file is a problem: a token that vanished must not open the door. */
function toValue(
  { plain, path }: Candidate,
  readFile: Sources["readFile"],
): { ok: Value } | { problem: string } {
  if (plain !== undefined && path !== undefined) {
    return { problem: "is given twice, plainly and as a file; keep one of the two" };
  }
  if (plain !== undefined) return { ok: plain };
  const text = typeof path === "string" ? readText(path, readFile)?.trim() : undefined;
  if (text === undefined) return { problem: "names a file that cannot be read" };
  return text === "" ? { problem: "names a file that is empty" } : { ok: text };
}

function readConfigFile(sources: Sources, complaints: Complaint[]): Raw {
  const { setting, path } = findConfigFile(sources);
  if (typeof path !== "string") return {};
  const text = readText(path, sources.readFile);
  const content = text === undefined ? undefined : parseJson(text);
  if (text === undefined) complaints.push({ setting, message: "names a file that cannot be read" });
  else if (!isRecord(content)) {
    complaints.push({ setting, message: "must name a file that holds one JSON object" });
  }
  return isRecord(content) ? toRaw(content, complaints) : {};
}

function findConfigFile({ flags, env }: Sources): { setting: string; path: Value | undefined } {
  const flag = present(flags[CONFIG_ENTRY.name]);
  if (flag !== undefined) return { setting: CONFIG_ENTRY.flag, path: flag };
  return { setting: CONFIG_ENTRY.env, path: present(env[CONFIG_ENTRY.env]) };
}

function toRaw(content: Record<string, unknown>, complaints: Complaint[]): Raw {
  const known = SETTINGS.flatMap(({ name, secret }) => (secret ? [name, `${name}File`] : [name]));
  const raw: Raw = {};
  for (const [key, value] of Object.entries(content)) {
    const complain = (message: string) =>
      complaints.push({ setting: `${quoted(key)} in the config file`, message });
    if (!known.includes(key)) complain(toUnknownMessage(key, known));
    else if (typeof value === "string" || isTextList(value)) raw[key] = value;
    else if (typeof value === "number" || typeof value === "boolean") raw[key] = String(value);
    else if (key === "credentials" && Array.isArray(value)) raw[key] = JSON.stringify(value);
    else if (value !== null) complain("has a value of the wrong type");
  }
  return raw;
}

function unknownNames({ flags, env }: Sources): Complaint[] {
  const entries = [...SETTINGS, CONFIG_ENTRY];
  const names = entries.flatMap((entry) => (entry.secret ? [entry.env, `${entry.env}_FILE`] : [entry.env]));
  const keys = entries.map(toFlagKey);
  const inEnv = Object.keys(env).filter(
    (name) => name.startsWith("PILLION_") && present(env[name]) !== undefined && !names.includes(name),
  );
  return [
    ...inEnv.map((name) => ({ setting: quoted(name), message: toUnknownMessage(name, names) })),
    ...Object.keys(flags)
      .filter((key) => !keys.includes(key))
      .map((key) => ({ setting: `flag ${quoted(key)}`, message: toUnknownMessage(key, keys) })),
  ];
}

/** The key of a setting's flag: as the flag is spelled, in camelCase. */
export function toFlagKey({ name, secret }: SettingEntry): string {
  return secret ? `${name}File` : name;
}

/**
 * What Kubernetes and Docker put into the environment for a service that is called pillion (`PILLION_PORT` is then
 * `tcp://10.0.0.1:8765`) is no setting of ours.
 */
export function withoutServiceLinks(env: Sources["env"]): Record<string, string | undefined> {
  const isLink = (name: string, value: string | undefined) =>
    /^PILLION_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$/.test(name) ||
    (/^PILLION_(\w+_)?PORT$/.test(name) && /^(tcp|udp|sctp):\/\//.test(value ?? ""));
  return Object.fromEntries(Object.entries(env).filter(([name, value]) => !isLink(name, value)));
}

function toUnknownMessage(name: string, known: readonly string[]): string {
  const nearest = toNearest(name, known);
  return `is not a setting${nearest === undefined ? "" : `; did you mean ${nearest}?`}`;
}

/** A value that is not blank: an empty one means not set, as compose's `${VAR:-}` has it. */
function present(value: Value | undefined): Value | undefined {
  if (typeof value === "string") return value.trim() === "" ? undefined : value.trim();
  return value;
}

function readText(path: string, readFile: Sources["readFile"]): string | undefined {
  try {
    return readFile(path);
  } catch {
    return undefined;
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isTextList(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === "string");
}

/** A name from outside, so that no terminal takes it for a command. */
function quoted(name: string): string {
  return /^\w{1,80}$/.test(name) ? name : JSON.stringify(name.slice(0, 80)).replace(/[^\x20-\x7e]/g, "?");
}
