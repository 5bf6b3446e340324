/** One of a laboratory's keepers, as its test sees it: a process that obeys orders until its stdin ends. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { KeeperOrder, KeeperSetting } from "./lab-words.ts";

const START_MS = 20_000;

type Waiting = { resolve(value: unknown): void; reject(error: Error): void };

export class LabProcess implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #begun: Promise<unknown>;
  readonly #waiting = new Map<number, Waiting>();
  #count = 0;
  #complaints = "";

  /** `prefix` gives it a network of its own. */
  constructor(prefix: readonly [string, ...string[]], setting: KeeperSetting) {
    const [file, ...args] = prefix;
    const keeper = [process.execPath, join(import.meta.dirname, "lab-keeper.ts"), JSON.stringify(setting)];
    const child = spawn(file, [...args, ...keeper], { stdio: ["pipe", "pipe", "pipe"] });
    this.#child = child;
    child.stdin.on("error", () => undefined); // its end is told by its close
    child.stderr.setEncoding("utf8").on("data", (said: string) => (this.#complaints += said));
    createInterface({ input: child.stdout }).on("line", (line) => this.#hear(line));
    this.#begun = new Promise((resolve, reject) => this.#waiting.set(0, { resolve, reject }));
    child.once("error", (error) => this.#fail(error));
    child.once("close", () => this.#fail(this.#toEnd()));
  }

  /** Resolves when all its sinks listen. */
  async begin(): Promise<void> {
    const late = setTimeout(() => this.#child.kill("SIGKILL"), START_MS);
    await this.#begun.finally(() => clearTimeout(late));
  }

  /** Throws when it has ended. */
  get pid(): number {
    if (this.#child.pid === undefined || this.#hasEnded) throw this.#toEnd();
    return this.#child.pid;
  }

  async ask(order: KeeperOrder): Promise<unknown> {
    if (this.#hasEnded) throw this.#toEnd();
    this.#count += 1;
    const id = this.#count;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#child.stdin?.write(`${JSON.stringify({ id, order })}\n`);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#hasEnded || this.#child.pid === undefined) return;
    const ended = once(this.#child, "close");
    this.#child.stdin?.end();
    const late = setTimeout(() => this.#child.kill("SIGKILL"), START_MS);
    await ended;
    clearTimeout(late);
  }

  get #hasEnded(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  #toEnd(): Error {
    return new Error(`the laboratory has ended:\n${this.#complaints}`);
  }

  #hear(line: string): void {
    const { id, value, error } = JSON.parse(line);
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (error === undefined) waiting?.resolve(value);
    else waiting?.reject(new Error(`in the laboratory: ${error}`));
  }

  #fail(error: Error): void {
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}
