// The agent image's entry point: what it refuses, how it hands over, and that nothing of the workspace is executed.
import { spawnSync } from "node:child_process";
import { chmodSync, cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { AgentContainer, callDocker, LOCKED_DOWN, runAgent } from "./agent-container.ts";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "pillion-agent-"));
  chmodSync(directory, 0o755);
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

describe("S2.4 the workspace", () => {
  test("that is not there is exit code 70, with what to do", () => {
    expect(runAgent("base", ["-e", "PILLION_WORKSPACE=/nowhere"], ["true"])).toEqual({
      ...{ status: 70, stdout: "" },
      stderr: "agent: there is no directory /nowhere; mount one\n",
    });
  });

  test.each([
    { name: "of another owner", options: () => ["-v", `${directory}:/workspace`] },
    { name: "on a read-only root", options: () => ["--read-only"] },
    { name: "mounted read-only", options: () => ["-v", `${toOpen(directory)}:/workspace:ro`] },
  ])("$name is exit code 71, and PILLION_READ_ONLY=1 accepts it", ({ options }) => {
    const { status, stdout, stderr } = runAgent("base", options(), ["true"]);
    expect({ status, stdout }).toEqual({ status: 71, stdout: "" });
    expect(stderr).toMatch(
      /^agent: \/workspace cannot be written to by uid 1000; change its owner, use --user/,
    );
    expect(runAgent("base", [...options(), "-e", "PILLION_READ_ONLY=1"], ["true"]).status).toBe(0);
  });

  test("of another owner is writable for that owner, who needs no entry in passwd", () => {
    const options = ["-v", `${toOpen(directory, 0o755)}:/workspace`, "--user", "0:0", "--cap-drop", "ALL"];
    expect(runAgent("base", options, ["touch", "made"]).status).toBe(0);
    expect(readdirSync(directory)).toEqual(["made"]);
  });

  test("of another owner is safe for git", () => {
    spawnSync("git", ["init", "--quiet", directory]);
    const options = ["-v", `${toOpen(directory)}:/workspace`, "--user", "12345"];
    const asked = ["git", "rev-parse", "--show-toplevel"];
    expect(runAgent("base", options, asked)).toEqual({ status: 0, stdout: "/workspace\n", stderr: "" });
    const unset = runAgent("base", [...options, "-e", "GIT_CONFIG_NOSYSTEM=1"], asked);
    expect(unset.stderr).toContain("dubious ownership"); // the control
  });
});

describe("S2.4 the command", () => {
  test.each([
    { command: ["sh", "-c", "exit 7"], status: 7 },
    { command: ["no-such-program"], status: 127 },
    { command: ["/etc/passwd"], status: 126 },
    { command: ["sh", "-c", "kill -KILL $$"], status: 137 },
  ])("$command ends with $status", ({ command, status }) => {
    expect(runAgent("base", [], command).status).toBe(status);
  });

  test("gets its arguments as they are, and stands in the workspace", () => {
    const script = 'pwd; for word; do echo "<$word>"; done';
    expect(runAgent("base", [], ["sh", "-c", script, "sh", "a b", "", "$(id)", "*"]).stdout).toBe(
      "/workspace\n<a b>\n<>\n<$(id)>\n<*>\n",
    );
  });

  test("takes the entry point's place: it is the only child of the init", () => {
    const { stdout } = runAgent("base", [], ["sh", "-c", "cat /proc/1/comm /proc/$$/comm; echo $PPID"]);
    expect(stdout).toBe("tini\nsh\n1\n");
  });

  test("that is not given lets the container stay, ready for exec", () => {
    using container = new AgentContainer("base", LOCKED_DOWN);
    expect(container.exec(["cat", "/proc/1/comm"])).toEqual({ status: 0, stdout: "tini\n", stderr: "" });
    expect(container.inspect("{{.State.Running}}")).toBe("true");
  });
});

describe("S2.4 the init", () => {
  // Past the second the engine kills, and the code is 137.
  const stop = (container: AgentContainer): string => {
    callDocker(["stop", "--time", "1", container.id]);
    return container.inspect("{{.State.ExitCode}}");
  };

  test("passes SIGTERM on, and what does not catch it ends by it within a second", () => {
    using kept = new AgentContainer("base");
    expect(stop(kept)).toBe("143");
  });

  test("passes SIGTERM on to a command that catches it", async () => {
    const script = 'trap "echo caught; exit 7" TERM; echo ready; while :; do sleep 0.05; done';
    using catching = new AgentContainer("base", [], ["sh", "-c", script]);
    await vi.waitFor(() => expect(catching.logs).toBe("ready\n"), 10_000);
    expect([stop(catching), catching.logs]).toEqual(["7", "ready\ncaught\n"]);
  });

  test("without it the signal is lost, and the engine has to kill", () => {
    using bare = new AgentContainer("base", ["--entrypoint", "sleep"], ["infinity"]);
    expect(stop(bare)).toBe("137");
  });

  const orphans = "for i in 1 2 3 4 5; do (sleep 1 &); done; exec sleep infinity";
  const readStates = (container: AgentContainer): string[] => {
    const script =
      "for f in /proc/[0-9]*/stat; do read -r pid name state rest <$f && echo $name $state; done";
    return container.exec(["sh", "-c", script]).stdout.trim().split("\n");
  };

  test("reaps children whose parents are gone", async () => {
    using reaping = new AgentContainer("base", [], ["sh", "-c", orphans]);
    using leaving = new AgentContainer("base", ["--entrypoint", "sh"], ["-c", orphans]);
    await vi.waitFor(() => expect(readStates(leaving)).toContain("(sleep) Z"), 10_000);
    await vi.waitFor(() => expect(readStates(reaping)).toEqual(["(tini) S", "(sleep) S", "(sh) R"]), 10_000);
  });

  test("is quiet where the engine's own init stands before it", () => {
    expect(runAgent("base", ["--init"], ["true"])).toEqual({ status: 0, stdout: "", stderr: "" });
  });
});

describe("S2.5 a hostile workspace", () => {
  /** Harmless anywhere but in a container that has the folder. */
  const fires = (name: string) => `touch /workspace/ran/${name} 2>/dev/null`;
  const program = (name: string) => `#!/bin/sh\n${fires(name)}\n`;
  const PROGRAMS = ["node", "git", "sh", "bash", "sleep", "true", "id", "npm", "pi", "tini", "agent-health"];
  const FILES: Readonly<Record<string, string>> = {
    "package.json": JSON.stringify({
      ...{ name: "hostile", version: "1.0.0", type: "module" },
      scripts: Object.fromEntries(
        ["preinstall", "postinstall", "prepare", "start", "test"].map((name) => [
          name,
          "touch ran-$npm_lifecycle_event",
        ]),
      ),
    }),
    ".npmrc": "ignore-scripts=false\nnode-options=--require ./required.cjs\n",
    "required.cjs": `require("node:child_process").execSync(${JSON.stringify(fires("required"))})`,
    ".pi/extensions/x.js": `import { execSync } from "node:child_process";\nexecSync(${JSON.stringify(fires("extension"))});`,
    ".pi/settings.json": '{"extensions": ["/workspace/.pi/extensions/x.js"]}',
    "sitecustomize.py": `import os; os.system("${fires("sitecustomize")}")`,
    ...Object.fromEntries(
      [".envrc", ".profile", ".bashrc", ".bash_profile", ".env", ".shrc"].map((name) => [
        name,
        `${fires(name)}\n`,
      ]),
    ),
    ...Object.fromEntries(
      ["post-checkout", "pre-commit", "post-index-change"].map((name) => [
        `.git/hooks/${name}`,
        program(name),
      ]),
    ),
    ...Object.fromEntries(
      ["node_modules/.bin", "bin", "."].flatMap((folder) =>
        PROGRAMS.map((name) => [join(folder, name), program(`${folder.replaceAll("/", "-")}-${name}`)]),
      ),
    ),
  };

  beforeEach(() => {
    spawnSync("git", ["init", "--quiet", directory]);
    spawnSync("git", ["-C", directory, "config", "core.fsmonitor", `${fires("fsmonitor")}; :`]);
    mkdirSync(join(directory, "ran"));
    for (const [path, text] of Object.entries(FILES)) {
      const at = join(directory, path);
      mkdirSync(dirname(at), { recursive: true });
      writeFileSync(at, text, { mode: 0o755 });
    }
    spawnSync("chmod", ["-R", "a+rwX", directory]);
  });

  const readFired = (): string[] => readdirSync(join(directory, "ran")).toSorted();

  test("has nothing of it executed by the start, by a command or by the health check", () => {
    const options = ["-v", `${directory}:/workspace`, "-e", "HOME=/workspace"];
    using kept = new AgentContainer("slim", options);
    expect(kept.exec(["agent-health"])).toMatchObject({ status: 0, stdout: "" });
    expect(runAgent("slim", options, ["true"]).status).toBe(0);
    expect(runAgent("slim", options, ["sh", "-c", "exit 3"]).status).toBe(3);
    expect(readFired()).toEqual([]);
  });

  test("would execute it wherever one carelessly does what is usual", () => {
    const careless = [
      "bash -lc :; bash -ic :",
      "PATH=/workspace/node_modules/.bin:$PATH sleep 0",
      "PATH=.:$PATH id",
      "git status; git -c user.name=a -c user.email=a@b commit --allow-empty -m x",
      "NODE_OPTIONS='--require ./required.cjs' node -e 0",
      "PYTHONPATH=. python3 -c pass",
      ". ./.envrc",
    ].join("; ");
    runAgent("slim", ["-v", `${directory}:/workspace`, "-e", "HOME=/workspace"], ["sh", "-c", careless]);
    expect(readFired()).toEqual(
      [
        ...[".-id", ".bash_profile", ".bashrc", ".envrc", "fsmonitor", "node_modules-.bin-sleep"],
        ...["post-index-change", "pre-commit", "required", "sitecustomize"],
      ].toSorted(),
    );
  });

  test("would have its scripts executed by a package manager's install", () => {
    const copy = mkdtempSync(join(tmpdir(), "pillion-install-")); // beside it: npm calls what lies in folders above
    try {
      cpSync(join(directory, "package.json"), join(copy, "package.json"));
      const flags = ["--offline", "--no-audit", "--no-fund", "--ignore-scripts=false"];
      expect(spawnSync("npm", ["install", ...flags], { cwd: copy }).status).toBe(0);
      const ran = readdirSync(copy).filter((name) => name.startsWith("ran-"));
      expect(ran.toSorted()).toEqual(["ran-postinstall", "ran-preinstall", "ran-prepare"]);
    } finally {
      rmSync(copy, { recursive: true, force: true });
    }
  });
});

/** For every user: the containers' is none of this machine. */
function toOpen(path: string, mode = 0o777): string {
  chmodSync(path, mode);
  return path;
}
