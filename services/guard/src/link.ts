/** The guard's end of the pipe: opens the control stream and one stream for each flow of bytes. */
import type { ClientHttp2Session, ClientHttp2Stream } from "node:http2";
import type { Duplex } from "node:stream";
import type { GuardCommand, GuardNotice } from "#contract/guard";
import { MAX_CONTROL_CHARS, PIPE_PATHS } from "#contract/pipe";
import { readCommand } from "./read-command.ts";

export class Link {
  readonly #session: ClientHttp2Session;
  #control: ClientHttp2Stream | undefined;

  constructor(session: ClientHttp2Session) {
    this.#session = session;
  }

  /** Opens the control stream; every parsed command goes to `take`. A broken command ends the guard. */
  openControl(take: (command: GuardCommand) => void): void {
    const control = this.open(PIPE_PATHS.control);
    this.#control = control;
    let rest = "";
    control.setEncoding("utf8");
    control.on("data", (text: string) => {
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      if (rest.length > MAX_CONTROL_CHARS) throw new Error("control line too long");
      for (const line of lines) take(readCommand(line));
    });
    control.once("close", () => this.#session.close());
  }

  tell(notice: GuardNotice): void {
    if (this.#control === undefined || this.#control.destroyed) return;
    this.#control.write(`${JSON.stringify(notice)}\n`);
  }

  /** One full-duplex stream to the sidecar. Errors on it end the stream only. */
  open(path: string): ClientHttp2Stream {
    const stream = this.#session.request({ ":method": "POST", ":path": path }, { endStream: false });
    stream.on("error", () => undefined);
    return stream;
  }
}

/** Joins two duplex streams both ways; when one breaks, both end. */
export function join(near: Duplex, far: Duplex): void {
  near.pipe(far);
  far.pipe(near);
  const end = (): void => {
    near.destroy();
    far.destroy();
  };
  near.once("error", end).once("close", () => far.destroyed || far.end());
  far.once("error", end).once("close", () => near.destroyed || near.end());
}
