// The log: shape of a line, and that neither a secret nor a deceiving character reaches it.
import { describe, expect, test } from "vitest";
import { Fault } from "../../../src/kernel/fault.ts";
import { createLog, forRun, type Log } from "../../../src/telemetry/log.ts";
import { createRedactor } from "../../../src/telemetry/redaction.ts";
import { escapeUnsafe, stripUnsafe } from "../../../src/telemetry/unsafe-characters.ts";

const SECRET = "sk-canary-4711";

function openLog(secrets: readonly string[], level: "trace" | "info" | "silent" = "trace") {
  const lines: string[] = [];
  const redactor = createRedactor(secrets);
  const log = createLog({ level, redactor, stream: { write: (line) => void lines.push(line) } });
  return { log, lines, redactor, last: (): unknown => JSON.parse(lines.at(-1) ?? "") };
}

test("a line is JSON with level, time, service, run and message", () => {
  const { log, lines, last } = openLog([]);
  forRun(log, "run_1").info({ port: 8765 }, "listening");
  expect(last()).toEqual({
    level: "info",
    time: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
    service: "pillion",
    runId: "run_1",
    port: 8765,
    msg: "listening",
  });
  expect(lines.join("")).toMatch(/^[^\n]+\n$/);
});

test("what is below the level is not written", () => {
  const { log, lines } = openLog([], "info");
  log.debug("no");
  expect(openLog([], "silent").log.isLevelEnabled("fatal")).toBe(false);
  expect(lines).toEqual([]);
});

test("an error is told with its name, code and causes", () => {
  const { log, last } = openLog([]);
  log.error(new Fault("harness_crashed", "It ended.", { cause: new Error("SIGSEGV") }));
  expect(last()).toMatchObject({
    level: "error",
    msg: "It ended.",
    err: { type: "Fault", message: "It ended.", code: "harness_crashed", cause: { message: "SIGSEGV" } },
  });
});

describe("a secret", () => {
  const ways: Record<string, (log: Log) => void> = {
    "in the message": (log) => log.info(`key ${SECRET}`),
    "in a message's argument": (log) => log.info("key %s %j", SECRET, { key: SECRET }),
    "in a field": (log) => log.info({ headers: { authorization: [`Bearer ${SECRET}`] } }, "call"),
    "in a field's name": (log) => log.info({ [SECRET]: 1 }, "call"),
    "in an error": (log) => log.error(new Error(`401 for ${SECRET}`)),
    "in an error's field": (log) => log.error(Object.assign(new Error("401"), { config: { key: SECRET } })),
    "in an error's cause": (log) =>
      log.error({ err: new Error("a", { cause: new Error(SECRET) }) }, "failed"),
    "in a cause that is no error": (log) => log.error({ err: new Error("a", { cause: SECRET }) }, "failed"),
    "in an error under another name": (log) => log.error({ reason: new Error(SECRET) }, "failed"),
    "in a child's fields": (log) => log.child({ key: SECRET }).info("child"),
    "as base64": (log) => log.info(Buffer.from(`user:${SECRET}`).toString("base64")),
    "as JSON in a message": (log) => log.info(JSON.stringify({ body: JSON.stringify({ key: SECRET }) })),
    "as JSON of bytes": (log) => log.info({ body: Buffer.from(SECRET) }, "body"),
  };

  test.each(Object.entries(ways))("%s never reaches the log", (_name, write) => {
    const { log, lines } = openLog([SECRET]);
    write(log);
    expect(lines).toHaveLength(1);
    expect(lines[0]).not.toMatch(/canary|4711/);
    expect(lines[0]).not.toContain(Buffer.from("canary-47").toString("base64").slice(1, 11));
    expect(() => JSON.parse(lines[0] ?? "")).not.toThrow();
  });

  test.each(Object.entries(ways).filter(([name]) => !name.includes("base64") && !name.includes("bytes")))(
    "%s would be found by the same look, were it not known",
    (_name, write) => {
      const { log, lines } = openLog([]);
      write(log);
      expect(lines[0]).toContain(SECRET);
    },
  );

  test("that is learnt later is taken out from then on", () => {
    const { log, lines, redactor } = openLog([]);
    const child = forRun(log, "run_1");
    redactor.add(SECRET);
    child.info(SECRET);
    expect(lines[0]).not.toContain(SECRET);
  });

  test.each(['"', "{", ":", "e", "\\", ","])("that is only %s cannot break a line", (secret) => {
    const { log, lines } = openLog([secret]);
    log.info({ field: `a${secret}b` }, `c${secret}d`);
    expect(() => JSON.parse(lines[0] ?? "")).not.toThrow();
    expect(lines[0]).toContain("[redacted]");
  });
});

describe("deceiving characters", () => {
  const deceivers = [
    "\u001b[2J",
    "\u009b2J",
    "\u007f",
    "\u202e",
    "\u2066",
    "\u200b",
    "\ufeff",
    "\u00ad",
    "\u2028",
  ];

  test.each(deceivers.map((text) => [JSON.stringify(escapeUnsafe(text)), text]))(
    "%s is escaped",
    (_name, text) => {
      const { log, lines, last } = openLog([]);
      log.info({ [`k${text}`]: `v${text}` }, `m${text}\r\nfake line`);
      expect(lines[0]).toMatch(/^[\x20-\x7e]+\n$/);
      expect(last()).toMatchObject({ msg: `m${text}\r\nfake line`, [`k${text}`]: `v${text}` });
      expect(JSON.stringify({ text })).toBe(`{"text":${JSON.stringify(text)}}`); // JSON alone would keep most of them
    },
  );

  test("tags and lone surrogates are escaped, ordinary text of any language is not", () => {
    expect(escapeUnsafe("a\u{e0041}b\ud800c")).toBe("a\\udb40\\udc41b\\ud800c");
    expect(escapeUnsafe("Grüße, 世界, مرحبا, 👍\ttab\n")).toBe("Grüße, 世界, مرحبا, 👍\ttab\n");
  });

  test("stripping takes terminal sequences with their text", () => {
    expect(
      stripUnsafe("a\u001b[31mred\u001b[0m b\u001b]0;title\u0007c\u001b]8;;http://x\u001b\\d\r\u0008e"),
    ).toBe("ared bcde");
    expect(stripUnsafe("cut \u001b[3")).toBe("cut [3");
  });
});
