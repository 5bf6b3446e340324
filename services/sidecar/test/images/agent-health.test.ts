// The agent image's health check: healthy where a run could work, and not where any part of that is broken.
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { AgentContainer, LOCKED_DOWN, TARGETS } from "./agent-container.ts";

let directory: string;
let workspace: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "pillion-health-"));
  chmodSync(directory, 0o755);
  workspace = join(directory, "workspace");
  mkdirSync(workspace);
  chmodSync(workspace, 0o777);
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

/** A Node that tells its version and does nothing else. */
function toBrokenNode(): string {
  const path = join(directory, "node");
  writeFileSync(path, '#!/bin/sh\n[ "$1" = --version ] && echo v24.21.0 && exit 0\nexit 1\n');
  chmodSync(path, 0o755);
  return path;
}

type Cause = {
  readonly name: string;
  readonly options?: () => string[];
  /** What happens after the start. */
  readonly breaks?: () => void;
  readonly says: string;
};

const CAUSES: readonly Cause[] = [
  {
    name: "Node does no more than tell its version",
    options: () => ["-v", `${toBrokenNode()}:/opt/pillion/node/bin/node:ro`],
    says: "node does not run",
  },
  {
    name: "the workspace is gone",
    breaks: () => rmSync(workspace, { recursive: true }),
    says: "there is no /data/workspace",
  },
  {
    name: "the workspace cannot be written to any more",
    breaks: () => chmodSync(workspace, 0o555),
    says: "/data/workspace cannot be written to",
  },
  { name: "Pi is gone", options: () => ["--tmpfs", "/opt/pillion/pi"], says: "pi does not run" },
  {
    name: "the wanted harness is not there",
    options: () => ["-e", "PILLION_HARNESS=claude"],
    says: "claude is not there",
  },
  {
    name: "the guard is gone",
    options: () => ["--tmpfs", "/opt/pillion/guard"],
    says: "/opt/pillion/guard/main.mjs is not there",
  },
  {
    name: "the extension is gone",
    options: () => ["--tmpfs", "/opt/pillion/extension"],
    says: "/opt/pillion/extension/pillion.js is not there",
  },
];

const toOptions = (more: readonly string[] = []): string[] => [
  ...LOCKED_DOWN,
  ...["-v", `${directory}:/data`, "-e", "PILLION_WORKSPACE=/data/workspace", ...more],
];

describe("S2.6 the health check", () => {
  test.each(CAUSES)("fails when $name, and says so", async ({ options, breaks, says }) => {
    using container = new AgentContainer("base", toOptions(options?.()));
    if (breaks !== undefined) {
      await vi.waitFor(() => expect(container.exec(["pidof", "sleep"]).status).toBe(0), 10_000); // past the entry point
      breaks();
    }
    expect(container.exec(["agent-health"])).toEqual({ status: 1, stdout: `${says}\n`, stderr: "" });
  });

  test.each(TARGETS)("passes in %s where nothing is broken, whoever it is", (target) => {
    for (const user of ["1000", "12345"]) {
      using container = new AgentContainer(target, toOptions(["--user", user]));
      expect(container.exec(["agent-health"])).toEqual({ status: 0, stdout: "", stderr: "" });
    }
  });

  test("S2.3 passes for a vendor's program that is mounted, and the container stays locked down while it runs", () => {
    const vendor = join(directory, "vendor");
    writeFileSync(vendor, "#!/bin/sh\ntouch /made /opt/made\ngrep NoNewPrivs /proc/self/status\n");
    chmodSync(vendor, 0o755);
    const options = ["-v", `${vendor}:/vendor:ro`, "-e", "PILLION_HARNESS=/vendor"];
    using container = new AgentContainer("base", toOptions(options));
    expect(container.exec(["agent-health"])).toEqual({ status: 0, stdout: "", stderr: "" });
    const { stdout, stderr } = container.exec(["/vendor"]);
    expect(stdout).toBe("NoNewPrivs:\t1\n");
    expect(stderr.match(/Read-only file system/g)).toHaveLength(2);
  });

  test("passes for another harness that is there, and for a reader", async () => {
    using container = new AgentContainer("base", toOptions(["-e", "PILLION_HARNESS=git"]));
    await vi.waitFor(() => expect(container.exec(["pidof", "sleep"]).status).toBe(0), 10_000);
    expect(container.exec(["agent-health"]).status).toBe(0);
    chmodSync(workspace, 0o555);
    expect(container.exec(["agent-health"]).status).toBe(1);
    expect(container.exec(["agent-health"], ["-e", "PILLION_READ_ONLY=1"]).status).toBe(0);
  });

  test("is what the engine asks, and follows what happens", async () => {
    const often = ["--health-interval", "500ms", "--health-start-period", "0s", "--health-retries", "1"];
    using container = new AgentContainer("base", toOptions(often));
    const reads = (state: string) => () => expect(container.inspect("{{.State.Health.Status}}")).toBe(state);
    await vi.waitFor(reads("healthy"), { timeout: 20_000, interval: 200 });
    rmSync(workspace, { recursive: true });
    await vi.waitFor(reads("unhealthy"), { timeout: 20_000, interval: 200 });
    expect(container.inspect("{{(index .State.Health.Log 0).ExitCode}}")).toBe("0");
  });
});
