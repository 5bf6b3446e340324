import { describe, expect, test } from "vitest";
import { Lease, type LeaseRequest } from "../../../src/broker/broker.ts";

const request: LeaseRequest = {
  runId: "run_1",
  model: "scripted-1",
  api: "openai-completions",
  upstream: {
    kind: "http",
    baseUrl: new URL("https://models.example/v1"),
    header: { name: "authorization", value: "Bearer sk-canary-0123456789" },
    privateAllowed: false,
  },
  onModelCall: () => true,
};

describe("a lease", () => {
  test("has a placeholder of its own, of letters, digits and underscores only", () => {
    const placeholders = Array.from({ length: 100 }, () => new Lease(request).placeholder);
    expect(new Set(placeholders).size).toBe(100);
    // Pi expands $NAME and !command in keys.
    for (const placeholder of placeholders) expect(placeholder).toMatch(/^pillion_[0-9a-f]{48}$/);
  });

  test("its placeholder holds nothing of the secret", () => {
    expect(new Lease(request).placeholder).not.toContain("canary");
  });

  test("is shown as a bearer token or as an API key", () => {
    const lease = new Lease(request);
    expect(lease.isShownBy(`Bearer ${lease.placeholder}`, undefined)).toBe(true);
    expect(lease.isShownBy(`bearer  ${lease.placeholder}`, undefined)).toBe(true);
    expect(lease.isShownBy(undefined, lease.placeholder)).toBe(true);
  });

  test("is not shown by nothing, by another lease's placeholder, by a part of its own or by the secret itself", () => {
    const [lease, other] = [new Lease(request), new Lease(request)];
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
      expect(lease.isShownBy(authorization, undefined)).toBe(false);
      expect(lease.isShownBy(undefined, authorization)).toBe(false);
    }
  });

  test("ends when it is disposed, and what it carries is told so", () => {
    let ended: AbortSignal;
    {
      using lease = new Lease(request);
      ended = lease.ended;
      expect(ended.aborted).toBe(false);
    }
    expect(ended.aborted).toBe(true);
  });
});
