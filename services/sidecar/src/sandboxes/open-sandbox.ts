/** Opens a place, shakes hands with the guard inside it and makes the sandbox that everything above works with. */
import type { Duplex, Readable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { Cleared, type FillTarget, GuardView } from "#contract/guard";
import type { Receipt } from "#contract/sandbox";
import { within } from "../kernel/deadline.ts";
import { Fault } from "../kernel/fault.ts";
import { toTar } from "./fill-tar.ts";
import { GuardLink, type Hello } from "./pipe/guard-link.ts";
import { proveReferences } from "./references.ts";
import type {
  FillFile,
  Place,
  PlaceKind,
  ProgramSpec,
  Sandbox,
  SandboxProcess,
  SandboxSpec,
} from "./sandbox.ts";

const STDERR_TAIL_CHARS = 4096;
const CLEAR_MS = 2_500; // a guard that was stopped by the run answers never; closing the sandbox ends it all the same
const HELLO_MS = 10_000;
const LAST_WORDS_MS = 500;

/** Throws isolation_unavailable, sandbox_unavailable or sandbox_lost; leaves nothing behind when it throws. */
export async function openSandbox(
  kind: PlaceKind,
  spec: SandboxSpec,
  acceptDoor: (connection: Duplex) => void,
  signal: AbortSignal,
): Promise<Sandbox> {
  await using held = new AsyncDisposableStack();
  const place = held.use(await kind.open(spec, signal));
  const link = new GuardLink(place.pipe, acceptDoor);
  held.defer(() => link.destroy());
  const late = () => new Fault("sandbox_unavailable", "The guard in the sandbox did not answer in time.");
  const hello = await within(HELLO_MS, Promise.race([link.hello, failWhenEnded(place)]), late, signal);
  const sandbox = new OpenSandbox(place, link, spec, place.toReceipt(hello.view), hello);
  held.move(); // from here on the sandbox owns both
  return sandbox;
}

async function failWhenEnded(place: Place): Promise<never> {
  const { detail } = await place.ended;
  const hint = place.startHint ?? "The sandbox could not be set up on this machine.";
  throw new Fault("isolation_unavailable", hint, {
    cause: new Error(detail),
  });
}

class OpenSandbox implements Sandbox {
  readonly paths: Place["paths"];
  readonly doorPort: number;
  readonly extensionSha256: string;
  readonly harnessSha256: Readonly<Record<string, string>>;
  readonly lost: Promise<never>;
  readonly #place: Place;
  readonly #link: GuardLink;
  readonly #spec: SandboxSpec;
  #receipt: Receipt;
  #closing: Promise<void> | undefined;

  constructor(place: Place, link: GuardLink, spec: SandboxSpec, receipt: Receipt, hello: Hello) {
    this.#place = place;
    this.#link = link;
    this.#spec = spec;
    this.#receipt = receipt;
    this.paths = place.paths;
    this.doorPort = hello.doorPort;
    this.extensionSha256 = hello.view.extensionSha256;
    this.harnessSha256 = hello.view.harnessSha256;
    this.lost = Promise.race([link.closed, place.ended]).then(async () => {
      // The place follows its pipe, and knows more: how its first process ended, and what was last complained of.
      const end = await Promise.race([place.ended, delay(LAST_WORDS_MS)]);
      const cause = new Error(end?.detail ?? "the pipe closed");
      throw new Fault("sandbox_lost", "The sandbox ended before the run did.", { cause });
    });
    this.lost.catch(() => undefined);
  }

  get receipt(): Receipt {
    return this.#receipt;
  }

  async fill(target: FillTarget, files: readonly FillFile[]): Promise<void> {
    if (files.length === 0 || this.#place.filled?.includes(target)) return;
    await this.#link.askWithInput({ op: "fill", target }, toTar(files));
  }

  async seal(): Promise<void> {
    await this.#link.ask({ op: "snapshot" });
    const { readOnly, references } = this.#spec;
    await this.#place.seal(readOnly);
    if (!readOnly && references.length === 0) return;
    const view = GuardView.parse(await this.#link.ask({ op: "inspect" }));
    if (readOnly && view.workspaceWritable) {
      throw new Fault("isolation_unavailable", "The workspace could not be made read-only for a reader.");
    }
    this.#receipt = {
      ...this.#receipt,
      ...(readOnly ? { workspace: "read-only" } : {}),
      ...(references.length === 0 ? {} : { references: proveReferences(view, references) }),
    };
  }

  async start(program: ProgramSpec): Promise<SandboxProcess> {
    await this.#link.ask({
      op: "start",
      program: program.program,
      args: [...program.args],
      env: { ...program.env },
    });
    const [stdio, stderr] = await Promise.all([this.#link.stdio, this.#link.stderr]);
    const tail = keepTail(stderr);
    return {
      stdio,
      stderrTail: tail,
      exited: this.#link.exited,
      signal: async (signal) => {
        await this.#link.ask({ op: "signal", signal });
      },
    };
  }

  async clear(): Promise<number> {
    const { killed, left } = Cleared.parse(await this.#link.ask({ op: "clear" }, CLEAR_MS));
    if (left > 0) throw new Fault("sandbox_lost", "Processes of the run could not be ended.");
    return killed;
  }

  openChanges(): Promise<Readable> {
    return this.#link.askForStream({ op: "changes" });
  }

  openDiff(): Promise<Readable> {
    return this.#link.askForStream({ op: "diff" });
  }

  openFile(path: string): Promise<Readable> {
    return this.#link.askForStream({ op: "file", path });
  }

  openTar(maxBytes: number): Promise<Readable> {
    return this.#link.askForStream({ op: "tar", maxBytes });
  }

  close(): Promise<void> {
    this.#closing ??= this.#destroy();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #destroy(): Promise<void> {
    this.#link.destroy();
    await this.#place[Symbol.asyncDispose]();
  }
}

/** Drains a stream and keeps its end, so that a crash can be explained without keeping everything. */
function keepTail(stream: Readable): () => string {
  let tail = "";
  stream.setEncoding("utf8");
  stream.on("data", (text: string) => {
    tail = (tail + text).slice(-STDERR_TAIL_CHARS);
  });
  return () => tail;
}
