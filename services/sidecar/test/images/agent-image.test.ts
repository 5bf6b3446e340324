// What is in the agent image, and as whom it runs: each target is looked at from inside and by the engine's account.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import {
  AgentContainer,
  callDocker,
  LOCKED_DOWN,
  readInside,
  runAgent,
  TARGETS,
  type Target,
  toAgentImage,
} from "./agent-container.ts";

const ROOT = join(import.meta.dirname, "../../../..");
const PI = "/opt/pillion/pi/node_modules/@earendil-works/pi-coding-agent";
const AS_ROOT = ["--user", "0"];

const readFile = (path: string): string => readFileSync(join(ROOT, path), "utf8");

function inspectImage(target: Target, field: string): unknown {
  const { stdout } = callDocker(["image", "inspect", "-f", `{{json ${field}}}`, toAgentImage(target)]);
  return JSON.parse(stdout);
}

describe("S2.1 what each target holds", () => {
  const TOOLS = ["git", "node", "rg", "sh", "bash", "curl", "jq", "python3", "chromium-headless-shell"];

  test.each<{ target: Target; has: number }>([
    { target: "base", has: 4 },
    { target: "slim", has: 8 },
    { target: "browser", has: 9 },
  ])("$target has the first $has of the tools, and not the others", ({ target, has }) => {
    const script = `for name in ${TOOLS.join(" ")}; do command -v $name >/dev/null && echo $name; done; :`;
    expect(readInside(target, script).trim().split("\n")).toEqual(TOOLS.slice(0, has));
  });

  test("the tools of slim work, Python with its usual modules", () => {
    const script = [
      `echo '{"a": [1, 2]}' | jq -c .a`,
      "bash -c 'shopt -s extglob && echo 42'",
      `python3 -c "import ctypes, json, sqlite3, ssl, venv; print(json.dumps([ssl.HAS_TLSv1_3]))"`,
      "curl --version | head -n 1 | cut -d ' ' -f 1",
      "echo needle >/tmp/hay && rg --no-filename needle /tmp/hay",
    ].join(" && ");
    expect(readInside("slim", script, LOCKED_DOWN)).toBe("[1,2]\n42\n[true]\ncurl\nneedle\n");
  });

  test.each(TARGETS)("S1.4 S1.8 %s has the pinned Node and Pi, our extension, and the licences", (target) => {
    const { engines, dependencies } = JSON.parse(readFile("package.json"));
    const script = `node -v; node -p 'require("${PI}/package.json").version'; sha256sum </opt/pillion/extension/pillion.js`;
    const [node, pi, digest] = readInside(target, script).split("\n");
    expect({ node, pi, digest }).toEqual({
      node: engines.node.replace(">=", "v"),
      pi: dependencies["@earendil-works/pi-coding-agent"],
      digest: `${createHash("sha256").update(readFile("dist/product/extension/pillion.js")).digest("hex")}  -`,
    });
    const readLicence = (name: string) => readInside(target, `cat /usr/share/doc/${name}/copyright`);
    expect(readLicence("pi")).toBe(readFile("config/licence-texts/@earendil-works__pi-coding-agent.txt"));
    expect(readLicence("pillion")).toBe(readFile("LICENSE"));
    expect(readLicence("node")).toContain("Copyright Node.js contributors");
    expect(readLicence("git")).toContain("GPL-2");
  });

  test("S2.7 the harness neither calls home, nor updates itself, nor asks", () => {
    const expected = {
      PATH: "/opt/pillion/bin:/usr/local/bin:/usr/bin:/bin",
      ...{ HOME: "/home/agent", LANG: "C.UTF-8", GIT_TERMINAL_PROMPT: "0" },
      ...{ PI_OFFLINE: "1", PI_SKIP_VERSION_CHECK: "1", PI_TELEMETRY: "0" },
      ...{ DISABLE_AUTOUPDATER: "1", DISABLE_TELEMETRY: "1", CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1" },
    };
    const lines = Object.entries(expected).map(([name, value]) => `${name}=${value}`);
    for (const target of TARGETS) expect(inspectImage(target, ".Config.Env")).toEqual(lines);
    // The engine adds the host's name, and nothing else reaches a program.
    const seen = readInside("base", "env").split("\n");
    expect(seen.filter((line) => line !== "" && !/^(HOSTNAME|PWD)=/.test(line)).toSorted()).toEqual(
      lines.toSorted(),
    );
  });
});

describe("S2.2 as whom it runs", () => {
  const FIND = "find / \\( -path /proc -o -path /sys -o -path /dev \\) -prune -o -perm /6000 -print";

  test.each(TARGETS)("%s is uid 1000 by number, and there is no file of another's rights", (target) => {
    expect(inspectImage(target, ".Config.User")).toBe("1000:1000");
    const id =
      "id -u; id -g; id -G; id -un; for name in sudo doas pkexec passwd newgrp; do command -v $name; done; :";
    expect(readInside(target, id)).toBe("1000\n1000\n1000\nagent\n");
    expect(readInside(target, FIND, AS_ROOT)).toBe("");
  });

  test("a setuid file and a setgid directory that are planted are found", () => {
    const plant =
      "cp /usr/bin/true /usr/bin/planted; chmod 4755 /usr/bin/planted; install -d -m 2755 /opt/shared";
    const found = readInside("base", `${plant}; ${FIND}`, AS_ROOT).trim().split("\n");
    expect(found.toSorted()).toEqual(["/opt/shared", "/usr/bin/planted"]);
  });

  const everyWay = [
    { name: "as it is", options: [] },
    { name: "as a user without an entry", options: ["--user", "12345"] },
    { name: "as a user and group without an entry", options: ["--user", "12345:54321"] },
    { name: "S2.3 locked down", options: LOCKED_DOWN },
    { name: "S2.3 locked down, as a user without an entry", options: [...LOCKED_DOWN, "--user", "12345"] },
  ];

  test.each(TARGETS.flatMap((target) => everyWay.map((way) => ({ target, ...way }))))(
    "$target works $name",
    ({ target, options }) => {
      const commit = "git -c user.name=a -c user.email=a@b commit --quiet --allow-empty --message made";
      const script = `agent-health && git init --quiet && ${commit} && git log --format=%s && node -p "process.getuid()"`;
      const { status, stdout, stderr } = runAgent(target, options, ["sh", "-c", script]);
      const uid = options.some((word) => word.startsWith("12345")) ? "12345" : "1000";
      const hints = stderr.split("\n").filter((line) => line !== "" && !line.startsWith("hint:"));
      expect({ status, stdout, hints }).toEqual({ status: 0, stdout: `made\n${uid}\n`, hints: [] });
    },
  );

  test("S2.3 locked down means what it says: no capability, nothing gained, nothing written", () => {
    const script = "grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/self/status | tr -d '\\t'; touch /x /opt/x";
    const { stdout, stderr } = runAgent("base", LOCKED_DOWN, ["sh", "-c", script]);
    const none = "0000000000000000";
    expect(stdout).toBe(`CapBnd:${none}\nNoNewPrivs:1\n`.replace("CapBnd", `CapEff:${none}\nCapBnd`));
    expect(stderr.match(/Read-only file system/g)).toHaveLength(2);
    // The control: where nothing is locked, root may.
    expect(runAgent("base", AS_ROOT, ["touch", "/x", "/opt/x"]).status).toBe(0);
  });
});

describe("S2.10 how it is layered", () => {
  const readLayers = (target: Target) => inspectImage(target, ".RootFS.Layers") as string[]; // a list, by the engine's API

  test("Debian first, then Node, then what is pinned, then ours; all but Debian are the same layers in every target", () => {
    const [base, slim, browser] = TARGETS.map(readLayers);
    expect(base?.slice(1)).toEqual(slim?.slice(1));
    expect(base?.slice(1)).toEqual(browser?.slice(1));
    expect(new Set([base?.[0], slim?.[0], browser?.[0]]).size).toBe(3);
    const history = callDocker(["history", "--no-trunc", "--format", "{{.CreatedBy}}", toAgentImage("base")]);
    const copies = history.stdout.match(/COPY \S+ \//g)?.toReversed();
    expect(copies).toEqual(["COPY / /", "COPY /out/node /", "COPY /out/pinned /", "COPY /out/ours /"]);
  });

  test.each(TARGETS)("%s has no package manager's cache or list", (target) => {
    const places = "/var/cache /var/lib/apt /var/log /tmp /home/agent";
    const script = `find ${places} -mindepth 1 2>/dev/null; find / -xdev -name '*.deb' -o -xdev -name .npm -o -xdev -name .cache`;
    expect(readInside(target, script, AS_ROOT)).toBe("");
    const planted = "touch /var/cache/x.deb; mkdir /home/agent/.npm";
    expect(readInside(target, `${planted}; ${script}`, AS_ROOT)).toContain("/home/agent/.npm\n");
  });

  test("nothing of the build's is in the history or the settings", () => {
    const read = (image: string) =>
      ["history", "inspect"]
        .map((call) => callDocker([call, ...(call === "history" ? ["--no-trunc"] : []), image]).stdout)
        .join("");
    const secret =
      /BEGIN [A-Z ]+|npm_[A-Za-z0-9]{8,}|sk-[a-z]+-|[Pp]assword=|_TOKEN=|_KEY=|https?:\/\/[^/\s]*:[^/\s]*@/;
    for (const target of TARGETS) expect(read(toAgentImage(target))).not.toMatch(secret);
    using container = new AgentContainer("base");
    const { stdout } = callDocker(["commit", "--change", "ENV MODEL_KEY=sk-ant-planted", container.id]);
    const planted = stdout.trim();
    try {
      expect(read(planted)).toMatch(secret);
    } finally {
      callDocker(["rmi", planted]);
    }
  });
});
