/** Reads one answer of a model as it streams: the tokens that its provider reports, and an estimate of those it made. */
import { StringDecoder } from "node:string_decoder";
import { createParser } from "eventsource-parser";
import type { ModelApi } from "#contract/extension";
import { readAnswerPart, type TextPlace, type ToldUsage } from "./model-answer.ts";

/** Tokens of one call. `inputTokens` has neither what was read from the cache nor what was written to it. */
export type CallUsage = {
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly cacheReadTokens: number;
  readonly cacheWriteTokens: number;
  /** Of `cacheWriteTokens`, those kept for an hour: Anthropic takes twice the price of input for them. */
  readonly longCacheWriteTokens?: number;
};

const MAX_EVENT_CHARS = 1024 * 1024;
const MAX_JSON_CHARS = 8 * 1024 * 1024;
const TAIL_CHARS = 64 * 1024;
/** The last word of chat completions. */
const DONE = "[DONE]";
/** Of English text and of code; other languages have more tokens for as many characters. */
export const CHARS_PER_TOKEN = 4;

/**
 * Whether the answer is a stream of events or one JSON text is seen from its bytes: a content type may say anything, and
 * clients do not look at it. What is too large to be read is counted as output by its size.
 */
export class UsageReader {
  readonly #api: ModelApi;
  readonly #decoder = new StringDecoder("utf8");
  readonly #parser = createParser({ onEvent: ({ data, event }) => this.#readPart(data, event) });
  readonly #characters: Record<TextPlace, number> = { streamed: 0, pieces: 0, items: 0, whole: 0 };
  /** Characters of events that were too large. */
  #unread = 0;
  #size = 0;
  #usage: ToldUsage | null = null;
  #tail = "";
  #isEnded = false;
  #isOver = false;
  #endsInReturn = false;
  #isNewLine = true;
  #eventSize = 0;
  #json: Buffer[] | "undecided" | "none" | "read" | "too-large" = "undecided";

  constructor(api: ModelApi) {
    this.#api = api;
  }

  /** Never throws, whatever the bytes are. */
  write(bytes: Buffer): void {
    this.#take(this.#decoder.write(bytes));
  }

  /**
   * Output tokens so far, by the characters of text, reasoning and tool calls. An answer that is one JSON text is counted
   * at its end.
   */
  get estimate(): number {
    const characters = Math.max(...Object.values(this.#characters)) + this.#uncounted();
    return Math.ceil(characters / CHARS_PER_TOKEN);
  }

  /** Whether the last that came is the stream's own last word: a caller that has it needs no more, and may leave. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /**
   * Ends reading. What the provider reported; null when it reported nothing usable. Of an answer that was cut before its
   * provider told the last figures, the output is at least the estimate.
   */
  end(): CallUsage | null {
    this.#take(this.#decoder.end());
    this.#take("\n\n"); // an event that was cut just before its end
    if (Array.isArray(this.#json)) this.#json = this.#readJson(this.#json) ? "read" : "none";
    const told = this.#usage;
    if (told === null || (told.input === undefined && told.output === undefined)) return null;
    const output = told.output ?? 0;
    return {
      inputTokens: told.input ?? 0,
      outputTokens: this.#isEnded ? output : Math.max(output, this.estimate),
      cacheReadTokens: told.cacheRead ?? 0,
      cacheWriteTokens: told.cacheWrite ?? 0,
      longCacheWriteTokens: told.longCacheWrite ?? 0,
    };
  }

  #take(text: string): void {
    this.#keepJson(text);
    for (const line of this.#toLines(text)) this.#takeLine(line);
  }

  /** Lines and pieces of lines, each ended by a line feed whatever it was ended by. */
  #toLines(text: string): string[] {
    if (text === "") return [];
    const isHalf = this.#endsInReturn && text.startsWith("\n"); // of a pair whose first half came before
    this.#endsInReturn = text.endsWith("\r");
    return (isHalf ? text.slice(1) : text).replace(/\r\n?/g, "\n").match(/[^\n]*\n|[^\n]+$/g) ?? [];
  }

  #takeLine(line: string): void {
    const isBlank = this.#isNewLine && line === "\n";
    this.#isNewLine = line.endsWith("\n");
    const before = this.#eventSize;
    this.#eventSize += line.length;
    if (this.#eventSize <= MAX_EVENT_CHARS) {
      this.#parser.feed(line);
    } else {
      this.#unread += before <= MAX_EVENT_CHARS ? this.#eventSize : line.length;
      this.#parser.reset();
    }
    if (isBlank) this.#eventSize = 0;
  }

  #keepJson(text: string): void {
    this.#size += text.length;
    if (this.#json === "undecided") {
      const first = text.trimStart().at(0);
      if (first !== undefined) this.#json = first === "{" ? [] : "none";
    }
    if (!Array.isArray(this.#json)) return;
    this.#tail += text;
    if (this.#tail.length > TAIL_CHARS) this.#keepTail(this.#json);
    if (this.#size > MAX_JSON_CHARS) this.#json = "too-large";
  }

  /** In large pieces: an answer that comes byte by byte must not be held byte by byte. */
  #keepTail(json: Buffer[]): void {
    json.push(Buffer.from(this.#tail));
    this.#tail = "";
  }

  #readJson(json: Buffer[]): boolean {
    this.#keepTail(json);
    return this.#readPart(Buffer.concat(json).toString().trim());
  }

  /** Characters that could not be read: of an answer that may still be one JSON text, none yet. */
  #uncounted(): number {
    if (this.#json === "too-large") return this.#size;
    return Array.isArray(this.#json) || this.#json === "read" ? 0 : this.#unread;
  }

  #readPart(text: string, eventName?: string): boolean {
    const part = toPart(this.#api, text, eventName);
    this.#isOver = part?.isOver ?? text.trim() === DONE;
    if (part === null) return false;
    this.#characters[part.place] += part.characters;
    if (part.usage !== null) this.#usage = { ...this.#usage, ...part.usage };
    if (part.isLast) this.#isEnded = true;
    return true;
  }
}

function toPart(api: ModelApi, text: string, eventName?: string): ReturnType<typeof readAnswerPart> | null {
  try {
    return readAnswerPart(api, JSON.parse(text), eventName);
  } catch {
    return null; // rubbish, or the last word
  }
}
