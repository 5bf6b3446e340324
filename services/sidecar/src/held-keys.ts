/** The operator's keys in memory: where they are in files, each run begins with what the files hold then, so that whoever refreshes a token may do so outside. */
import { statSync } from "node:fs";
import type { Credential } from "#contract/agent";
import { type Settings, toSecrets } from "./settings.ts";
import type { Redactor } from "./telemetry/redaction.ts";

export type HeldKeysParts = {
  readonly settings: Settings;
  readonly redactor: Redactor;
  /** The settings anew, from the same sources. Throws what a start would throw. */
  reread(): Settings;
  /** The files cannot be used as they are; what was read before counts until they can. Told once for each change. */
  onFailure(error: unknown): void;
};

export class HeldKeys {
  readonly #parts: HeldKeysParts;
  #settings: Settings;
  #seen: string;

  constructor(parts: HeldKeysParts) {
    this.#parts = parts;
    this.#settings = parts.settings;
    this.#seen = toStamp(parts.settings.keyFiles);
  }

  get credentials(): readonly Credential[] {
    return this.#read().credentials ?? [];
  }

  /** By provider. */
  get providerKeys(): Readonly<Record<string, string>> {
    const { openaiApiKey: openai, anthropicApiKey: anthropic, openrouterApiKey: openrouter } = this.#read();
    const keys = Object.entries({ openai, anthropic, openrouter });
    return Object.fromEntries(keys.flatMap(([id, key]) => (key === undefined ? [] : [[id, key]])));
  }

  #read(): Settings {
    const stamp = toStamp(this.#settings.keyFiles);
    if (stamp === this.#seen) return this.#settings;
    this.#seen = stamp;
    try {
      const next = this.#parts.reread();
      // Runs that began before still have the old ones, so those are never forgotten by the log.
      const known = new Set(toSecrets(this.#settings));
      for (const secret of toSecrets(next)) if (!known.has(secret)) this.#parts.redactor.add(secret);
      this.#settings = next;
      this.#seen = toStamp(next.keyFiles);
    } catch (error) {
      this.#parts.onFailure(error);
    }
    return this.#settings;
  }
}

/** Changes with any of them; orchestrators put new files in the place of old ones. */
function toStamp(files: readonly string[]): string {
  return files
    .map((file) => {
      const stat = statSync(file, { throwIfNoEntry: false });
      return stat === undefined ? "none" : [stat.dev, stat.ino, stat.size, stat.mtimeMs, stat.ctimeMs].join();
    })
    .join(" ");
}
