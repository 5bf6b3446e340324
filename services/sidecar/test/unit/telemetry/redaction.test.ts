// Redaction: no form and no part of a secret is left, and other text stays as it is.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createRedactor } from "../../../src/telemetry/redaction.ts";

const SECRET = 'sk-cAnary/4711+"ü\\z?';

function toEncodings(secret: string): Record<string, string> {
  const bytes = Buffer.from(secret);
  return {
    plain: secret,
    base64: bytes.toString("base64"),
    base64url: bytes.toString("base64url"),
    hex: bytes.toString("hex"),
    "upper-case hex": bytes.toString("hex").toUpperCase(),
    "percent-encoded": encodeURIComponent(secret),
    "percent-encoded in lower case": encodeURIComponent(secret).replace(/%../g, (code) => code.toLowerCase()),
    "form-encoded": new URLSearchParams({ a: secret }).toString().slice(2),
    "in JSON": JSON.stringify(secret).slice(1, -1),
    "in JSON in JSON": JSON.stringify(JSON.stringify(secret)),
    "basic authentication, 1 byte before": Buffer.from(`u${secret}`).toString("base64"),
    "basic authentication, 2 bytes before": Buffer.from(`u:${secret}`).toString("base64"),
    "basic authentication, text behind": Buffer.from(`abc${secret}:more`).toString("base64"),
  };
}

describe("redact", () => {
  test.each(Object.entries(toEncodings(SECRET)))("takes out a secret that is %s", (_name, form) => {
    const text = `before ${form} after`;
    const redacted = createRedactor([SECRET]).redact(text);
    expect(redacted).toMatch(/^before .*\[redacted\].* after$/);
    expect(redacted).not.toContain(form);
    // What is left of the form, if it was embedded in more, is too short to hold anything of the secret.
    expect(redacted.replace("[redacted]", "").length).toBeLessThan("before  after".length + 12);
    expect(createRedactor([]).redact(text)).toBe(text); // the control
  });

  test("takes out short secrets as well, and everywhere", () => {
    expect(createRedactor(["a"]).redact("banana")).toBe("b[redacted]n[redacted]n[redacted]");
    expect(createRedactor(["pw1"]).redact("pw1pw1 pw")).toBe("[redacted] pw");
  });

  test("leaves no part of secrets that overlap or contain one another", () => {
    expect(createRedactor(["abcdef", "defghi"]).redact("xabcdefghix")).toBe("x[redacted]x");
    expect(createRedactor(["secret", "secretive-one"]).redact("a secretive-one b")).toBe("a [redacted] b");
    expect(createRedactor(["aXa"]).redact("aXaXa")).toBe("[redacted]");
  });

  test("does not redact its own mark again", () => {
    expect(createRedactor(["redacted", "hunter2"]).redact("hunter2 and redacted")).toBe(
      "[redacted] and [redacted]",
    );
  });

  test("a secret is known until it was removed as often as it was added", () => {
    const redactor = createRedactor(["hunter2"]);
    redactor.add("hunter2");
    redactor.remove("hunter2");
    expect(redactor.redact("hunter2")).toBe("[redacted]");
    redactor.remove("hunter2");
    redactor.remove("hunter2");
    expect(redactor.redact("hunter2")).toBe("hunter2");
    redactor.add("");
    expect(redactor.redact("text")).toBe("text");
  });

  test("removing one of two secrets that share a form keeps the other", () => {
    const redactor = createRedactor(["hunter2-long", Buffer.from("hunter2-long").toString("hex")]);
    redactor.remove("hunter2-long");
    expect(redactor.redact(Buffer.from("hunter2-long").toString("hex"))).toBe("[redacted]");
  });

  test("holds for any secret between any other text, and text without it is unchanged", () => {
    const noise = fc.string({ unit: "grapheme", maxLength: 40 });
    const secret = fc.string({ minLength: 6, maxLength: 40 });
    fc.assert(
      fc.property(noise, secret, noise, (before, value, after) => {
        const redacted = createRedactor([value]).redact(`${before} ${value} ${after}`);
        expect(redacted.split("[redacted]").join("\u{10ffff}")).not.toContain(value);
        if (!before.includes(value)) expect(createRedactor([`${value}☃`]).redact(before)).toBe(before);
      }),
    );
  });

  test("its time does not grow with the number of secrets", () => {
    const many = createRedactor(
      Array.from({ length: 2_000 }, (_, index) => `sk-${index}-${"x".repeat(40)}${index}`),
    );
    const text = "an ordinary line of a log, of the usual length and without a secret ".repeat(10);
    const start = performance.now();
    for (let round = 0; round < 100; round++) many.redact(text);
    expect((performance.now() - start) / 100).toBeLessThan(20);
  });
});

describe("redactValue", () => {
  const redactor = createRedactor(["hunter2"]);

  test("goes through objects, lists, maps, errors and their causes, keys included", () => {
    const error = new Error("no hunter2", { cause: { header: "Bearer hunter2" } });
    Object.assign(error, { code: "E", request: { key: "hunter2" } });
    const value = redactor.redactValue({
      list: ["hunter2", 1, null, true],
      map: new Map([["hunter2", new Set(["hunter2"])]]),
      error,
      all: new AggregateError([new Error("hunter2")], "many"),
      hunter2: new URL("http://u:hunter2@host/"),
    });
    expect(value).toMatchObject({
      list: ["[redacted]", 1, null, true],
      map: { "[redacted]": ["[redacted]"] },
      error: {
        type: "Error",
        message: "no [redacted]",
        code: "E",
        request: { key: "[redacted]" },
        cause: { header: "Bearer [redacted]" },
      },
      all: { errors: [{ message: "[redacted]" }] },
      "[redacted]": "http://u:[redacted]@host/",
    });
    expect(JSON.stringify(value)).not.toContain("hunter2");
  });

  test("is bounded in depth, number and length, and never leaves half a secret at a cut", () => {
    const ring: Record<string, unknown> = { name: "ring" };
    ring.self = ring;
    expect(redactor.redactValue(ring)).toEqual({ name: "ring", self: "[circular]" });

    const deep = Array.from({ length: 100 }).reduce<unknown>((inner) => ({ inner }), "hunter2");
    expect(JSON.stringify(redactor.redactValue(deep))).toMatch(/^(\{"inner":){8}"\[too deep\]"\}{8}$/);

    const wide = redactor.redactValue(Array.from({ length: 1_000_000 }, (_, index) => index));
    expect(JSON.stringify(wide).length).toBeLessThan(30_000);

    const long = redactor.redactValue(`${"x".repeat(65_532)}hunter2${"y".repeat(1_000)}`);
    expect(String(long).endsWith("x[red[cut]")).toBe(true);
  });

  test("survives what cannot be read or written", () => {
    const hostile = {
      get bad(): string {
        throw new Error("no");
      },
    };
    expect(
      redactor.redactValue({ hostile, big: 10n, fn: () => 1, bytes: Buffer.alloc(3), at: new Date(0) }),
    ).toEqual({
      hostile: "[unreadable]",
      big: "10",
      fn: "[function]",
      bytes: "[3 bytes]",
      at: "1970-01-01T00:00:00.000Z",
    });
  });
});
