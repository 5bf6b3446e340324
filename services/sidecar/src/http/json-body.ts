/** Reads a request body that must be JSON, within bounds of bytes and depth, before anything else looks at it. */
import { Fault } from "../kernel/fault.ts";
import type { CallerContext } from "./caller-env.ts";
import { toInvalid, toPointer } from "./field-errors.ts";

const MAX_DEPTH = 64;
/** The largest valid request has about half as many; without a bound, zod would keep an issue for each bad one. */
const MAX_VALUES = 100_000;
const BROKEN_TEXT = "holds half a surrogate pair";

/**
 * The parsed body. Throws unsupported_media_type, too_large and invalid_request.
 * A `content-length` over the limit is refused before a byte is read.
 */
export async function readJsonBody(context: CallerContext, maxBytes: number): Promise<unknown> {
  refuseOtherMedia(context);
  const text = decode(await readBytes(context, maxBytes));
  if (text.trim() === "") throw new Fault("invalid_request", "The body is empty; it must be JSON.");
  const value = parse(text);
  refuseHostileShape(value);
  return value;
}

/** True when the request brings a body. */
export function hasBody(context: CallerContext): boolean {
  const length = context.req.header("content-length");
  if (length !== undefined) return length !== "0";
  if (context.req.header("transfer-encoding") !== undefined) return true;
  return context.env?.incoming === undefined && context.req.raw.body !== null;
}

function refuseOtherMedia(context: CallerContext): void {
  const encoding = context.req.header("content-encoding")?.trim().toLowerCase();
  if (encoding !== undefined && encoding !== "" && encoding !== "identity") {
    throw new Fault("unsupported_media_type", "The body must be sent without a content encoding.");
  }
  const [type, ...parameters] = (context.req.header("content-type") ?? "")
    .split(";")
    .map((part) => part.trim().toLowerCase());
  const isUtf8 = parameters.every((parameter) => parameter === "" || /^charset="?utf-8"?$/.test(parameter));
  if (type !== "application/json" || !isUtf8) {
    throw new Fault("unsupported_media_type", "The body must be sent as `application/json` in UTF-8.");
  }
}

async function readBytes(context: CallerContext, maxBytes: number): Promise<Uint8Array> {
  const tooLarge = (): Fault => new Fault("too_large", `The body may have at most ${maxBytes} bytes.`);
  const announced = Number(context.req.header("content-length") ?? 0);
  if (announced > maxBytes) throw tooLarge();
  const chunks: Uint8Array[] = [];
  let length = 0;
  const reader = context.req.raw.body?.getReader();
  if (reader === undefined) return new Uint8Array();
  for (;;) {
    const { done, value } = await readChunk(reader);
    if (done) return Buffer.concat(chunks, length);
    length += value.byteLength;
    if (length > maxBytes) {
      reader.cancel().catch(() => undefined);
      throw tooLarge();
    }
    chunks.push(value);
  }
}

type Reader = ReadableStreamDefaultReader<Uint8Array>;

async function readChunk(reader: Reader): ReturnType<Reader["read"]> {
  try {
    return await reader.read();
  } catch (cause) {
    throw new Fault("invalid_request", "The body ended before it was whole.", { cause });
  }
}

function decode(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new Fault("invalid_request", "The body is not valid UTF-8.");
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    // The engine's own message quotes the body, which may hold a secret; only the position is told.
    const position = error instanceof SyntaxError ? /at position (\d+)/.exec(error.message)?.[1] : undefined;
    throw new Fault(
      "invalid_request",
      `The body is not valid JSON${position === undefined ? "" : ` (at character ${position})`}.`,
    );
  }
}

type Node = {
  readonly value: object;
  readonly key: string;
  readonly parent: Node | undefined;
  readonly depth: number;
};

/** Refuses what strict schemas cannot see or would see too late: depth, sheer number, prototype keys, broken text. */
function refuseHostileShape(root: unknown): void {
  if (typeof root === "string" && !root.isWellFormed()) throw refusal(undefined, [], BROKEN_TEXT);
  const open: Node[] = isObject(root) ? [{ value: root, key: "", parent: undefined, depth: 1 }] : [];
  let values = 0;
  for (let node = open.pop(); node !== undefined; node = open.pop()) {
    if (node.depth > MAX_DEPTH) {
      throw new Fault("invalid_request", `The body is nested deeper than ${MAX_DEPTH} levels.`);
    }
    const keys = Object.keys(node.value);
    values += keys.length;
    if (values > MAX_VALUES)
      throw new Fault("invalid_request", `The body holds more than ${MAX_VALUES} values.`);
    for (const key of keys) {
      refuseKey(node, key);
      const child: unknown = Reflect.get(node.value, key);
      if (typeof child === "string" && !child.isWellFormed()) throw refusal(node, [key], BROKEN_TEXT);
      if (isObject(child)) open.push({ value: child, key, parent: node, depth: node.depth + 1 });
    }
  }
}

function refuseKey(node: Node, key: string): void {
  if (key === "__proto__" || (key === "prototype" && node.key === "constructor")) {
    throw refusal(node, [key], "this key is not allowed");
  }
  if (!key.isWellFormed()) throw refusal(node, [], `has a key that ${BROKEN_TEXT}`);
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null;
}

function refusal(at: Node | undefined, keys: readonly string[], message: string): Fault {
  const path = [...keys];
  for (let node = at; node?.parent !== undefined; node = node.parent) path.unshift(node.key);
  return toInvalid([{ path: toPointer(path), message }]);
}
