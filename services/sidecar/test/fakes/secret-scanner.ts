// Finds a secret, in every form it may be written in, in memory, files and texts.
import { closeSync, lstatSync, openSync, readdirSync, readFileSync, readlinkSync, readSync } from "node:fs";
import { join } from "node:path";
import { constants, gunzipSync } from "node:zlib";

const CHUNK = 8 * 1024 * 1024;
const MAX_FILE_BYTES = 64 * 1024 * 1024;
const MAX_PACKED_BYTES = 64 * 1024;

/** A way to write a secret down, and every byte sequence that shows it. */
export type Needle = { readonly form: string; readonly bytes: Buffer };

/** Found places as `where: form`. */
export type Finding = string;

export function toForms(secret: string): Record<string, string> {
  return {
    plain: secret,
    base64: Buffer.from(secret).toString("base64"),
    base64url: Buffer.from(secret).toString("base64url"),
    hex: Buffer.from(secret).toString("hex"),
    HEX: Buffer.from(secret).toString("hex").toUpperCase(),
    url: encodeURIComponent(secret),
    reversed: [...secret].reverse().join(""),
  };
}

/** Base64 looks different at each of three offsets; only the characters that hold nothing but the secret are searched. */
export function toNeedles(secret: string): Needle[] {
  const { base64: _, base64url: __, ...texts } = toForms(secret);
  const needles = Object.entries(texts).map(([form, text]) => ({ form, bytes: Buffer.from(text) }));
  needles.push({ form: "utf16", bytes: Buffer.from(secret, "utf16le") });
  for (const form of ["base64", "base64url"] as const) {
    for (const [offset, cut] of [0, 2, 3].entries()) {
      const whole = Buffer.from("\0".repeat(offset) + secret)
        .toString(form)
        .replace(/=+$/, "");
      const clean = Math.floor(((offset + secret.length) * 8) / 6);
      needles.push({ form, bytes: Buffer.from(whole.slice(cut, clean)) });
    }
  }
  return needles;
}

/** What is packed by gzip is looked through as well, wherever in the bytes it begins. */
export function scan(where: string, bytes: Buffer, needles: readonly Needle[]): Finding[] {
  const found = needles.filter((needle) => bytes.includes(needle.bytes)).map(({ form }) => form);
  const isPacked = unpack(bytes).some((inner) => needles.some((needle) => inner.includes(needle.bytes)));
  return [...found, ...(isPacked ? ["gzip"] : [])].map((form) => `${where}: ${form}`);
}

const GZIP_START = Buffer.from([0x1f, 0x8b, 0x08]);

function unpack(bytes: Buffer): Buffer[] {
  const texts: Buffer[] = [];
  for (let at = bytes.indexOf(GZIP_START); at >= 0; at = bytes.indexOf(GZIP_START, at + 1)) {
    try {
      const packed = bytes.subarray(at, at + MAX_PACKED_BYTES);
      // What comes after its end, and an end that was cut off, are no matter.
      texts.push(gunzipSync(packed, { finishFlush: constants.Z_SYNC_FLUSH, maxOutputLength: CHUNK }));
    } catch {
      // these bytes only look like a beginning, or hold more than a secret's company
    }
  }
  return texts;
}

export function scanFile(where: string, path: string, needles: readonly Needle[]): Finding[] {
  return scan(where, readFileSync(path), needles);
}

/** Everything that can be read of a process's memory, its own or mapped. */
export function scanMemory(
  { pid }: { readonly pid: number },
  needles: readonly Needle[],
): { bytes: number; findings: Finding[] } {
  const overlap = Math.max(...needles.map(({ bytes }) => bytes.length));
  const memory = openSync(`/proc/${pid}/mem`, "r");
  const buffer = Buffer.alloc(CHUNK + overlap);
  const findings = new Set<Finding>();
  let bytes = 0;
  try {
    for (const line of readFileSync(`/proc/${pid}/maps`, "latin1").split("\n")) {
      const [, from, to] = /^([0-9a-f]+)-([0-9a-f]+) r/.exec(line) ?? [];
      if (from === undefined || to === undefined || /\[vvar|\[vsyscall/.test(line)) continue;
      const end = Number.parseInt(to, 16);
      for (let at = Number.parseInt(from, 16); at < end; at += CHUNK) {
        const size = readAt(memory, buffer, at, Math.min(end - at, buffer.length));
        bytes += Math.min(size, CHUNK);
        for (const finding of scan("memory", buffer.subarray(0, size), needles)) findings.add(finding);
      }
    }
  } finally {
    closeSync(memory);
  }
  return { bytes, findings: [...findings] };
}

function readAt(file: number, buffer: Buffer, position: number, length: number): number {
  try {
    return readSync(file, buffer, 0, length, position);
  } catch {
    return 0; // a hole: nothing is mapped there
  }
}

/** Names and contents of all files below, links as their targets. Devices and system directories are not entered. */
export function scanTree(
  where: string,
  directory: string,
  needles: readonly Needle[],
): { files: number; findings: Finding[] } {
  const findings: Finding[] = [];
  let files = 0;
  for (const path of readdirSync(directory, { recursive: true, encoding: "utf8" })) {
    const stat = lstatSync(join(directory, path), { throwIfNoEntry: false });
    findings.push(...scan(`${where}, a name`, Buffer.from(path), needles));
    if (stat?.isSymbolicLink()) {
      findings.push(...scan(`${where}, a link`, Buffer.from(readlinkSync(join(directory, path))), needles));
    }
    if (!stat?.isFile() || stat.size > MAX_FILE_BYTES) continue;
    files += 1;
    findings.push(...scanFile(`${where}/${path}`, join(directory, path), needles));
  }
  return { files, findings };
}

/** The forms that were found in places of that name. */
export const isIn = (where: RegExp, findings: readonly Finding[]): string[] =>
  [
    ...new Set(
      findings.filter((finding) => where.test(finding)).map((finding) => finding.split(": ").at(-1) ?? ""),
    ),
  ].sort();

export const TEXT_FORMS = Object.keys(toForms("")).sort();
