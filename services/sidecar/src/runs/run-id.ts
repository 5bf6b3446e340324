/** Ids of runs: 48 bits of time and 80 random bits, so that they sort by age and cannot be guessed. */
import { ulid } from "ulid";

export function createRunId(): string {
  return `run_${ulid().toLowerCase()}`;
}
