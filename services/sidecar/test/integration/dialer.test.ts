import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { describe, expect, test } from "vitest";

/** Public, private and metadata addresses, all of them this namespace's own. */
const ALIASES = [
  "93.184.215.14/32",
  "10.1.0.5/32",
  "169.254.169.254/32",
  "168.63.129.16/32",
  "100.100.100.200/32",
  "fd00:ec2::254/128",
  "fd20:ce::254/128",
];

/** Leads back into the namespace, where nobody has it: what is sent there is dropped. */
const SILENT = "198.17.0.9/32";

const METADATA = ["169.254.169.254", "168.63.129.16", "100.100.100.200", "fd00:ec2::254", "fd20:ce::254"];

function dialInNamespace(): unknown {
  const script = [
    "set -e; ip link set lo up",
    ...ALIASES.map((alias) => `ip address add ${alias} dev lo${alias.includes(":") ? " nodad" : ""}`),
    `ip route add ${SILENT} dev lo`,
    'exec "$0" "$1"',
  ].join("\n");
  const program = join(import.meta.dirname, "../fixtures/dial-in-namespace.ts");
  const user = process.getuid?.() === 0 ? [] : ["--user", "--map-root-user"];
  const inside = ["--net", ...user, "sh", "-c", script, process.execPath, program];
  const { status, stdout, stderr } = spawnSync("unshare", inside, { encoding: "utf8", timeout: 60_000 });
  expect({ status, stderr: status === 0 ? "" : stderr }).toEqual({ status: 0, stderr: "" });
  return JSON.parse(stdout);
}

describe("S3.4 a dialler in a network where every address answers", () => {
  const refusals = (count: number) => Array<string>(count).fill("address_not_allowed");

  test("reaches public ones and listed ones, and never what a second answer or metadata would be", () => {
    expect(dialInNamespace()).toEqual({
      control: ["93.184.215.14", "10.1.0.5", ...METADATA],
      public: { results: ["93.184.215.14"], hits: ["93.184.215.14"], asked: 1 },
      own: { results: refusals(1), hits: [], asked: 1 },
      rebinding: { results: ["93.184.215.14", ...refusals(3)], hits: ["93.184.215.14"], asked: 4 },
      listed: { results: ["10.1.0.5"], hits: ["10.1.0.5"], asked: 1 },
      metadata: { results: refusals(8), hits: [], asked: 8 },
      metadataOfProvider: { results: refusals(8), hits: [], asked: 8 },
      silentFirst: { results: ["93.184.215.14"], hits: ["93.184.215.14"], asked: 1 },
      silentOnly: { results: ["timed_out"], hits: [], asked: 1 },
    });
  });
});
