/** Encoders of the few instructions that a probe is made of, for x86-64 and arm64. Operands: addresses and values of 64 bits. */

export type Label = { at?: number };

/** Registers by what they hold at a system call. */
export type Register = "number" | "result" | 0 | 1 | 2 | 3 | 4 | 5;

export interface Encoder {
  /** e_machine of the ELF header. */
  readonly machine: number;
  /** A register gets a value. */
  set(register: Register, value: bigint): void;
  /** A register gets the word at an address. */
  load(register: Register, address: bigint): void;
  /** The result of the last call is written to an address. */
  storeResult(address: bigint): void;
  /** A value is written to an address. Keeps the result. */
  storeValue(value: bigint, address: bigint): void;
  enterKernel(): void;
  /** The kernel's 32-bit entry, where the processor has one. */
  enterOldKernel(): void;
  mark(label: Label): void;
  jump(label: Label): void;
  /** Jumps when the result is an error number, which is between -4095 and -1. */
  jumpIfError(label: Label): void;
  jumpIfNotZero(label: Label): void;
  /** The code with all jumps resolved. */
  finish(): Buffer;
}

type Jump = { readonly at: number; readonly label: Label };

function toWord(value: bigint): Buffer {
  const word = Buffer.alloc(8);
  word.writeBigUInt64LE(BigInt.asUintN(64, value));
  return word;
}

/** Collects code, and the places where a jump's distance goes. */
class Code {
  readonly #parts: Buffer[] = [];
  readonly jumps: Jump[] = [];
  length = 0;

  add(...parts: readonly (Buffer | readonly number[])[]): void {
    for (const part of parts) {
      this.#parts.push(Buffer.from(part));
      this.length += part.length;
    }
  }

  whole(): Buffer {
    return Buffer.concat(this.#parts);
  }
}

/** Intel SDM volume 2: MOV r64,imm64 · MOV r64,r/m64 · MOV r/m64,r64 · CMP · Jcc rel32. */
export class X64Encoder implements Encoder {
  readonly machine = 62;
  readonly #code = new Code();

  set(register: Register, value: bigint): void {
    this.#code.add(SET[register], toWord(value));
  }

  load(register: Register, address: bigint): void {
    this.#code.add([0x48, 0xb8], toWord(address), LOAD[register]); // by way of rax
  }

  storeResult(address: bigint): void {
    this.#code.add([0x48, 0xb9], toWord(address), [0x48, 0x89, 0x01]); // by way of rcx
  }

  storeValue(value: bigint, address: bigint): void {
    this.#code.add([0x48, 0xb9], toWord(address), [0x48, 0xba], toWord(value), [0x48, 0x89, 0x11]);
  }

  enterKernel(): void {
    this.#code.add([0x0f, 0x05]);
  }

  enterOldKernel(): void {
    this.#code.add([0xcd, 0x80]);
  }

  mark(label: Label): void {
    label.at = this.#code.length;
  }

  jump(label: Label): void {
    this.#jump([0xe9], label);
  }

  jumpIfError(label: Label): void {
    this.#code.add([0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff]);
    this.#jump([0x0f, 0x83], label);
  }

  jumpIfNotZero(label: Label): void {
    this.#code.add([0x48, 0x85, 0xc0]);
    this.#jump([0x0f, 0x85], label);
  }

  finish(): Buffer {
    const code = this.#code.whole();
    for (const { at, label } of this.#code.jumps) code.writeInt32LE((label.at ?? 0) - at - 4, at);
    return code;
  }

  #jump(instruction: readonly number[], label: Label): void {
    this.#code.add(instruction);
    this.#code.jumps.push({ at: this.#code.length, label });
    this.#code.add([0, 0, 0, 0]);
  }
}

/** rax holds number and result; rdi, rsi, rdx, r10, r8, r9 the arguments. */
const SET: Readonly<Record<Register, readonly number[]>> = {
  ...{ number: [0x48, 0xb8], result: [0x48, 0xb8], 0: [0x48, 0xbf], 1: [0x48, 0xbe] },
  ...{ 2: [0x48, 0xba], 3: [0x49, 0xba], 4: [0x49, 0xb8], 5: [0x49, 0xb9] },
};
const LOAD: Readonly<Record<Register, readonly number[]>> = {
  ...{ number: [0x48, 0x8b, 0x00], result: [0x48, 0x8b, 0x00], 0: [0x48, 0x8b, 0x38], 1: [0x48, 0x8b, 0x30] },
  ...{ 2: [0x48, 0x8b, 0x10], 3: [0x4c, 0x8b, 0x10], 4: [0x4c, 0x8b, 0x00], 5: [0x4c, 0x8b, 0x08] },
};

const [SCRATCH, POINTER] = [9, 10];

/** Arm ARM, A64: MOVZ, MOVK, LDR, STR, SVC, CMN, B, B.cond, CBNZ. Registers x8 (number), x0 (result), x0 to x5. */
export class Arm64Encoder implements Encoder {
  readonly machine = 183;
  readonly #code = new Code();

  set(register: Register, value: bigint): void {
    this.#move(toArmRegister(register), value);
  }

  load(register: Register, address: bigint): void {
    this.#move(POINTER, address);
    this.#add(0xf9400000 | (POINTER << 5) | toArmRegister(register));
  }

  storeResult(address: bigint): void {
    this.#move(POINTER, address);
    this.#add(0xf9000000 | (POINTER << 5));
  }

  storeValue(value: bigint, address: bigint): void {
    this.#move(POINTER, address);
    this.#move(SCRATCH, value);
    this.#add(0xf9000000 | (POINTER << 5) | SCRATCH);
  }

  enterKernel(): void {
    this.#add(0xd4000001);
  }

  enterOldKernel(): void {
    throw new Error("this processor has no 32-bit entry from 64-bit code");
  }

  mark(label: Label): void {
    label.at = this.#code.length;
  }

  jump(label: Label): void {
    this.#jump(0x14000000, label);
  }

  jumpIfError(label: Label): void {
    this.#add(0xb13ffc1f); // cmn x0, #4095
    this.#jump(0x54000002, label); // b.hs
  }

  jumpIfNotZero(label: Label): void {
    this.#jump(0xb5000000, label);
  }

  finish(): Buffer {
    const code = this.#code.whole();
    for (const { at, label } of this.#code.jumps) {
      const instruction = code.readUInt32LE(at);
      const distance = ((label.at ?? 0) - at) / 4;
      const isPlain = instruction === 0x14000000;
      const field = isPlain ? distance & 0x3ffffff : (distance & 0x7ffff) << 5;
      code.writeUInt32LE((instruction | field) >>> 0, at);
    }
    return code;
  }

  #move(register: number, value: bigint): void {
    const word = toWord(value);
    for (let part = 0; part < 4; part += 1) {
      const instruction = part === 0 ? 0xd2800000 : 0xf2800000;
      this.#add(instruction | (part << 21) | (word.readUInt16LE(part * 2) << 5) | register);
    }
  }

  #add(instruction: number): void {
    const word = Buffer.alloc(4);
    word.writeUInt32LE(instruction >>> 0);
    this.#code.add(word);
  }

  #jump(instruction: number, label: Label): void {
    this.#code.jumps.push({ at: this.#code.length, label });
    this.#add(instruction);
  }
}

function toArmRegister(register: Register): number {
  if (register === "number") return 8;
  return register === "result" ? 0 : register;
}
