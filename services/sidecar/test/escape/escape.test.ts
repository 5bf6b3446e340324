/** Tries to get out of a real run's container, one way after the other; and each way again where nothing forbids it, where it works. */
import { afterAll } from "vitest";
import { checkBenchmark } from "./benchmark-suite.ts";
import { probeSystemCalls } from "./call-suite.ts";
import { probeOtherRuns } from "./cross-run-suite.ts";
import { probeDebuggers } from "./debugger-suite.ts";
import { probeLimits } from "./limit-suite.ts";
import { probeNetwork } from "./network-suite.ts";
import { probePaths } from "./path-suite.ts";
import { Tally } from "./tally.ts";

const tally = new Tally();

afterAll(() => console.log(`escape probes: ${tally.toLines().join("\n")}`));

probeSystemCalls(tally);
probePaths(tally);
probeLimits(tally);
probeOtherRuns(tally);
probeNetwork(tally);
probeDebuggers(tally);
checkBenchmark(tally);
