/** Makes a static program that issues system calls by number, each probe in a process of its own, and reads what it reports. */

import { CALL_NUMBERS, type CallName } from "./call-numbers.ts";
import { Arm64Encoder, type Encoder, type Label, X64Encoder } from "./machine-code.ts";

/** An argument: a value, a pointer to bytes, a pointer to words (which may be pointers again), or what an earlier step returned. */
export type Argument =
  | number
  | bigint
  | { readonly bytes: Buffer }
  | { readonly words: readonly Argument[] }
  | { readonly step: number };

export type Step = readonly [name: CallName | "i386 getpid", ...args: readonly Argument[]];

/** `value` is what the last step returned, or what the first failing one did; `signal` ended the process. */
export type StepsEnd = { readonly step: number; readonly value: number; readonly signal?: number };

const BASE = 0x1000_0000n;
const DATA = BASE + 0x2_0000n;
const HEADER_BYTES = 64 + 56;
const [SIGCHLD, STDOUT] = [17n, 1n];
const ENDED = 255;
const REPORT_BYTES = 24;
const PAGE_BYTES = 4096;

/** Pointer to text that ends in a zero byte. */
export const text = (value: string): Argument => ({ bytes: Buffer.from(`${value}\0`) });
/** Pointer to that many zero bytes. */
export const zeros = (count: number): Argument => ({ bytes: Buffer.alloc(count) });
export const words = (...values: readonly Argument[]): Argument => ({ words: values });
export const step = (index: number): Argument => ({ step: index });
/** Pointer to 32-bit numbers. */
export const ints = (...values: readonly number[]): Argument => ({
  bytes: Buffer.from(Uint32Array.from(values, (value) => value >>> 0).buffer),
});
/** A page that every process of the program has at the same address, with nothing in it. */
export const OWN_PAGE = DATA;

/** Data of the program; pointers are known at once because it is loaded at a fixed address. */
class Data {
  readonly #parts: Buffer[] = [];
  #length = 0;

  place(bytes: Buffer): bigint {
    const padded = Buffer.concat([bytes, Buffer.alloc((16 - (bytes.length % 16)) % 16)]);
    const address = DATA + BigInt(this.#length);
    this.#parts.push(padded);
    this.#length += padded.length;
    return address;
  }

  whole(): Buffer {
    return Buffer.concat(this.#parts);
  }
}

/** The program as an ELF file for the processor that runs this. */
export function toCallProgram(
  probes: readonly (readonly Step[])[],
  architecture: string = process.arch,
): Buffer {
  const code: Encoder = architecture === "arm64" ? new Arm64Encoder() : new X64Encoder();
  const numbers = CALL_NUMBERS[architecture === "arm64" ? "arm64" : "x64"];
  const data = new Data();
  data.place(Buffer.alloc(PAGE_BYTES)); // OWN_PAGE
  const report = data.place(Buffer.alloc(REPORT_BYTES));
  const status = data.place(Buffer.alloc(8));
  const issue = (name: CallName, args: readonly bigint[]): void => {
    code.set("number", BigInt(numbers[name] ?? -1));
    for (const [index, value] of args.entries()) code.set(toIndex(index), value);
    code.enterKernel();
  };
  const tell = (): void => issue("write", [STDOUT, report, BigInt(REPORT_BYTES)]);

  for (const [index, steps] of probes.entries()) {
    const parent: Label = {};
    const done: Label = {};
    issue("clone", [SIGCHLD, 0n, 0n, 0n, 0n]);
    code.jumpIfNotZero(parent);
    code.storeValue(BigInt(index), report);
    emitSteps(code, data, { steps, numbers, report, done });
    code.mark(done);
    code.storeResult(report + 16n);
    tell();
    issue("exit_group", [0n]);
    code.mark(parent);
    issue("wait4", [-1n, status, 0n, 0n]);
    code.storeValue(BigInt(index), report);
    code.storeValue(BigInt(ENDED), report + 8n);
    code.load("result", status);
    code.storeResult(report + 16n);
    tell();
  }
  issue("exit_group", [0n]);
  return toElf(code, data.whole());
}

type Emission = {
  readonly steps: readonly Step[];
  readonly numbers: Readonly<Partial<Record<CallName, number>>>;
  readonly report: bigint;
  readonly done: Label;
};

function emitSteps(code: Encoder, data: Data, { steps, numbers, report, done }: Emission): void {
  const results = steps.map(() => data.place(Buffer.alloc(8)));
  const toValue = (argument: Argument): bigint => {
    if (typeof argument === "number" || typeof argument === "bigint") return BigInt(argument);
    if ("bytes" in argument) return data.place(argument.bytes);
    if ("step" in argument) throw new Error("a result cannot stand inside a structure");
    const parts = argument.words.map(toValue);
    return data.place(Buffer.concat(parts.map(toLittleEndian)));
  };
  for (const [index, [name, ...args]] of steps.entries()) {
    code.storeValue(BigInt(index), report + 8n);
    for (const [position, argument] of args.entries()) {
      if (typeof argument === "object" && "step" in argument)
        code.load(toIndex(position), results[argument.step] ?? 0n);
      else code.set(toIndex(position), toValue(argument));
    }
    if (name === "i386 getpid") {
      code.set("number", 20n);
      code.enterOldKernel();
    } else {
      code.set("number", BigInt(numbers[name] ?? -1));
      code.enterKernel();
    }
    code.storeResult(results[index] ?? 0n);
    code.jumpIfError(done);
  }
}

function toLittleEndian(value: bigint): Buffer {
  const word = Buffer.alloc(8);
  word.writeBigUInt64LE(BigInt.asUintN(64, value));
  return word;
}

function toIndex(position: number): 0 | 1 | 2 | 3 | 4 | 5 {
  if (position === 0 || position === 1 || position === 2) return position;
  if (position === 3 || position === 4 || position === 5) return position;
  throw new Error("a system call has at most six arguments");
}

/** One segment that may be read, written and executed; the code begins behind the headers. */
function toElf(code: Encoder, data: Buffer): Buffer {
  const text = code.finish();
  const size = Number(DATA - BASE) + data.length;
  if (HEADER_BYTES + text.length > Number(DATA - BASE)) throw new Error("the probes' code is too long");
  const file = Buffer.alloc(size);
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  file.writeUInt16LE(2, 16); // an executable
  file.writeUInt16LE(code.machine, 18);
  file.writeUInt32LE(1, 20);
  file.writeBigUInt64LE(BASE + BigInt(HEADER_BYTES), 24); // entry
  file.writeBigUInt64LE(64n, 32); // program headers
  for (const [value, at] of [
    [64, 52],
    [56, 54],
    [1, 56],
    [64, 58],
  ] as const)
    file.writeUInt16LE(value, at);
  file.writeUInt32LE(1, 64); // PT_LOAD
  file.writeUInt32LE(7, 68); // rwx
  file.writeBigUInt64LE(BASE, 80);
  file.writeBigUInt64LE(BASE, 88);
  file.writeBigUInt64LE(BigInt(size), 96);
  file.writeBigUInt64LE(BigInt(size), 104);
  file.writeBigUInt64LE(0x1000n, 112);
  file.set(text, HEADER_BYTES);
  file.set(data, Number(DATA - BASE));
  return file;
}

/** What each probe came to, from the program's output. Where a call made a second process, the better end counts. */
export function readEnds(output: Buffer, count: number): (StepsEnd | undefined)[] {
  const ends: (StepsEnd | undefined)[] = new Array(count).fill(undefined);
  for (let at = 0; at + REPORT_BYTES <= output.length; at += REPORT_BYTES) {
    const index = Number(output.readBigUInt64LE(at));
    const step = Number(output.readBigUInt64LE(at + 8));
    const value = Number(output.readBigInt64LE(at + 16));
    const known = ends[index];
    if (step === ENDED) ends[index] ??= { step: 0, value: 0, signal: value & 0x7f };
    else if (known === undefined || known.signal !== undefined || value > known.value)
      ends[index] = { step, value };
  }
  return ends;
}
