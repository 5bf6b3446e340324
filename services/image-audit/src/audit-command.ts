/** `pillion audit-image` and `scripts/audit-image`: takes an image from an engine, a file or stdin, and writes what is found. */
import { createReadStream, mkdirSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Readable } from "node:stream";
import { AuditError } from "./audit-error.ts";
import { readAuditPolicy } from "./audit-policy.ts";
import { exportImage } from "./engine-export.ts";
import { auditImage, type ImageAudit } from "./image-audit.ts";
import { toReport, toText } from "./report.ts";
import { toSbom } from "./sbom.ts";

export type AuditOptions = {
  /** Name for the engine; with `input` only what the report calls it. */
  readonly name: string | undefined;
  /** Absolute path of a saved image, or `-` for stdin. */
  readonly input: string | undefined;
  /** The engine's address, as in DOCKER_HOST. */
  readonly engine: string;
  /** Absolute directory with the three lists of the policy. */
  readonly configDir: string;
  /** Absolute paths to write to; the directory gets all three files. */
  readonly json: string | undefined;
  readonly sbom: string | undefined;
  readonly report: string | undefined;
  readonly version: string;
};

export type AuditOutput = {
  readonly stdin: Readable;
  readonly print: (text: string) => void;
  readonly progress: (line: string) => void;
};

/** 3: the audit could not be made, so nothing is known. */
export const AUDIT_EXIT = { clean: 0, findings: 1, usage: 2, impossible: 3 } as const;

const PROGRESS_MS = 5_000;

/** Resolves to the exit code; throws only what nobody foresaw. */
export async function runAudit(options: AuditOptions, output: AuditOutput): Promise<number> {
  try {
    const policy = readAuditPolicy(options.configDir);
    const source = await openSource(options, output.stdin);
    const audit = await auditImage(source, policy, toProgress(output.progress));
    const now = new Date();
    const report = toReport(audit, options.name ?? options.input ?? "", options.version, now);
    const text = toText(report);
    const json = `${JSON.stringify(report, undefined, 2)}\n`;
    if (options.json !== undefined) write(options.json, json);
    if (options.sbom !== undefined) writeSboms(options.sbom, audit, options.version, now);
    if (options.report !== undefined) {
      write(join(options.report, "report.txt"), text);
      write(join(options.report, "report.json"), json);
      writeSboms(join(options.report, "sbom.cdx.json"), audit, options.version, now);
    }
    output.print(text);
    return report.clean ? AUDIT_EXIT.clean : AUDIT_EXIT.findings;
  } catch (error) {
    if (!(error instanceof AuditError)) throw error;
    output.progress(`pillion: ${error.message}`);
    return AUDIT_EXIT.impossible;
  }
}

async function openSource({ input, name, engine }: AuditOptions, stdin: Readable): Promise<Readable> {
  if (input === "-") return stdin;
  if (input === undefined) return await exportImage(name ?? "", engine);
  const stat = statSync(input, { throwIfNoEntry: false });
  if (stat?.isFile() !== true) throw new AuditError(`there is no saved image at ${input}`);
  return createReadStream(input, { highWaterMark: 1024 * 1024 });
}

/** One line for each large part, and none more often than every few seconds. */
function toProgress(tell: (line: string) => void): (name: string, bytes: number) => void {
  const state = { last: performance.now() };
  return (name, bytes) => {
    const now = performance.now();
    if (bytes < 10_000_000 && now - state.last < PROGRESS_MS) return;
    state.last = now;
    tell(`reading ${name.slice(1, 40)} (${(bytes / 1e6).toFixed(1)} MB)`);
  };
}

/** One file for each image; with several platforms the platform is part of the name. */
function writeSboms(path: string, { inventories }: ImageAudit, version: string, now: Date): void {
  for (const inventory of inventories) {
    const platform = inventory.image.platform.replaceAll("/", "-");
    const own = inventories.length === 1 ? path : path.replace(/(\.cdx)?\.json$|$/, `.${platform}$&`);
    write(own, toSbom(inventory, version, now));
  }
}

function write(path: string, content: string): void {
  try {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, content);
  } catch (error) {
    const why = error instanceof Error && "code" in error ? String(error.code) : "unknown";
    throw new AuditError(`${path} cannot be written (${why})`);
  }
}
