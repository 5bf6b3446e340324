/** What a probe of the kernel's doors is: calls, what they must come to in a run, and what proves them possible elsewhere. */
import { constants } from "node:os";
import type { Step, StepsEnd } from "./call-program.ts";

export type CallProbe = {
  /** What would be won; each probe has its own. */
  readonly class: string;
  /** The last step is the one that must be refused; those before it only prepare, and succeed. */
  readonly steps: readonly Step[];
  /** How a run's container may answer the last step: names of errors, or of the signal that ends the caller. */
  readonly inside: readonly string[];
  /** Errors that show too that the call got through where nothing forbids it: it complains of harmless arguments. */
  readonly reached: readonly string[];
};

/** Answers of a kernel or processor that does not have the call, or the family, at all. */
const LACKS = [
  "ENOSYS",
  "EAFNOSUPPORT",
  "EPROTONOSUPPORT",
  "ESOCKTNOSUPPORT",
  "ENODEV",
  "SIGSEGV",
  "no number",
];

/** The name of what a probe came to: `ok`, an error or a signal. */
export function toAnswer(end: StepsEnd | undefined): string {
  if (end === undefined) return "nothing";
  if (end.signal !== undefined) return toName(constants.signals, end.signal);
  return end.value < 0 ? toName(constants.errno, -end.value) : "ok";
}

/** True where the probe did what it wants to do. */
export function isReached(probe: CallProbe, answer: string): boolean {
  return answer === "ok" || probe.reached.includes(answer);
}

export function isLacking(answer: string): boolean {
  return LACKS.includes(answer);
}

/** The steps that end in the one to be refused. */
export function toCallProbe(
  name: string,
  steps: readonly Step[],
  { inside = ["EPERM"], reached = [] }: Partial<Pick<CallProbe, "inside" | "reached">> = {},
): CallProbe {
  return { class: name, steps, inside, reached };
}

function toName(table: object, number: number): string {
  const known = Object.entries(table).find(([, value]) => value === number);
  return known?.[0] ?? EXTRA[number] ?? String(number);
}

/** Errors that Node does not name. */
const EXTRA: Readonly<Record<number, string>> = { 94: "ESOCKTNOSUPPORT", 126: "ENOKEY" };
