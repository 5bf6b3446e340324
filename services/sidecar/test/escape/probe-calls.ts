/** Issues system calls through a hand, each list of steps in a process of its own, and says what each came to. */
import { randomUUID } from "node:crypto";
import { CALL_NUMBERS } from "./call-numbers.ts";
import { toAnswer } from "./call-probe.ts";
import { readEnds, type Step, toCallProgram } from "./call-program.ts";
import type { Hand } from "./hand.ts";

/** A place where both a run that may use a shell and a plain container can execute what they write. */
const FOLDER = "/workspace";

/** Answers in order: `ok`, the name of an error or of a signal, or `no number` where this processor has no such call. */
export async function issueCalls(
  hand: Hand,
  calls: readonly (readonly Step[])[],
  folder = FOLDER,
): Promise<readonly string[]> {
  const path = await putProgram(hand, calls, folder);
  const output = await hand.do((program) => {
    const { spawnSync } = process.getBuiltinModule("node:child_process");
    const { stdout, error } = spawnSync(program, { timeout: 20_000 });
    if (error) throw error;
    return stdout.toString("base64");
  }, path);
  const ends = readEnds(Buffer.from(output, "base64"), calls.length);
  return calls.map((steps, index) => (hasNumbers(steps) ? toAnswer(ends[index]) : "no number"));
}

/** Steps whose last one does not return; they end with the container. */
export async function startCalls(hand: Hand, steps: readonly Step[]): Promise<void> {
  await hand.do(
    (program) => {
      process.getBuiltinModule("node:child_process").spawn(program, { stdio: "ignore" });
    },
    await putProgram(hand, [steps], FOLDER),
  );
}

async function putProgram(hand: Hand, calls: readonly (readonly Step[])[], folder: string): Promise<string> {
  const path = `${folder}/calls-${randomUUID()}`;
  const content = toCallProgram(calls).toString("base64");
  await hand.do(
    (to, text) =>
      process.getBuiltinModule("node:fs").writeFileSync(to, Buffer.from(text, "base64"), { mode: 0o755 }),
    path,
    content,
  );
  return path;
}

function hasNumbers(steps: readonly Step[]): boolean {
  const numbers: Readonly<Record<string, number | undefined>> =
    CALL_NUMBERS[process.arch === "arm64" ? "arm64" : "x64"];
  return steps.every(([name]) =>
    name === "i386 getpid" ? process.arch === "x64" : numbers[name] !== undefined,
  );
}
