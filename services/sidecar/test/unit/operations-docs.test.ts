// docs/operations.md holds the settings as the table in the code has them.
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { OPERATIONS_PAGE, withSettings } from "../../../../scripts/settings-docs.ts";
import { SETTINGS } from "../../src/setting-table.ts";

const page = readFileSync(OPERATIONS_PAGE, "utf8");

test("the page's table has not drifted (else: node scripts/settings-docs.ts)", () => {
  expect(page).toBe(withSettings(page));
});

test("the table names every setting, and each secret's file", () => {
  for (const { env, flag, secret } of SETTINGS) {
    expect(page).toContain(`| \`${env}\`${secret ? ` or \`${env}_FILE\`` : ""} | \`${flag}\` |`);
  }
});

test("a page that has drifted or lost a marker is noticed", () => {
  expect(withSettings(page.replace("| `8765` |", "| `8766` |"))).toBe(page);
  expect(() => withSettings(page.replace("<!-- settings: end -->", ""))).toThrow(/has lost a marker/);
});
