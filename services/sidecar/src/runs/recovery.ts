/** At start: runs that a crash left open end as `lost`, and what is left of their sandboxes is swept. */
import { Fault, toProblem } from "../kernel/fault.ts";
import type { PlaceList } from "../sandboxes/place-list.ts";
import { EventLog } from "./event-log.ts";
import type { Journal } from "./journal.ts";
import { createLostReport } from "./lost-report.ts";

export type Recovered = { readonly lostRuns: number; readonly sweptProcesses: number };

/** Sweeps first: a run is told to be over only when nothing of it can be alive. */
export async function recover(journal: Journal, places: PlaceList): Promise<Recovered> {
  const { count: sweptProcesses, unseen } = await places.sweep();
  const open = await journal.readOpenRuns();
  for (const run of open) {
    const failure = toProblem(new Fault("lost", "The service ended while the run was going on."), {
      runId: run.id,
    });
    // A run that has no receipt yet may have been in any kind.
    const isSeen = run.receipt === null ? unseen.length === 0 : !unseen.includes(run.receipt.kind);
    const report = createLostReport(run, failure, isSeen);
    const log = new EventLog({ journal, runId: run.id, lastSeq: run.lastSeq, report: () => report });
    await log.append({
      type: "run.ended",
      runId: run.id,
      outcome: "lost",
      output: report.output,
      stopReason: null,
      usage: report.usage,
      egress: report.egress,
      exit: null,
      stop: report.stop,
      failure,
    });
  }
  return { lostRuns: open.length, sweptProcesses };
}
