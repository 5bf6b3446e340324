import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { SecretFinder, SecretScrubber } from "../../../src/broker/secret-scrubber.ts";
import { toTextForms } from "../../../src/secret-forms.ts";

const SECRET = "sk-canary-0123456789";

async function scrub(secret: string | readonly string[], chunks: readonly Buffer[]): Promise<Buffer> {
  const scrubber = new SecretScrubber(new SecretFinder([secret].flat()));
  const [bytes] = await Promise.all([buffer(scrubber), pipeline(Readable.from(chunks), scrubber)]);
  return bytes;
}

/** The expected answer, made the plain way from the whole text. */
function replaceAll(secret: string, bytes: Buffer): Buffer {
  return Buffer.from(bytes.toString("latin1").replaceAll(secret, "[redacted]"), "latin1");
}

function cut(bytes: Buffer, sizes: readonly number[]): Buffer[] {
  const chunks: Buffer[] = [];
  let rest = bytes;
  for (const size of sizes) {
    chunks.push(rest.subarray(0, size));
    rest = rest.subarray(size);
  }
  return [...chunks, rest].filter((chunk) => chunk.length > 0);
}

describe("a secret in a byte stream", () => {
  test("is replaced wherever it is cut in two", async () => {
    const text = Buffer.from(`before ${SECRET} after`);
    for (let at = 0; at <= text.length; at += 1) {
      expect((await scrub(SECRET, cut(text, [at]))).toString()).toBe("before [redacted] after");
    }
  });

  test("is replaced when it comes byte by byte", async () => {
    const text = Buffer.from(`${SECRET}${SECRET} x ${SECRET}`);
    const chunks = [...text].map((byte) => Buffer.from([byte]));
    expect((await scrub(SECRET, chunks)).toString()).toBe("[redacted][redacted] x [redacted]");
  });

  test("any other bytes pass unchanged, also a beginning of the secret at the end", async () => {
    const bytes = Buffer.concat([Buffer.from([0, 255, 254, 10, 13]), Buffer.from(SECRET.slice(0, -1))]);
    expect(await scrub(SECRET, [bytes])).toEqual(bytes);
  });

  test("a beginning that breaks off and begins anew is seen", async () => {
    expect((await scrub("aab", cut(Buffer.from("aaab aaaaab"), [1, 1, 1, 4, 1]))).toString()).toBe(
      "a[redacted] aaa[redacted]",
    );
  });

  test("only what may be its beginning is held back", async () => {
    const scrubber = new SecretScrubber(new SecretFinder([SECRET]));
    scrubber.write("data: hello\n\n");
    expect(String(scrubber.read())).toBe("data: hello\n\n");
    scrubber.write("data: sk-can");
    expect(String(scrubber.read())).toBe("data: ");
    scrubber.write("dy\n\n");
    expect(String(scrubber.read())).toBe("sk-candy\n\n");
  });

  test("however the bytes are cut, the result is that of the whole", async () => {
    const secret = fc.string({ unit: fc.constantFrom("a", "b", "c"), minLength: 2, maxLength: 5 });
    const text = fc.string({ unit: fc.constantFrom("a", "b", "c", "-"), maxLength: 60 });
    const sizes = fc.array(fc.integer({ min: 0, max: 7 }), { maxLength: 20 });
    await fc.assert(
      fc.asyncProperty(secret, text, sizes, async (word, said, cuts) => {
        const bytes = Buffer.from(said);
        expect((await scrub(word, cut(bytes, cuts))).toString()).toBe(replaceAll(word, bytes).toString());
      }),
      { numRuns: 300 },
    );
  });
});

test("of several secrets in one another, however the bytes are cut, the result is that of the whole", async () => {
  const word = fc.string({ unit: fc.constantFrom("a", "b", "c"), minLength: 1, maxLength: 5 });
  const text = fc.string({ unit: fc.constantFrom("a", "b", "c", "-"), maxLength: 60 });
  const sizes = fc.array(fc.integer({ min: 0, max: 7 }), { maxLength: 20 });
  await fc.assert(
    fc.asyncProperty(
      fc.array(word, { minLength: 2, maxLength: 4 }),
      text,
      sizes,
      async (words, said, cuts) => {
        const bytes = Buffer.from(said);
        expect((await scrub(words, cut(bytes, cuts))).toString()).toBe(
          (await scrub(words, [bytes])).toString(),
        );
        expect((await scrub(words, [bytes])).toString()).toBe(new SecretFinder(words).scrub(said));
      },
    ),
    { numRuns: 300 },
  );
});

test("a megabyte of nothing but secrets costs a look at each byte", async () => {
  const scrubber = new SecretScrubber(new SecretFinder(toTextForms(SECRET).map(({ text }) => text)));
  const bytes = Buffer.from(`${SECRET} `.repeat(50_000));
  const [clean] = await Promise.all([buffer(scrubber), pipeline(Readable.from([bytes]), scrubber)]);
  expect(clean.toString()).toBe("[redacted] ".repeat(50_000));
});

test("secrets as long as the contract lets them be are found, also where only their ends differ", async () => {
  const texts = ["one", "two", "six"].map((end) => `${"0123456789abcdef".repeat(1_000)}${end}`);
  const [one, two, six] = texts;
  const bytes = Buffer.from(`a ${one} b ${two}${six} c ${one?.slice(0, -1)}`);
  const clean = `a [redacted] b [redacted][redacted] c ${one?.slice(0, -1)}`;
  for (const sizes of [[], [1, 39, 16_000, 9], [16_004], [33, 33, 33]]) {
    expect((await scrub(texts, cut(bytes, sizes))).toString() === clean).toBe(true);
  }
  expect(new SecretFinder(texts).scrub(bytes.toString()) === clean).toBe(true);
});

test("an empty secret lets everything through and ends", async () => {
  expect((await scrub("", [Buffer.from("as it is")])).toString()).toBe("as it is");
});

test("of several secrets each is replaced, and where one holds another the longer one, however it is cut", async () => {
  const secrets = ["bare-0123456789", "Token bare-0123456789", "other-987654321"];
  const text = Buffer.from("a Token bare-0123456789 b bare-0123456789 c other-987654321 d other-98");
  const clean = "a [redacted] b [redacted] c [redacted] d other-98";
  for (let at = 0; at <= text.length; at += 1) {
    const scrubber = new SecretScrubber(new SecretFinder(secrets));
    const [bytes] = await Promise.all([buffer(scrubber), pipeline(Readable.from(cut(text, [at])), scrubber)]);
    expect(bytes.toString()).toBe(clean);
  }
  expect(new SecretFinder(secrets).scrub(text.toString())).toBe(clean);
});
