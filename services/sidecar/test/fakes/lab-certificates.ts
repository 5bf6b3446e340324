/** A test's own certificate authority, and one certificate of it for names and addresses; made with openssl. */
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { isIP } from "node:net";
import { join } from "node:path";

const CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

/** Writes ca.pem, leaf.pem and leaf.key into the directory; resolves to the path of ca.pem. */
export function writeCertificates(directory: string, names: readonly string[]): string {
  const at = (name: string): string => join(directory, name);
  const openssl = (...args: string[]): void => void execFileSync("openssl", args, { stdio: "pipe" });
  const alternatives = names.map((name) => (isIP(name) === 0 ? `DNS:${name}` : `IP:${name}`));
  writeFileSync(at("leaf.ext"), `subjectAltName=${alternatives.join(",")}\n`);
  const ca = ["-keyout", at("ca.key"), "-out", at("ca.pem"), "-days", "2", "-subj", "/CN=A test's authority"];
  openssl("req", "-x509", ...CURVE, ...ca);
  openssl("req", ...CURVE, "-keyout", at("leaf.key"), "-out", at("leaf.csr"), "-subj", "/CN=A test's sink");
  const signed = ["-CA", at("ca.pem"), "-CAkey", at("ca.key"), "-CAcreateserial", "-extfile", at("leaf.ext")];
  openssl("x509", "-req", "-in", at("leaf.csr"), "-out", at("leaf.pem"), "-days", "2", ...signed);
  return at("ca.pem");
}
