/** A test's own certificate authority, and certificates of it, good and bad, for names and addresses; made with openssl. */
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { isIP } from "node:net";
import { join } from "node:path";

const CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

/** Writes ca.pem, leaf.key and with that key leaf.pem, expired.pem, untrusted.pem and wrong-name.pem. */
export function writeCertificates(directory: string, names: readonly string[]): void {
  const at = (name: string): string => join(directory, name);
  const openssl = (...args: string[]): void => void execFileSync("openssl", args, { stdio: "pipe" });
  for (const name of ["ca", "other-ca"]) {
    const files = ["-keyout", at(`${name}.key`), "-out", at(`${name}.pem`)];
    openssl("req", "-x509", ...CURVE, ...files, "-days", "2", "-subj", `/CN=A test's ${name}`);
  }
  openssl("req", ...CURVE, "-keyout", at("leaf.key"), "-out", at("leaf.csr"), "-subj", "/CN=A test's sink");
  const sign = (name: string, authority: string, days: number, whom: readonly string[]): void => {
    const alternatives = whom.map((one) => (isIP(one) === 0 ? `DNS:${one}` : `IP:${one}`));
    writeFileSync(at("leaf.ext"), `subjectAltName=${alternatives.join(",")}\n`);
    const by = ["-CA", at(`${authority}.pem`), "-CAkey", at(`${authority}.key`), "-CAcreateserial"];
    const what = ["-in", at("leaf.csr"), "-out", at(`${name}.pem`), "-days", String(days)];
    openssl("x509", "-req", ...what, ...by, "-extfile", at("leaf.ext"));
  };
  sign("leaf", "ca", 2, names);
  sign("expired", "ca", -1, names);
  sign("untrusted", "other-ca", 2, names);
  sign("wrong-name", "ca", 2, ["elsewhere.example"]);
}
