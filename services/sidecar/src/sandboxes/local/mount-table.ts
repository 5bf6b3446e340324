/** What a local sandbox sees of the file system, as lines for mount(8). */
import { lstatSync, statSync } from "node:fs";
import { readlink } from "node:fs/promises";
import { join } from "node:path";
import { REFERENCES_DIR } from "#contract/sandbox";
import { toBoundReferences, toReferenceFiles } from "../references.ts";
import type { SandboxSpec } from "../sandbox.ts";
import type { Identity } from "./identity.ts";

const SYSTEM_DIRECTORIES = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];
const SYSTEM_FILES = ["etc/ld.so.cache", "etc/ld.so.conf", "etc/localtime"];
/** Where systems keep the certificates that programs trust, all in one file; it is linked to all of them by init.sh. */
const AUTHORITIES = [
  "etc/ssl/certs/ca-certificates.crt", // Debian, Alpine, Arch: where it is mounted
  "etc/pki/tls/certs/ca-bundle.crt",
  "etc/ssl/ca-bundle.pem",
  "etc/ssl/cert.pem",
] as const;
const DEVICES = ["null", "zero", "full", "random", "urandom"];
/** A page of a tmpfs: what a file takes at least, beyond its bytes. */
const FILE_BYTES = 8192;
const READ_ONLY = "bind,ro,nosuid,nodev";

/** What to mount, where, which kind of file system, options. */
type Row = [string, string, string, string];

type Parts = {
  readonly productDir: string;
  readonly nodePath: string;
  readonly hidden: readonly string[];
  readonly compileCache?: string | undefined;
};

export function toFstab(root: string, spec: SandboxSpec, identity: Identity, parts: Parts): string {
  const owner = `uid=${identity.uid},gid=${identity.gid}`;
  const flags = toFlags(spec);
  const at = (path: string): string => join(root, path);
  const rows: Row[] = [
    ["/usr", at("usr"), "none", READ_ONLY],
    ...SYSTEM_DIRECTORIES.filter((name) => isRealDirectory(`/${name}`)).map(
      (name): Row => [`/${name}`, at(name), "none", READ_ONLY],
    ),
    ...SYSTEM_FILES.filter((name) => exists(`/${name}`)).map(
      (name): Row => [`/${name}`, at(name), "none", `${READ_ONLY},noexec`],
    ),
    ...AUTHORITIES.filter((name) => exists(`/${name}`))
      .slice(0, 1)
      .map((name): Row => [`/${name}`, at(AUTHORITIES[0]), "none", `${READ_ONLY},noexec`]),
    ...(exists("/etc/alternatives")
      ? [["/etc/alternatives", at("etc/alternatives"), "none", READ_ONLY] as Row]
      : []),
    ...DEVICES.map((name): Row => [`/dev/${name}`, at(`dev/${name}`), "none", "bind,nosuid,noexec"]),
    ["pillion", at("dev/shm"), "tmpfs", `size=64m,mode=1777,nosuid,nodev,noexec`],
    ["proc", at("proc"), "proc", "nosuid,nodev,noexec"],
    ["pillion", at("tmp"), "tmpfs", `size=256m,mode=700,${owner},${flags}`],
    ["pillion", at("home/agent"), "tmpfs", `size=128m,mode=700,${owner},${flags}`],
    [parts.productDir, at("opt/pillion"), "none", READ_ONLY],
    [parts.nodePath, at("opt/node/node"), "none", READ_ONLY],
    ...toWorkspaceRows(at("workspace"), spec, owner, flags),
    ...toReferenceRows(at(REFERENCES_DIR), spec, owner),
    ...parts.hidden.filter(isUnderSystem).map((path): Row => toMask(path, at(path))),
  ];
  return rows.map((row) => `${row.map(escapeField).join(" ")} 0 0\n`).join("");
}

/** A caller's own directory is not mounted by its name: see init.sh. */
function toWorkspaceRows(target: string, spec: SandboxSpec, owner: string, flags: string): Row[] {
  if (spec.workspace.kind === "bind") return [];
  return [["pillion", target, "tmpfs", `size=${spec.workspace.bytes},mode=700,${owner},${flags}`]];
}

/** Filled by the guard, then made read-only with the seal; what is the caller's own is read-only from the start. */
function toReferenceRows(target: string, { references }: SandboxSpec, owner: string): Row[] {
  if (references.length === 0) return [];
  const files = toReferenceFiles(references);
  const bytes = files.reduce((sum, { content }) => sum + content.length + FILE_BYTES, FILE_BYTES * 64);
  const options = `size=${bytes},mode=755,${owner},nosuid,nodev,noexec,x-mount.mkdir`;
  return [
    ["pillion", target, "tmpfs", options],
    ...toBoundReferences(references).map(
      ({ name, path }): Row => [path, `${target}/${name}`, "none", `${READ_ONLY},noexec,x-mount.mkdir`],
    ),
  ];
}

/** Options for the caller's own directory. */
export function toBindFlags(spec: SandboxSpec): string {
  return `${spec.readOnly ? "ro" : "rw"},${toFlags(spec)}`;
}

function toFlags(spec: SandboxSpec): string {
  return spec.executable ? "nosuid,nodev" : "nosuid,nodev,noexec";
}

/** Covers a file with /dev/null and a directory with an empty one. */
function toMask(path: string, target: string): Row {
  if (isRealDirectory(path)) return ["pillion", target, "tmpfs", "size=4k,mode=000,ro,nosuid,nodev,noexec"];
  return ["/dev/null", target, "none", "bind,ro"];
}

function isUnderSystem(path: string): boolean {
  const isShown = ["usr", ...SYSTEM_DIRECTORIES].some((name) => path.startsWith(`/${name}/`));
  return isShown && exists(path);
}

/** `bin=usr/bin` where the machine has a symlink, `bin=-` where it has a directory. */
export async function readSystemLinks(): Promise<string[]> {
  const present = SYSTEM_DIRECTORIES.filter((name) => exists(`/${name}`));
  return Promise.all(
    present.map(async (name) =>
      isRealDirectory(`/${name}`) ? `${name}=-` : `${name}=${await readlink(`/${name}`)}`,
    ),
  );
}

function isRealDirectory(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

function exists(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false }) !== undefined;
}

/** fstab(5): blanks and backslashes inside a field are octal. */
function escapeField(field: string): string {
  return field.replaceAll(/[\s\\#]/g, (char) => `\\${char.charCodeAt(0).toString(8).padStart(3, "0")}`);
}
