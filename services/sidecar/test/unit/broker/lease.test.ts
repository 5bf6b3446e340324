import { describe, expect, test } from "vitest";
import type { Lease } from "../../../src/broker/lease.ts";
import { openLease } from "../../fakes/told-lease.ts";

const open = (): Lease =>
  openLease({
    upstream: {
      kind: "http",
      baseUrl: new URL("https://models.example/v1"),
      header: { name: "authorization", value: "Bearer sk-canary-0123456789", credential: "test" },
      privateAllowed: false,
    },
  }).lease;

describe("a lease", () => {
  test("has a placeholder of its own, of letters, digits and underscores only", () => {
    const placeholders = Array.from({ length: 100 }, () => open().placeholder);
    expect(new Set(placeholders).size).toBe(100);
    // Pi expands $NAME and !command in keys.
    for (const placeholder of placeholders) expect(placeholder).toMatch(/^pillion_[0-9a-f]{48}$/);
  });

  test("its placeholder holds nothing of the secret", () => {
    expect(open().placeholder).not.toContain("canary");
  });

  test("is shown as a bearer token or as an API key", () => {
    const lease = open();
    expect(lease.isShownBy({ authorization: `Bearer ${lease.placeholder}` })).toBe(true);
    expect(lease.isShownBy({ authorization: `bearer  ${lease.placeholder}` })).toBe(true);
    expect(lease.isShownBy({ "x-api-key": lease.placeholder })).toBe(true);
  });

  test("is not shown by nothing, by another lease's placeholder, by a part of its own or by the secret itself", () => {
    const [lease, other] = [open(), open()];
    const wrong = [
      undefined,
      "",
      "Bearer ",
      `Bearer ${other.placeholder}`,
      `Bearer ${lease.placeholder.slice(0, -1)}`,
      `Bearer ${lease.placeholder}0`,
      "Bearer sk-canary-0123456789",
    ];
    for (const authorization of wrong) {
      expect(lease.isShownBy({ authorization })).toBe(false);
      expect(lease.isShownBy({ "x-api-key": authorization })).toBe(false);
    }
  });

  test("ends when it is told to, and what it carries is told so", () => {
    const lease = open();
    expect(lease.ended.aborted).toBe(false);
    lease.end();
    expect(lease.ended.aborted).toBe(true);
  });
});
