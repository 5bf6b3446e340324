/** Keys in files are those that the files hold when a run begins; what cannot be used changes nothing. */
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { HeldKeys } from "../../src/held-keys.ts";
import { readSettings, toSecrets } from "../../src/settings.ts";
import { createRedactor } from "../../src/telemetry/redaction.ts";

let directory: string;
let [credentialsFile, keyFile] = ["", ""];

const toCredentials = (value: string): string =>
  JSON.stringify([{ name: "tracker", host: "api.example.com", header: "authorization", value }]);

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "pillion-keys-"));
  [credentialsFile, keyFile] = [join(directory, "credentials"), join(directory, "key")];
  writeFileSync(credentialsFile, toCredentials("Bearer first-0123456789"));
  writeFileSync(keyFile, "sk-first-0123456789");
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
});

function hold() {
  const root = join(import.meta.dirname, "../../../..");
  const env = {
    PILLION_HOME: directory,
    PILLION_CONFIG_DIR: join(root, "config"),
    PILLION_SKILLS_DIR: join(root, "skills"),
    PILLION_CREDENTIALS_FILE: credentialsFile,
    PILLION_OPENAI_API_KEY_FILE: keyFile,
    PILLION_ANTHROPIC_API_KEY: "sk-plain-0123456789",
  };
  const failures: unknown[] = [];
  let reads = 0;
  const reread = () => {
    reads += 1;
    return readSettings({ env });
  };
  const settings = reread();
  const redactor = createRedactor(toSecrets(settings));
  const keys = new HeldKeys({ settings, redactor, reread, onFailure: (error) => failures.push(error) });
  const read = (): Record<string, string | undefined> => ({
    tracker: keys.credentials[0]?.value,
    ...keys.providerKeys,
  });
  return { read, redactor, failures, readCount: () => reads };
}

const FIRST = {
  tracker: "Bearer first-0123456789",
  openai: "sk-first-0123456789",
  anthropic: "sk-plain-0123456789",
};

describe("S3.6 keys in files", () => {
  test("are read once while nothing changes", () => {
    const { read, readCount } = hold();
    expect([read(), read(), readCount()]).toEqual([FIRST, FIRST, 1]);
  });

  test("are those that the files hold by now, and the log knows the earlier and the new ones", () => {
    const { read, redactor } = hold();
    writeFileSync(credentialsFile, toCredentials("Bearer second-0123456789"));
    writeFileSync(`${keyFile}.new`, "sk-second-0123456789");
    renameSync(`${keyFile}.new`, keyFile);
    expect(read()).toEqual({
      ...FIRST,
      tracker: "Bearer second-0123456789",
      openai: "sk-second-0123456789",
    });
    const said =
      "first-0123456789 second-0123456789 sk-first-0123456789 sk-second-0123456789 third-0123456789";
    expect(redactor.redact(said)).not.toMatch(/first|second/);
    expect(redactor.redact(said)).toContain("third"); // the control
  });

  test("are found anew where a link in their path leads elsewhere, as orchestrators do it", () => {
    for (const [at, value] of ["one", "two"].entries()) {
      mkdirSync(join(directory, value));
      writeFileSync(join(directory, value, "key"), `sk-link-${at}-0123456789`);
    }
    const link = join(directory, "current");
    symlinkSync("one", link);
    keyFile = join(link, "key");
    const { read } = hold();
    expect(read().openai).toBe("sk-link-0-0123456789");
    symlinkSync("two", `${link}.new`);
    renameSync(`${link}.new`, link);
    expect(read().openai).toBe("sk-link-1-0123456789");
  });

  test.each([
    ["is no list of credentials", () => writeFileSync(credentialsFile, "{")],
    ["is empty", () => writeFileSync(credentialsFile, "")],
    ["is gone", () => rmSync(credentialsFile)],
  ])("stay as they were where a file %s, which is told once, until it can be used", (_what, spoil) => {
    const { read, failures } = hold();
    spoil();
    expect([read(), read(), failures.length]).toEqual([FIRST, FIRST, 1]);
    expect(String(failures[0])).toContain("PILLION_CREDENTIALS_FILE");
    expect(String(failures[0])).not.toContain("0123456789");
    writeFileSync(credentialsFile, toCredentials("Bearer third-0123456789"));
    expect(read().tracker).toBe("Bearer third-0123456789");
  });
});
