/** The journal's database, as its thread sees it: what it stores is JSON text it never looks into. */
import { closeSync, mkdirSync, openSync } from "node:fs";
import { dirname, join } from "node:path";
import { DatabaseSync, type SQLInputValue } from "node:sqlite";

/** One event on its way to the disk; `type` stands beside the text so that the database can guard the end. */
export type EventText = { readonly seq: number; readonly type: string; readonly body: string };

export type JournalWrite =
  | {
      readonly op: "create";
      readonly runId: string;
      readonly state: string;
      readonly metadata: string;
      readonly report: string;
      readonly request: string;
      readonly events: readonly EventText[];
    }
  | {
      readonly op: "append";
      readonly runId: string;
      readonly state: string;
      readonly report: string;
      readonly events: readonly EventText[];
    }
  | { readonly op: "delete"; readonly runId: string }
  | { readonly op: "check" };

export type JournalRead =
  | { readonly op: "events"; readonly runId: string; readonly after: number; readonly limit: number }
  | { readonly op: "run"; readonly runId: string }
  | { readonly op: "lastSeq"; readonly runId: string }
  | { readonly op: "open" }
  | {
      readonly op: "list";
      readonly before: string;
      readonly state: string | null;
      readonly metadata: string;
      readonly limit: number;
    };

/** A run's report with its last number, or one event with its own. */
export type JournalRow = { readonly runId: string; readonly seq: number; readonly text: string };

/** Names of refusals; anything else is SQLite's own message with its `errcode`. */
export type JournalError = { readonly message: string; readonly errcode: number };

export type JournalReply = { readonly id: number } & (
  | { readonly rows: readonly JournalRow[] }
  | { readonly error: JournalError }
);

export type WriteCall = { readonly id: number; readonly request: JournalWrite };
export type ReadCall = { readonly id: number; readonly request: JournalRead };

/** A page of events ends early here, so that slow readers of big events cost little memory. */
const PAGE_MAX_CHARS = 1024 * 1024;
/** So does a page of runs: each may have a long result. */
const LIST_MAX_CHARS = 4 * 1024 * 1024;
const SCHEMA_VERSION = 1;
const BUSY_TIMEOUT_MS = 5000;
/** A process that was just killed may need a moment to be gone. */
const LOCK_TIMEOUT_MS = 500;
const SQLITE_BUSY = 5;

/** The last number is read from the events themselves, so it can never disagree with them. */
const SCHEMA = `
  CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    metadata TEXT NOT NULL CHECK (json_valid(metadata)),
    report TEXT NOT NULL,
    request TEXT NOT NULL
  ) STRICT;
  CREATE INDEX open_runs ON runs (id) WHERE state <> 'ended';

  CREATE TABLE events (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    seq INTEGER NOT NULL CHECK (seq >= 1),
    type TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (run_id, seq)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE health (id INTEGER PRIMARY KEY CHECK (id = 1), checks INTEGER NOT NULL) STRICT;
  INSERT INTO health VALUES (1, 0);

  CREATE TRIGGER events_are_contiguous BEFORE INSERT ON events
  WHEN NEW.seq <> 1 + coalesce((SELECT max(seq) FROM events WHERE run_id = NEW.run_id), 0)
  BEGIN SELECT RAISE(ABORT, 'seq_gap'); END;

  CREATE TRIGGER run_ended_is_last BEFORE INSERT ON events
  WHEN 'run.ended' = (SELECT type FROM events WHERE run_id = NEW.run_id ORDER BY seq DESC LIMIT 1)
  BEGIN SELECT RAISE(ABORT, 'run_ended'); END;

  CREATE TRIGGER ended_runs_stay BEFORE UPDATE ON runs WHEN OLD.state = 'ended'
  BEGIN SELECT RAISE(ABORT, 'run_ended'); END;

  CREATE TRIGGER open_runs_stay BEFORE DELETE ON runs WHEN OLD.state <> 'ended'
  BEGIN SELECT RAISE(ABORT, 'run_open'); END;

  PRAGMA user_version = ${SCHEMA_VERSION};
`;

export class OpeningRefused extends Error {
  readonly reason: "in_use" | "newer" | "foreign" | "unusable";
  constructor(reason: OpeningRefused["reason"], message: string) {
    super(message);
    this.reason = reason;
  }
}

/** The two database files: the journal, and beside it the lock that keeps a second instance out. */
export class JournalFile {
  readonly #lock: DatabaseSync;
  readonly #database: DatabaseSync;
  readonly #statements: ReturnType<typeof prepareStatements>;

  constructor(file: string) {
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
    this.#lock = openLock(join(dirname(file), "instance.lock"));
    try {
      this.#database = openDatabase(file);
    } catch (error) {
      this.#lock.close();
      throw error;
    }
    this.#statements = prepareStatements(this.#database);
  }

  /** Several writes in one transaction; each answers for itself. */
  commit(calls: readonly WriteCall[]): JournalReply[] {
    try {
      this.#database.exec("BEGIN IMMEDIATE");
      const replies = calls.map((call) => this.#writeInSavepoint(call));
      this.#database.exec("COMMIT");
      return replies;
    } catch (error) {
      // A full disk ends the transaction as a whole: then each is tried alone, since a small one may still fit.
      if (this.#database.isTransaction) this.#database.exec("ROLLBACK");
      if (calls.length > 1) return calls.flatMap((call) => this.commit([call]));
      return calls.map(({ id }) => ({ id, error: toError(error) }));
    }
  }

  read({ id, request }: ReadCall): JournalReply {
    try {
      return { id, rows: this.#readRows(request) };
    } catch (error) {
      return { id, error: toError(error) };
    }
  }

  close(): void {
    this.#database.close();
    this.#lock.close();
  }

  #writeInSavepoint({ id, request }: WriteCall): JournalReply {
    this.#database.exec("SAVEPOINT one");
    try {
      this.#write(request);
      this.#database.exec("RELEASE one");
      return { id, rows: [] };
    } catch (error) {
      if (!this.#database.isTransaction) throw error;
      this.#database.exec("ROLLBACK TO one; RELEASE one");
      return { id, error: toError(error) };
    }
  }

  #write(write: JournalWrite): void {
    const { insertRun, updateRun, insertEvent, deleteRun, check } = this.#statements;
    switch (write.op) {
      case "check":
        check.run();
        return;
      case "delete":
        if (deleteRun.run(write.runId).changes === 0) throw new Error("run_not_found");
        return;
      case "create":
        insertRun.run(write.runId, write.state, write.metadata, write.report, write.request);
        break;
      case "append":
        if (updateRun.run(write.state, write.report, write.runId).changes === 0)
          throw new Error("run_not_found");
    }
    for (const event of write.events) insertEvent.run(write.runId, event.seq, event.type, event.body);
  }

  #readRows(read: JournalRead): JournalRow[] {
    const { events, run, lastSeq, openRuns, list } = this.#statements;
    switch (read.op) {
      case "run":
        return toRows(run.iterate(read.runId));
      case "lastSeq":
        return toRows(lastSeq.iterate(read.runId));
      case "open":
        return toRows(openRuns.iterate());
      case "list":
        return toRows(list.iterate(read.before, read.state, read.metadata, read.limit), LIST_MAX_CHARS);
      case "events":
        return toRows(events.iterate(read.runId, read.after, read.limit), PAGE_MAX_CHARS);
    }
  }
}

function prepareStatements(database: DatabaseSync) {
  const lastSeq = "(SELECT coalesce(max(seq), 0) FROM events WHERE run_id = runs.id)";
  const selectRuns = `SELECT id AS runId, ${lastSeq} AS seq, report AS text FROM runs`;
  return {
    insertRun: database.prepare(
      "INSERT INTO runs (id, state, metadata, report, request) VALUES (?, ?, ?, ?, ?)",
    ),
    updateRun: database.prepare("UPDATE runs SET state = ?, report = ? WHERE id = ?"),
    insertEvent: database.prepare("INSERT INTO events (run_id, seq, type, body) VALUES (?, ?, ?, ?)"),
    deleteRun: database.prepare("DELETE FROM runs WHERE id = ?"),
    check: database.prepare("UPDATE health SET checks = checks + 1"),
    run: database.prepare(`${selectRuns} WHERE id = ?`),
    lastSeq: database.prepare(`SELECT id AS runId, ${lastSeq} AS seq, '' AS text FROM runs WHERE id = ?`),
    openRuns: database.prepare(`${selectRuns} WHERE state <> 'ended' ORDER BY id`),
    list: database.prepare(`${selectRuns} WHERE id < ?1 AND (?2 IS NULL OR state = ?2) AND NOT EXISTS (
        SELECT 1 FROM json_each(?3) AS wanted WHERE NOT EXISTS (
          SELECT 1 FROM json_each(runs.metadata) AS has WHERE has.key = wanted.key AND has.value = wanted.value))
      ORDER BY id DESC LIMIT ?4`),
    events: database.prepare(
      "SELECT run_id AS runId, seq, body AS text FROM events WHERE run_id = ? AND seq > ? ORDER BY seq LIMIT ?",
    ),
  };
}

/** Held by an open transaction as long as the process lives; the kernel lets go of it even after a SIGKILL. */
function openLock(file: string): DatabaseSync {
  createPrivately(file);
  const lock = new DatabaseSync(file, { timeout: LOCK_TIMEOUT_MS });
  try {
    lock.exec("PRAGMA journal_mode = MEMORY; PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE");
  } catch (error) {
    lock.close();
    const isBusy = (toError(error).errcode & 0xff) === SQLITE_BUSY;
    throw new OpeningRefused(isBusy ? "in_use" : "unusable", toError(error).message);
  }
  return lock;
}

function openDatabase(file: string): DatabaseSync {
  createPrivately(file);
  const database = new DatabaseSync(file, { timeout: BUSY_TIMEOUT_MS, enableForeignKeyConstraints: true });
  try {
    const version = readNumber(database, "PRAGMA user_version");
    if (version > SCHEMA_VERSION)
      throw new OpeningRefused("newer", `schema ${version} is newer than ${SCHEMA_VERSION}`);
    if (version === 0 && readNumber(database, "SELECT count(*) FROM sqlite_schema") > 0) {
      throw new OpeningRefused("foreign", "the file holds other tables and no schema version");
    }
    database.exec("PRAGMA journal_mode = WAL");
    // FULL: without an fsync at each commit a power cut loses events that were acknowledged.
    database.exec(
      "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 1000; PRAGMA journal_size_limit = 8388608",
    );
    const mode = database.prepare("PRAGMA journal_mode").get();
    if (mode?.journal_mode !== "wal")
      throw new OpeningRefused("unusable", "this file system cannot hold a WAL");
    if (version === 0) database.exec(`BEGIN IMMEDIATE; ${SCHEMA} COMMIT`);
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

/** SQLite would create the file readable to everyone; its companions take the mode of the file. */
function createPrivately(file: string): void {
  try {
    closeSync(openSync(file, "wx", 0o600));
  } catch (error) {
    // Never open one that exists: closing it again would drop every lock this process has on it.
    if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
  }
}

function readNumber(database: DatabaseSync, sql: string): number {
  const [value] = Object.values(database.prepare(sql).get() ?? {});
  return typeof value === "number" ? value : 0;
}

function toRows(
  found: Iterable<Record<string, SQLInputValue>>,
  maxChars = Number.POSITIVE_INFINITY,
): JournalRow[] {
  const rows: JournalRow[] = [];
  let chars = 0;
  for (const { runId, seq, text } of found) {
    if (typeof runId !== "string" || typeof seq !== "number" || typeof text !== "string") {
      throw new Error("a row has columns of other types than the schema's");
    }
    rows.push({ runId, seq, text });
    chars += text.length;
    if (chars >= maxChars) break;
  }
  return rows;
}

export function toError(thrown: unknown): JournalError {
  if (!(thrown instanceof Error)) return { message: String(thrown), errcode: 0 };
  const errcode = "errcode" in thrown && typeof thrown.errcode === "number" ? thrown.errcode : 0;
  return { message: thrown.message, errcode };
}
