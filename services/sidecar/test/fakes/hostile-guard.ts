// A guard that was taken over: the other end of a real pipe, saying what a test makes it say.
import { type ClientHttp2Session, type ClientHttp2Stream, connect } from "node:http2";
import { type Duplex, duplexPair } from "node:stream";
import type { GuardCommand, GuardView } from "#contract/guard";
import type { Receipt } from "#contract/sandbox";
import type { Place, PlaceKind, PlaceProbe } from "../../src/sandboxes/sandbox.ts";

type Command = { readonly id: number; readonly op: GuardCommand["op"] };

export type HostileScript = {
  /** In place of the handshake: all the bytes it ever sends. */
  readonly raw?: (pipe: Duplex) => void;
  /** In place of a hello. */
  readonly hello?: (control: ClientHttp2Stream, session: ClientHttp2Session) => void;
  /** Answers to commands; what is not here is answered as an honest guard would. */
  readonly answers?: Partial<Record<Command["op"], (command: Command, guard: HostileGuard) => void>>;
};

export const VIEW: GuardView = {
  pid: 1,
  uid: 1,
  gid: 1,
  capEff: "0",
  capPrm: "0",
  capBnd: "0",
  noNewPrivs: true,
  seccomp: true,
  extensionSha256: "0".repeat(64),
  namespaces: {},
  interfaces: ["lo"],
  systemWritable: false,
  programReadable: false,
  workspaceWritable: true,
  workspaceId: "1:1",
  references: [],
  harnessSha256: {},
};

const RECEIPT: Receipt = {
  kind: "local",
  isolated: true,
  requested: { kind: "local", network: "none" },
  namespaces: [],
  network: "none",
  egressEnforced: true,
  user: { uid: 1, gid: 1 },
  capabilities: [],
  noNewPrivileges: true,
  readOnlySystem: true,
  workspace: "read-write",
  limits: {},
  missing: [],
};

export const HELLO = `${JSON.stringify({ kind: "hello", doorPort: 9, view: VIEW })}\n`;

/** A place whose guard follows the script; it ends when its pipe is closed. */
export class HostileGuard implements PlaceKind {
  readonly kind = "local";
  readonly #script: HostileScript;
  session: ClientHttp2Session | undefined;
  #control: ClientHttp2Stream | undefined;

  constructor(script: HostileScript) {
    this.#script = script;
  }

  async probe(): Promise<PlaceProbe> {
    return { kind: "local", available: true, isolated: true, detail: "hostile", missing: [] };
  }

  async sweep(): Promise<number> {
    return 0;
  }

  async open(): Promise<Place> {
    const [near, far] = duplexPair();
    near.on("error", () => undefined);
    far.on("error", () => undefined);
    near.once("close", () => far.destroy());
    far.once("close", () => near.destroy());
    const ended = new Promise<{ detail: string }>((resolve) =>
      near.once("close", () => resolve({ detail: "closed" })),
    );
    if (this.#script.raw !== undefined) this.#script.raw(far.resume());
    else this.#begin(far);
    const paths = { workspace: "/w", home: "/h", temp: "/t", node: "/n", product: "/p", path: "/bin" };
    return {
      pipe: near,
      paths,
      ended,
      seal: async () => undefined,
      toReceipt: () => RECEIPT,
      [Symbol.asyncDispose]: async () => void near.destroy(),
    };
  }

  tell(notice: object): void {
    this.#control?.write(`${JSON.stringify(notice)}\n`);
  }

  openStream(path: string): ClientHttp2Stream {
    if (this.session === undefined) throw new Error("the guard has not begun");
    const stream = this.session.request({ ":method": "POST", ":path": path }, { endStream: false });
    stream.on("error", () => undefined);
    return stream;
  }

  #begin(far: Duplex): void {
    this.session = connect("http://pipe", { createConnection: () => far, maxSessionMemory: 4_000 });
    this.session.on("error", () => undefined);
    const control = this.openStream("/control");
    this.#control = control;
    if (this.#script.hello === undefined) control.write(HELLO);
    else this.#script.hello(control, this.session);
    let rest = "";
    control.setEncoding("utf8").on("data", (text: string) => {
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) this.#answer(JSON.parse(line));
    });
  }

  #answer(command: Command): void {
    const answer = this.#script.answers?.[command.op];
    if (answer !== undefined) return answer(command, this);
    this.tell({
      kind: "done",
      id: command.id,
      value: command.op === "clear" ? { killed: 0, left: 0 } : undefined,
    });
  }
}

/** Answers a command for bytes with these, and says nothing more. */
export function sending(...pieces: (string | Buffer)[]) {
  return ({ id }: Command, guard: HostileGuard): void => {
    const stream = guard.openStream(`/data?id=${id}`);
    for (const piece of pieces) stream.write(piece);
    stream.end();
    guard.tell({ kind: "done", id });
  };
}
