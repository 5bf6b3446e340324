/** Ways from one run to another: one leaves something, the other looks for it. Every function is sent inside as text. */
import type { Hand } from "./hand.ts";

export type CrossRunProbe = {
  /** What the two would share; each probe has its own. */
  readonly class: string;
  /** Left in the first; gives what the other has to know. */
  readonly leave: (hand: Hand, token: string) => Promise<string>;
  /** `found` where the second reaches it. */
  readonly look: (hand: Hand, token: string, told: string) => Promise<string>;
  /** Where it is the first that has to notice. */
  readonly notice?: (hand: Hand, token: string) => Promise<string>;
};

const FILES: readonly [name: string, folder: string][] = [
  ["files of the workspace", "/workspace"],
  ["temporary files", "/tmp"],
  ["files at home", "/home/agent"],
  ["shared memory of POSIX", "/dev/shm"],
];

const leaveFile = (folder: string, token: string): string => {
  process.getBuiltinModule("node:fs").writeFileSync(`${folder}/${token}`, token);
  return "";
};

const lookForFile = (folder: string, token: string): string => {
  try {
    return process.getBuiltinModule("node:fs").readFileSync(`${folder}/${token}`, "utf8") === token
      ? "found"
      : "other";
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code);
  }
};

const listen = (address: string): Promise<string> =>
  new Promise((resolve, reject) => {
    const server = process.getBuiltinModule("node:net").createServer((socket) => socket.destroy());
    server.once("error", reject);
    const told = (): void => {
      const bound = server.address();
      resolve(typeof bound === "object" && bound !== null ? String(bound.port) : "");
    };
    if (address === "") server.listen(0, "127.0.0.1", told);
    else server.listen(address, told);
  });

const connect = (address: string, port: string): Promise<string> =>
  new Promise((resolve) => {
    const net = process.getBuiltinModule("node:net");
    const socket = port === "" ? net.connect(address) : net.connect(Number(port), "127.0.0.1");
    socket.once("connect", () => resolve("found"));
    socket.once("error", (error: NodeJS.ErrnoException) => resolve(String(error.code)));
    socket.once("connect", () => socket.destroy());
  });

const listenForDatagrams = (token: string): Promise<string> =>
  new Promise((resolve) => {
    const socket = process.getBuiltinModule("node:dgram").createSocket("udp4");
    socket.on("message", (message) => {
      if (message.toString() === token) Object.assign(globalThis, { pillionDatagram: true });
    });
    socket.bind(0, "127.0.0.1", () => resolve(String(socket.address().port)));
  });

const sendDatagram = (token: string, port: string): Promise<string> =>
  new Promise((resolve) => {
    const socket = process.getBuiltinModule("node:dgram").createSocket("udp4");
    socket.send(token, Number(port), "127.0.0.1", () => socket.close(() => resolve("sent")));
  });

/** Waits a little for something that should not come. */
const noticed = async (mark: string): Promise<string> => {
  for (let round = 0; round < 20; round += 1) {
    if (mark in globalThis) return "found";
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  return "nothing came";
};

/** Its argument and its environment hold the token. */
const startMarked = (token: string): string => {
  const { spawn } = process.getBuiltinModule("node:child_process");
  const child = spawn("sh", ["-c", `sleep 60 # ${token}`], {
    env: { PATH: process.env.PATH, PILLION_MARK: `${token}-environment` },
    stdio: "ignore",
  });
  return String(child.pid);
};

const lookInProcesses = (file: string, token: string): string => {
  const fs = process.getBuiltinModule("node:fs");
  const holds = (pid: string): boolean => {
    try {
      return Number(pid) !== process.pid && fs.readFileSync(`/proc/${pid}/${file}`, "utf8").includes(token);
    } catch {
      return false;
    }
  };
  return fs.readdirSync("/proc").some((name) => /^\d+$/.test(name) && holds(name)) ? "found" : "not there";
};

const awaitSignal = (): string => {
  process.on("SIGWINCH", () => Object.assign(globalThis, { pillionSignal: true }));
  return "";
};

/** To everybody; it ends nobody. */
const signalAll = (): string => {
  process.kill(-1, "SIGWINCH");
  return "sent";
};

/** The descriptor stays open, and the terminal with it. */
const openTerminal = (): string => {
  const fs = process.getBuiltinModule("node:fs");
  const before = fs.readdirSync("/dev/pts");
  fs.openSync("/dev/ptmx", fs.constants.O_RDWR | fs.constants.O_NOCTTY);
  return fs.readdirSync("/dev/pts").find((name) => !before.includes(name)) ?? "none";
};

const lookForTerminal = (_: string, name: string): string =>
  process.getBuiltinModule("node:fs").existsSync(`/dev/pts/${name}`) ? "found" : "ENOENT";

export const CROSS_RUN_PROBES: readonly CrossRunProbe[] = [
  ...FILES.map(([name, folder]) => ({
    class: name,
    leave: (hand: Hand, token: string) => hand.do(leaveFile, folder, token),
    look: (hand: Hand, token: string) => hand.do(lookForFile, folder, token),
  })),
  {
    class: "sockets by a path",
    leave: (hand, token) => hand.do(listen, `/tmp/${token}.sock`),
    look: (hand, token) => hand.do(connect, `/tmp/${token}.sock`, ""),
  },
  {
    class: "sockets by an abstract name",
    leave: (hand, token) => hand.do(listen, `\0${token}`),
    look: (hand, token) => hand.do(connect, `\0${token}`, ""),
  },
  {
    class: "TCP ports of loopback",
    leave: (hand) => hand.do(listen, ""),
    look: (hand, _, port) => hand.do(connect, "", port),
  },
  {
    class: "UDP ports of loopback",
    leave: (hand, token) => hand.do(listenForDatagrams, token),
    look: (hand, token, port) => hand.do(sendDatagram, token, port),
    notice: (hand) => hand.do(noticed, "pillionDatagram"),
  },
  {
    class: "the list of processes",
    leave: (hand, token) => hand.do(startMarked, token),
    look: (hand, token) => hand.do(lookInProcesses, "cmdline", token),
  },
  {
    class: "environments of processes",
    leave: (hand, token) => hand.do(startMarked, token),
    look: (hand, token) => hand.do(lookInProcesses, "environ", `${token}-environment`),
  },
  {
    class: "signals to everybody",
    leave: (hand) => hand.do(awaitSignal),
    look: (hand) => hand.do(signalAll),
    notice: (hand) => hand.do(noticed, "pillionSignal"),
  },
  {
    class: "terminals",
    leave: (hand) => hand.do(openTerminal),
    look: (hand, token, name) => hand.do(lookForTerminal, token, name),
  },
];
