/** `pillion audit-image` as data: which image, and where its report goes. */
import { resolve } from "node:path";
import type { Command } from "commander";
import type { Terminal } from "./cli-run.ts";

export type AuditCommand = {
  readonly command: "audit-image";
  readonly options: {
    readonly name: string | undefined;
    /** Absolute path of a saved image, or `-` for stdin; without it the engine is asked. */
    readonly input: string | undefined;
    /** Absolute paths to write to. */
    readonly json: string | undefined;
    readonly sbom: string | undefined;
    readonly report: string | undefined;
    /** Undefined leaves it to the environment. */
    readonly engine: string | undefined;
    readonly configDir: string | undefined;
  };
};

export type AuditFlags = {
  readonly input?: string;
  readonly json?: string;
  readonly sbom?: string;
  readonly report?: string;
  readonly dockerHost?: string;
  readonly configDir?: string;
};

/** Adds `audit-image` with its flags to the program. */
export function addAudit(program: Command): Command {
  return program
    .command("audit-image")
    .description("Read every layer of an image and say what must not be in it.")
    .argument("[name]", "image, as the engine knows it")
    .option("--input <file>", "a saved image (docker save, or an OCI layout as tar); `-` reads stdin")
    .option("--report <dir>", "write report.txt, report.json and sbom.cdx.json there")
    .option("--json <file>", "write the report as JSON")
    .option("--sbom <file>", "write the bill of materials (CycloneDX)")
    .option("--docker-host <address>", "engine to ask (default: PILLION_DOCKER_HOST, DOCKER_HOST)")
    .option("--config-dir <dir>", "directory with proprietary.json, licences.json and audit-accepted.json")
    .allowExcessArguments(false)
    .showHelpAfterError("Try: pillion audit-image --help")
    .addHelpText("after", AUDIT_EXAMPLES);
}

const AUDIT_EXAMPLES = `
Exit codes:
  0 clean, 1 findings, 2 bad usage, 3 the audit could not be made (no engine, no such image, damaged file)

Examples:
  pillion audit-image pillion-agent:base
  pillion audit-image pillion-agent:base --report audit
  docker save some-image | pillion audit-image --input -
`;

export function toAudit(
  name: string | undefined,
  flags: AuditFlags,
  { cwd, stdinIsTerminal }: Terminal,
): AuditCommand | { readonly misuse: string } {
  const { input, json, sbom, report, dockerHost, configDir } = flags;
  if (name === undefined && input === undefined)
    return { misuse: "name an image, or give a saved one with --input" };
  if ([name, input, json, sbom, report, configDir].includes("")) return { misuse: "a name or file is empty" };
  if (input === "-" && stdinIsTerminal) return { misuse: "--input - needs a saved image on stdin" };
  const path = (file: string | undefined) => file && resolve(cwd, file);
  return {
    command: "audit-image",
    options: {
      name,
      input: input === "-" ? input : path(input),
      json: path(json),
      sbom: path(sbom),
      report: path(report),
      engine: dockerHost,
      configDir: path(configDir),
    },
  };
}
