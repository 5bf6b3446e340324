/** The journal's own thread: the only holder of the database, because node:sqlite is synchronous.
 * Start-up counts, so this file imports node's own modules only; what it stores is JSON text it never looks into.
 */
import { parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import {
  JournalFile,
  type JournalRead,
  type JournalReply,
  type JournalWrite,
  OpeningRefused,
  type ReadCall,
  toError,
  type WriteCall,
} from "./journal-file.ts";

export type JournalMessage = {
  readonly id: number;
  readonly request: JournalWrite | JournalRead | { readonly op: "close" };
};

export type JournalOpening =
  | { readonly opened: true }
  | {
      readonly opened: false;
      readonly reason: "in_use" | "newer" | "foreign" | "unusable";
      readonly error: string;
    };

/** Everything the worker says: first an opening, then replies, in groups of one commit. */
export type JournalSaying = JournalOpening | { readonly replies: readonly JournalReply[] };

const BATCH_MAX_EVENTS = 100;
/** Reads between two looks for writes: many hungry watchers must not hold up a commit. */
const READS_PER_ROUND = 8;

if (parentPort !== null) serve(parentPort, toFile(workerData));

function serve(port: NonNullable<typeof parentPort>, file: string): void {
  const say = (saying: JournalSaying): void => port.postMessage(saying);
  let journal: JournalFile;
  try {
    journal = new JournalFile(file);
  } catch (error) {
    const reason = error instanceof OpeningRefused ? error.reason : "unusable";
    say({ opened: false, reason, error: toError(error).message });
    return;
  }
  say({ opened: true });
  const writes: WriteCall[] = [];
  const reads: ReadCall[] = [];
  let closeId: number | undefined;
  const take = ({ id, request }: JournalMessage): void => {
    if (request.op === "close") closeId = id;
    else if (isWrite(request)) writes.push({ id, request });
    else reads.push({ id, request });
  };
  port.on("message", (first: JournalMessage) => {
    take(first);
    do {
      // All that waits already joins this round, so a burst shares its commits and a lone write never waits.
      for (let next = receive(port); next !== undefined; next = receive(port)) take(next);
      for (const batch of toBatches(writes.splice(0))) say({ replies: journal.commit(batch) });
      // Reads come after the commits of the round: nothing is shown that is not on disk.
      for (const call of reads.splice(0, READS_PER_ROUND)) say({ replies: [journal.read(call)] });
    } while (reads.length > 0);
    if (closeId === undefined) return;
    journal.close();
    say({ replies: [{ id: closeId, rows: [] }] });
    port.close();
  });
}

function* toBatches(calls: readonly WriteCall[]): Generator<WriteCall[]> {
  let batch: WriteCall[] = [];
  let events = 0;
  for (const call of calls) {
    const more = "events" in call.request ? call.request.events.length : 1;
    if (batch.length > 0 && events + more > BATCH_MAX_EVENTS) {
      yield batch;
      batch = [];
      events = 0;
    }
    batch.push(call);
    events += more;
  }
  if (batch.length > 0) yield batch;
}

function receive(port: NonNullable<typeof parentPort>): JournalMessage | undefined {
  return receiveMessageOnPort(port)?.message;
}

function toFile(data: unknown): string {
  if (typeof data !== "object" || data === null || !("file" in data) || typeof data.file !== "string") {
    throw new Error("the worker needs { file }");
  }
  return data.file;
}

function isWrite(request: JournalWrite | JournalRead): request is JournalWrite {
  return (
    request.op === "create" || request.op === "append" || request.op === "delete" || request.op === "check"
  );
}
