/** A Node process inside a container that does what it is told, one function after the other: the attacker's hand. */
import { randomUUID } from "node:crypto";
import { createInterface } from "node:readline";
import type { Duplex } from "node:stream";

/** Takes lines of {id, source, args}, calls the function, and answers with its result as JSON. */
export const HAND_SCRIPT = `
  const lines = require("node:readline").createInterface({ input: process.stdin });
  lines.on("line", async (line) => {
    const { id, source, args } = JSON.parse(line);
    let answer;
    try { answer = { id, value: await (0, eval)("(" + source + ")")(...args) }; }
    catch (error) { answer = { id, error: String(error && error.stack || error) }; }
    process.stdout.write(JSON.stringify(answer) + "\\n");
  });
  lines.on("close", () => process.exit(0));`;

type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json };

export class Hand {
  readonly #stdio: Duplex;
  readonly #waiting = new Map<string, { resolve(value: unknown): void; reject(error: Error): void }>();

  constructor(stdio: Duplex) {
    this.#stdio = stdio;
    const lines = createInterface({ input: stdio });
    lines.on("line", (line) => this.#take(line));
    lines.on("close", () => this.#end(new Error("the hand's process ended")));
    stdio.on("error", (error) => this.#end(error));
  }

  /** Runs `work` inside; it must use nothing from outside of it but its arguments. */
  do<Args extends readonly Json[], Result>(
    work: (...args: Args) => Result | Promise<Result>,
    ...args: Args
  ): Promise<Result> {
    const id = randomUUID();
    return new Promise<unknown>((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#stdio.write(`${JSON.stringify({ id, source: work.toString(), args })}\n`);
    }) as Promise<Result>; // JSON of what `work` gave
  }

  #take(line: string): void {
    const { id, value, error } = JSON.parse(line);
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (error === undefined) waiting?.resolve(value);
    else waiting?.reject(new Error(`inside: ${error}`));
  }

  #end(error: Error): void {
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}
