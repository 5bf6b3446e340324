import { type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { DatabaseSync } from "node:sqlite";
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { setImmediate as turn } from "node:timers/promises";
import { build } from "esbuild";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { EventBody, RunEvent } from "#contract/event";
import { NO_EGRESS, type Run } from "#contract/run";
import type { Fault } from "../../src/kernel/fault.ts";
import { createEventLog, readToEnd } from "../../src/runs/event-log.ts";
import { type Journal, openJournal, refuseOldSqlite } from "../../src/runs/journal.ts";

const journalUrl = new URL("../../src/runs/journal.ts", import.meta.url);
const never = new AbortController().signal;
let root: string;
let folders = 0;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "pillion-journal-"));
});
afterAll(() => rm(root, { recursive: true, force: true }));

const newFile = (): string => join(root, String(folders++), "journal.db");
const toId = (number: number): string => `run_${String(number).padStart(26, "0")}`;
const id = toId(1);
const at = "2026-11-01T00:00:00.000Z";
const noUsage = { inputTokens: 0, outputTokens: 0, cacheReadTokens: 0, costUsd: null, modelCalls: 0 };

function toRun(over: Partial<Run> = {}): Run {
  const timings = {
    createdAt: at,
    startedAt: null,
    endedAt: null,
    queuedMs: null,
    sandboxMs: null,
    preparingMs: null,
  };
  return {
    id,
    state: "running",
    outcome: null,
    output: null,
    model: "demo/tour",
    demo: true,
    usage: noUsage,
    egress: NO_EGRESS,
    stopReason: null,
    exit: null,
    stop: null,
    receipt: null,
    harness: null,
    timings: { ...timings, firstOutputMs: null, totalMs: null },
    failure: null,
    metadata: {},
    lastSeq: 1,
    ...over,
  };
}

const toStarted = (runId: string): EventBody => ({
  type: "run.started",
  runId,
  state: "queued",
  model: "demo/tour",
  demo: true,
});
const toEnded = (runId: string): EventBody => ({
  type: "run.ended",
  runId,
  outcome: "succeeded",
  output: null,
  stopReason: null,
  usage: noUsage,
  egress: NO_EGRESS,
  exit: null,
  stop: null,
  failure: null,
});
const toDelta = (seq: number, text = `text ${seq}`): RunEvent => ({ type: "message.delta", text, seq, at });
const started = (runId = id): RunEvent => ({ ...toStarted(runId), seq: 1, at });
const ended = (seq: number, runId = id): RunEvent => ({ ...toEnded(runId), seq, at });
const oneTo = (last: number): number[] => Array.from({ length: last }, (_, index) => index + 1);

function fault(code: string, message?: RegExp) {
  return expect.objectContaining({ code, ...(message && { message: expect.stringMatching(message) }) });
}

async function openWithRun(file = newFile()): Promise<Journal> {
  const journal = await openJournal({ file });
  await journal.createRun(toRun(), started(), { prompt: "p" });
  return journal;
}

async function collect(events: AsyncIterable<RunEvent>): Promise<number[]> {
  const numbers: number[] = [];
  for await (const { seq } of events) numbers.push(seq);
  return numbers;
}

function runChild(
  script: string,
  file: string,
  shell?: string,
): ChildProcessByStdio<null, Readable, Readable> {
  const code = script.replaceAll("JOURNAL_URL", JSON.stringify(journalUrl.href));
  const args = ["--input-type=module", "-e", code, file];
  const [command, all] = shell ? ["sh", ["-c", shell, process.execPath, ...args]] : [process.execPath, args];
  return spawn(command, all, { stdio: ["ignore", "pipe", "pipe"] });
}

/** Appends as fast as it can, one call after the other and in bursts, and prints what was acknowledged. */
const writerScript = `
  import { writeSync } from "node:fs";
  // At once, so that a kill loses nothing of it; a pipe may be full while nobody reads.
  const say = (text) => { for (;;) try { return writeSync(1, text); } catch (error) { if (error.code !== "EAGAIN") throw error; } };
  import { openJournal } from JOURNAL_URL;
  const journal = await openJournal({ file: process.argv[1] });
  const id = "run_" + "1".padStart(26, "0");
  const run = await journal.readRun(id);
  let seq = run.lastSeq;
  for (;;) {
    const batch = Array.from({ length: 1 + Math.floor(Math.random() * 30) }, () => {
      seq += 1;
      return { type: "message.delta", text: "text " + seq, seq, at: "${at}" };
    });
    const half = Math.ceil(batch.length / 2);
    const write = (events) =>
      events.length === 0 ? undefined : journal
        .append(id, events, { ...run, lastSeq: events.at(-1).seq })
        .then(() => say(events.at(-1).seq + "\\n"));
    await Promise.all([write(batch.slice(0, half)), write(batch.slice(half))]);
  }
`;

describe("the journal", () => {
  it("gives back a run and its events whole", async () => {
    const file = newFile();
    const run = toRun({ metadata: { 'a "quoted" key': "ü\u0000\u2028" }, output: "out" });
    const odd = toDelta(2, "lone \ud800 nul \u0000 line \u2028");
    {
      await using journal = await openJournal({ file });
      await journal.createRun(run, started(), { prompt: "p" });
      await journal.append(id, [odd, toDelta(3)], { ...run, lastSeq: 3 });
      expect(await journal.readEvents(id, 0, 100)).toEqual([started(), odd, toDelta(3)]);
    }
    await using journal = await openJournal({ file });
    expect(await journal.readEvents(id, 1, 1)).toEqual([odd]);
    expect(await journal.readEvents(id, 3, 100)).toEqual([]);
    expect(await journal.readRun(id)).toEqual({ ...run, lastSeq: 3 });
    expect(await journal.readLastSeq(id)).toBe(3);
    expect(await journal.readRun(toId(2))).toBe(undefined);
    expect(await journal.readLastSeq(toId(2))).toBe(undefined);
    await journal.check();
  });

  it("refuses gaps, repeats, unknown runs and anything after run.ended, and keeps what was there", async () => {
    await using journal = await openWithRun();
    const append = (...events: RunEvent[]) =>
      journal.append(id, events, toRun({ lastSeq: events.at(-1)!.seq }));
    await expect(append(toDelta(3))).rejects.toEqual(fault("internal"));
    await expect(append(toDelta(1))).rejects.toEqual(fault("internal"));
    await expect(append(toDelta(2), toDelta(4))).rejects.toEqual(fault("internal"));
    await expect(journal.createRun(toRun(), started(), {})).rejects.toEqual(fault("internal"));
    const missing = toRun({ id: toId(9), lastSeq: 2 });
    await expect(journal.append(toId(9), [toDelta(2)], missing)).rejects.toEqual(fault("run_not_found"));
    await append(toDelta(2));
    await journal.append(id, [ended(3)], toRun({ lastSeq: 3, state: "ended" }));
    await expect(append(toDelta(4))).rejects.toEqual(fault("wrong_state"));
    await expect(journal.append(id, [], toRun({ lastSeq: 3 }))).rejects.toEqual(fault("wrong_state"));
    expect(await journal.readEvents(id, 0, 100)).toEqual([started(), toDelta(2), ended(3)]);
    expect(await journal.readRun(id)).toEqual(toRun({ lastSeq: 3, state: "ended" }));
  });

  it("refuses events and a report that do not belong together", async () => {
    await using journal = await openWithRun();
    const wrong = fault("internal", /do not belong together/);
    await expect(journal.append(id, [toDelta(2)], toRun({ lastSeq: 1 }))).rejects.toEqual(wrong);
    await expect(journal.append(toId(2), [toDelta(2)], toRun({ lastSeq: 2 }))).rejects.toEqual(wrong);
    await expect(journal.append(id, [ended(2)], toRun({ lastSeq: 2 }))).rejects.toEqual(wrong);
    await expect(journal.append(id, [], toRun({ state: "ended" }))).rejects.toEqual(wrong);
    const many = Array.from({ length: 101 }, (_, index) => toDelta(index + 2));
    await expect(journal.append(id, many, toRun({ lastSeq: 102 }))).rejects.toEqual(wrong);
  });

  it("lets the database itself hold the rules", async () => {
    const file = newFile();
    await using journal = await openWithRun(file);
    await journal.append(id, [ended(2)], toRun({ lastSeq: 2, state: "ended" }));
    await journal.createRun(toRun({ id: toId(2) }), started(toId(2)), {});
    using database = new DatabaseSync(file);
    const insert = (runId: string, seq: number): void => {
      database.prepare("INSERT INTO events VALUES (?, ?, 'x', '{}')").run(runId, seq);
    };
    expect(() => insert(id, 3)).toThrow("run_ended");
    expect(() => insert(toId(2), 3)).toThrow("seq_gap");
    expect(() => insert(toId(2), 1)).toThrow("seq_gap");
    expect(() => insert(toId(3), 1)).toThrow("FOREIGN KEY");
    expect(() => database.exec("UPDATE runs SET state = 'running'")).toThrow("run_ended");
    expect(() => database.exec("DELETE FROM runs")).toThrow("run_open");
  });

  it("does not let one refused write fail its neighbours in the same commit", async () => {
    const file = newFile();
    await using journal = await openWithRun(file);
    await journal.createRun(toRun({ id: toId(2) }), started(toId(2)), {});
    const results = await Promise.allSettled([
      journal.append(id, [toDelta(2)], toRun({ lastSeq: 2 })),
      journal.append(id, [toDelta(3), toDelta(7)], toRun({ lastSeq: 7 })),
      journal.append(toId(2), [toDelta(2)], toRun({ id: toId(2), lastSeq: 2 })),
      journal.deleteRun(id),
      journal.append(id, [toDelta(3)], toRun({ lastSeq: 3 })),
    ]);
    expect(results.map(({ status }) => status)).toEqual([
      "fulfilled",
      "rejected",
      "fulfilled",
      "rejected",
      "fulfilled",
    ]);
    expect((await journal.readEvents(id, 0, 100)).map(({ seq }) => seq)).toEqual([1, 2, 3]);
    expect((await journal.readEvents(toId(2), 0, 100)).map(({ seq }) => seq)).toEqual([1, 2]);
  });

  it("ends a page of runs early where their results are long, and goes on from its last id", async () => {
    await using journal = await openJournal({ file: newFile() });
    const output = "x".repeat(1024 * 1024);
    for (let number = 1; number <= 10; number += 1)
      await journal.createRun(toRun({ id: toId(number), output }), started(toId(number)), {});
    const first = await journal.listRuns({ limit: 10 });
    expect(first.length).toBeLessThan(6);
    const seen = [...first];
    for (let last = first.at(-1); last !== undefined; ) {
      const page = await journal.listRuns({ limit: 10, before: last.id });
      seen.push(...page);
      last = page.at(-1);
    }
    expect(seen.map(({ id }) => id)).toEqual([10, 9, 8, 7, 6, 5, 4, 3, 2, 1].map(toId));
  });

  it("lists newest first, by state, by metadata and before an id", async () => {
    await using journal = await openJournal({ file: newFile() });
    for (let number = 1; number <= 6; number += 1) {
      const metadata = { team: number % 2 ? "a" : 'b"', 'odd "key': "1" };
      await journal.createRun(toRun({ id: toId(number), metadata }), started(toId(number)), {});
    }
    await journal.append(toId(3), [ended(2, toId(3))], toRun({ id: toId(3), lastSeq: 2, state: "ended" }));
    const list = async (query: Omit<Parameters<Journal["listRuns"]>[0], "limit">, limit = 100) =>
      (await journal.listRuns({ ...query, limit })).map((run) => Number(run.id.slice(4)));
    expect(await list({})).toEqual([6, 5, 4, 3, 2, 1]);
    expect(await list({}, 2)).toEqual([6, 5]);
    expect(await list({ before: toId(5) }, 2)).toEqual([4, 3]);
    expect(await list({ state: "ended" })).toEqual([3]);
    expect(await list({ metadata: { team: 'b"', 'odd "key': "1" } })).toEqual([6, 4, 2]);
    expect(await list({ metadata: { team: "a", other: "x" } })).toEqual([]);
    expect(await list({ metadata: { team: "a" }, state: "running", before: toId(5) })).toEqual([1]);
    expect((await journal.readOpenRuns()).map((run) => run.id)).toEqual([1, 2, 4, 5, 6].map(toId));
  });

  it("forgets an ended run whole, and no other", async () => {
    await using journal = await openWithRun();
    await expect(journal.deleteRun(id)).rejects.toEqual(fault("wrong_state"));
    await journal.append(id, [ended(2)], toRun({ lastSeq: 2, state: "ended" }));
    await journal.deleteRun(id);
    await expect(journal.deleteRun(id)).rejects.toEqual(fault("run_not_found"));
    expect([await journal.readRun(id), await journal.readEvents(id, 0, 9)]).toEqual([undefined, []]);
  });

  it("ends a page early when its events are big, never empty", async () => {
    await using journal = await openWithRun();
    const big = "x".repeat(700_000);
    for (const seq of [2, 3, 4]) await journal.append(id, [toDelta(seq, big)], toRun({ lastSeq: seq }));
    expect((await journal.readEvents(id, 0, 100)).map(({ seq }) => seq)).toEqual([1, 2, 3]);
    expect(await collect(readToEnd(journal, id, 0, never))).toEqual([1, 2, 3, 4]);
  });

  it("names the run and the number of a damaged row", async () => {
    const file = newFile();
    await using journal = await openWithRun(file);
    await journal.append(id, [toDelta(2), toDelta(3)], toRun({ lastSeq: 3 }));
    using database = new DatabaseSync(file);
    const damage = (body: string): void => {
      database.prepare("UPDATE events SET body = ? WHERE seq = 2").run(body);
    };
    const damaged = fault("internal", new RegExp(`Event 2 of run ${id}`));
    for (const body of ["{", '{"type":"message.delta"}', JSON.stringify(toDelta(3)), '{"type":"no.such"}']) {
      damage(body);
      await expect(journal.readEvents(id, 0, 100)).rejects.toEqual(damaged);
    }
    expect(await journal.readEvents(id, 2, 100)).toEqual([toDelta(3)]);
    database.prepare("UPDATE runs SET report = ?").run(JSON.stringify(toRun({ id: toId(2), lastSeq: 3 })));
    const damagedRun = fault("internal", new RegExp(`run ${id} at event 3`));
    await expect(journal.readRun(id)).rejects.toEqual(damagedRun);
    await expect(journal.listRuns({ limit: 9 })).rejects.toEqual(damagedRun);
  });

  it("keeps its files to its own user", async () => {
    const file = newFile();
    await using journal = await openWithRun(file);
    await journal.check();
    const names = await readdir(dirname(file));
    expect(names.toSorted()).toEqual(["instance.lock", "journal.db", "journal.db-shm", "journal.db-wal"]);
    for (const name of names) expect((await stat(join(dirname(file), name))).mode & 0o777).toBe(0o600);
  });
});

describe("opening a journal", () => {
  it("refuses a second instance, in this process or another, until the first is closed", async () => {
    const file = newFile();
    const inUse = fault("internal", /Another Pillion is using this data directory/);
    {
      await using journal = await openWithRun(file);
      await expect(openJournal({ file })).rejects.toEqual(inUse);
      const child = runChild(
        `import { openJournal } from JOURNAL_URL;
         await openJournal({ file: process.argv[1] }).catch((fault) => console.log(fault.message));`,
        file,
      );
      expect(await text(child.stdout)).toMatch(/Another Pillion/);
      await journal.append(id, [toDelta(2)], toRun({ lastSeq: 2 }));
    }
    await using journal = await openJournal({ file });
    expect(await journal.readLastSeq(id)).toBe(2);
  });

  it("refuses a journal of a newer version, and another program's database", async () => {
    const newer = newFile();
    await (await openWithRun(newer))[Symbol.asyncDispose]();
    const change = (file: string, sql: string): void => {
      using database = new DatabaseSync(file);
      database.exec(sql);
    };
    change(newer, "PRAGMA user_version = 2");
    await expect(openJournal({ file: newer })).rejects.toEqual(fault("internal", /newer Pillion/));
    change(newer, "PRAGMA user_version = 1");
    await using journal = await openJournal({ file: newer });
    expect(await journal.readLastSeq(id)).toBe(1);

    const foreign = join(root, "foreign.db");
    change(foreign, "CREATE TABLE theirs (x)");
    await expect(openJournal({ file: foreign })).rejects.toEqual(fault("internal", /another program/));
    const garbage = join(root, "garbage.db");
    await writeFile(garbage, "no database ".repeat(1000));
    await expect(openJournal({ file: garbage })).rejects.toEqual(fault("internal", /cannot be opened/));
  });

  it("refuses an SQLite with the WAL bug", () => {
    for (const version of ["3.51.2", "3.50.9", "2.99.99", "none"]) {
      expect(() => refuseOldSqlite(version)).toThrow(fault("internal", /needs 3\.51\.3 or newer/));
    }
    for (const version of ["3.51.3", "3.51.10", "3.53.4", "4.0.0"]) refuseOldSqlite(version);
  });

  it("works from bundles, with the thread in its own", async () => {
    const folder = join(root, "dist");
    await build({
      entryPoints: {
        pillion: journalUrl.pathname,
        "journal-worker": journalUrl.pathname.replace(".ts", "-worker.ts"),
      },
      outdir: folder,
      outExtension: { ".js": ".mjs" },
      bundle: true,
      platform: "node",
      format: "esm",
    });
    expect((await stat(join(folder, "journal-worker.mjs"))).size).toBeLessThan(20_000);
    const child = runChild(
      `import { openJournal } from ${JSON.stringify(join(folder, "pillion.mjs"))};
       await using journal = await openJournal({ file: process.argv[1] });
       await journal.check();
       console.log("checked");`,
      newFile(),
    );
    expect([await text(child.stdout), await text(child.stderr)]).toEqual(["checked\n", ""]);
  });
});

describe("a journal in trouble", () => {
  const toThread = (script: string): URL =>
    new URL(
      `data:text/javascript,${encodeURIComponent(`import { parentPort } from "node:worker_threads"; ${script}`)}`,
    );

  for (const death of ['throw new Error("died")', "process.exit(3)"]) {
    it(`rejects every waiting call when its thread dies by ${death}, and says so once`, async () => {
      const failures: Fault[] = [];
      await using journal = await openJournal({
        file: newFile(),
        workerUrl: toThread(`parentPort.postMessage({ opened: true });
          parentPort.on("message", ({ id }) => {
            if (id > 1) ${death};
            parentPort.postMessage({ replies: [{ id, rows: [] }] });
          });`),
        onFailure: (failure) => failures.push(failure),
      });
      await journal.check();
      const results = await Promise.allSettled([journal.check(), journal.check(), journal.readRun(id)]);
      const unusable = fault("internal", /unusable/);
      expect(results).toEqual(results.map(() => ({ status: "rejected", reason: unusable })));
      await expect(journal.check()).rejects.toEqual(unusable);
      expect(failures).toEqual([unusable]);
      expect(journal.failure).toBe(failures[0]);
    });
  }

  it("is not opened when its thread dies first", async () => {
    const workerUrl = toThread('throw new Error("stillborn")');
    const unopened = fault("internal", /cannot be opened/);
    await expect(openJournal({ file: newFile(), workerUrl })).rejects.toEqual(unopened);
  });

  it("says storage_full when the disk refuses, and goes on when it can", async () => {
    const file = newFile();
    await (await openWithRun(file))[Symbol.asyncDispose]();
    // A bound on file size is the disk that refuses without a mount of its own.
    const child = runChild(
      `import { openJournal } from JOURNAL_URL;
       const journal = await openJournal({ file: process.argv[1] });
       const run = await journal.readRun("${id}");
       const write = (seq, text) => journal
         .append(run.id, [{ type: "message.delta", text, seq, at: "${at}" }], { ...run, lastSeq: seq })
         .then(() => "written", (fault) => fault.code);
       const big = "x".repeat(600_000);
       console.log(await Promise.all([write(2, "small"), write(3, big), write(3, "small again")]));
       console.log(await write(4, big), await write(4, "small"), await journal.check().catch((fault) => fault));
       await journal[Symbol.asyncDispose]();`,
      file,
      'ulimit -f 512 && exec "$0" "$@"',
    );
    expect(await text(child.stdout)).toBe(
      "[ 'written', 'storage_full', 'written' ]\nstorage_full written undefined\n",
    );
    await using journal = await openJournal({ file });
    expect((await journal.readEvents(id, 0, 100)).map(({ seq }) => seq)).toEqual([1, 2, 3, 4]);
  });

  it("refuses calls after its disposal, which waits for all before it", async () => {
    const file = newFile();
    const journal = await openWithRun(file);
    const written = journal.append(id, [toDelta(2)], toRun({ lastSeq: 2 }));
    await Promise.all([journal[Symbol.asyncDispose](), journal[Symbol.asyncDispose]()]);
    await written;
    await expect(journal.check()).rejects.toEqual(fault("draining"));
    expect(journal.failure).toBe(undefined);
    expect(await readdir(dirname(file))).not.toContain("journal.db-wal");
  });

  it("keeps every acknowledged event through 20 times kill -9, and its lock is free at once", async () => {
    const file = newFile();
    await (await openWithRun(file))[Symbol.asyncDispose]();
    let total = 0;
    for (let round = 1; round <= 20; round += 1) {
      const child = runChild(writerScript, file);
      const wanted = total + 50 + Math.floor(Math.random() * 1500);
      let printed = "";
      child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
        printed += chunk;
        const latest = Number(printed.slice(0, printed.lastIndexOf("\n")).split("\n").at(-1));
        if (latest >= wanted) child.kill("SIGKILL");
      });
      const errors = text(child.stderr);
      await once(child, "close");
      expect(await errors).toBe("");
      const acknowledged = Math.max(...printed.split("\n").slice(0, -1).map(Number));
      await using journal = await openJournal({ file });
      const lastSeq = (await journal.readLastSeq(id)) ?? 0;
      expect(acknowledged).toBeGreaterThanOrEqual(wanted);
      expect(lastSeq).toBeGreaterThanOrEqual(acknowledged);
      expect((await journal.readRun(id))?.lastSeq).toBe(lastSeq);
      expect(await collect(readToEnd(journal, id, total, never))).toEqual(oneTo(lastSeq).slice(total));
      total = lastSeq;
    }
    console.log(`kill -9: 20 rounds, ${total} events, none lost`);
  }, 120_000);
});

describe("many runs at once", () => {
  it("write and are watched side by side, past and live", async () => {
    await using journal = await openJournal({ file: newFile() });
    const count = 200;
    const runs = oneTo(50).map(async (number) => {
      const runId = toId(number);
      const report = (): Run => toRun({ id: runId, state: state() });
      let isEnding = false;
      const state = (): Run["state"] => (isEnding ? "ended" : "running");
      const log = await createEventLog({ journal, report, first: toStarted(runId), request: {} });
      const early = collect(log.watch(0, never));
      for (let index = 0; index < count; index += 1) {
        void log.append({ type: "message.delta", text: `${number} ${index}` });
        if (index % 7 === number % 7) await turn();
        if (index % 50 === 0) await log.drained();
      }
      const late = collect(log.watch(0, never));
      isEnding = true;
      await log.append(toEnded(runId));
      const all = oneTo(count + 2);
      expect(await Promise.all([early, late])).toEqual([all, all]);
      expect(await collect(readToEnd(journal, runId, 0, never))).toEqual(all);
    });
    await Promise.all(runs);
    expect(await journal.readOpenRuns()).toEqual([]);
  });

  it("leave the main thread free while the disk makes them wait", async () => {
    const file = newFile();
    await using journal = await openWithRun(file);
    using other = new DatabaseSync(file);
    other.exec("BEGIN IMMEDIATE");
    let isWritten = false;
    const written = journal.append(id, [toDelta(2)], toRun({ lastSeq: 2 })).then(() => {
      isWritten = true;
    });
    let turns = 0;
    for (const end = performance.now() + 300; performance.now() < end; turns += 1) await turn();
    expect([isWritten, turns > 100]).toEqual([false, true]);
    other.exec("COMMIT");
    await written;
  });

  it("are fast enough (printed, not asserted)", async () => {
    const began = performance.now();
    await using journal = await openJournal({ file: newFile() });
    const openMs = performance.now() - began;
    await journal.createRun(toRun(), started(), {});
    let seq = 1;
    const single = await measure(3000, async () => {
      seq += 1;
      await journal.append(id, [toDelta(seq)], toRun({ lastSeq: seq }));
    });
    const delay = monitorEventLoopDelay({ resolution: 1 });
    delay.enable();
    const batched = await measure(500, async () => {
      const events = oneTo(100).map((index) => toDelta(seq + index));
      seq += 100;
      await journal.append(id, events, toRun({ lastSeq: seq }));
    });
    delay.disable();
    const read = await measure(1, async () => void (await collect(readToEnd(journal, id, 0, never))));
    const report = (): Run => toRun({ id: toId(2) });
    const log = await createEventLog({ journal, report, first: toStarted(toId(2)), request: {} });
    const piped = await measure(50_000, async () => {
      void log.append({ type: "message.delta", text: "some words" });
      await log.drained();
    });
    await log.save();
    const watcher = log.watch(log.lastSeq, never);
    const shown = await measure(1000, async () => {
      const next = watcher.next();
      void log.append({ type: "message.delta", text: "some words" });
      await next;
    });
    console.log(
      `open ${openMs.toFixed(1)} ms; single ${single.perSecond} commits/s; ` +
        `batches of 100: ${batched.perSecond * 100} events/s, main thread's longest turn ${(delay.max / 1e6).toFixed(1)} ms; ` +
        `log ${piped.perSecond} events/s; reading ${read.perSecond * seq} events/s; ` +
        `append to watcher ${shown.medianMs} ms median`,
    );
  });
});

async function measure(times: number, work: () => Promise<void>) {
  const took: number[] = [];
  const began = performance.now();
  for (let index = 0; index < times; index += 1) {
    const from = performance.now();
    await work();
    took.push(performance.now() - from);
  }
  const perSecond = Math.round((times * 1000) / (performance.now() - began));
  return { perSecond, medianMs: (took.toSorted((a, b) => a - b)[times >> 1] ?? 0).toFixed(2) };
}
