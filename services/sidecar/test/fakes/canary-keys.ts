/** One secret of each class that Pillion holds, the outsides that two of them are for, and a program that uses these from inside. */
import { randomBytes } from "node:crypto";
import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openOutsideServer } from "./outside-server.ts";
import type { ScriptedModel } from "./scripted-model.ts";
import { type Needle, toNeedles } from "./secret-scanner.ts";

/** A key that looks different in every form. */
export function toSecret(name: string): string {
  return `${name}/${randomBytes(12).toString("hex")}+${randomBytes(12).toString("hex")}=z`;
}

export interface CanaryKeys extends AsyncDisposable {
  /** The request's own, for its model. */
  readonly modelKey: string;
  /** The operator's, for models of the provider `openai`. */
  readonly operatorKey: string;
  /** Of all of them. */
  readonly needles: readonly Needle[];
  /** The operator's settings: a key and a credential in files, a provider that is the scripted model, what runs may reach. */
  toEnv(model: ScriptedModel): Record<string, string>;
  /** A request's fields: its model's key (first), one by the operator's name, and one of its own. */
  toFields(model: ScriptedModel): {
    readonly credentials: readonly object[];
    readonly egress: readonly string[];
  };
  /** For a shell inside: asks both outsides with what is in the variables, and prints the answers. */
  readonly command: string;
  /** What the outsides were shown, and what they should have been. */
  readShown(): readonly unknown[];
  readonly real: readonly string[];
}

export async function openCanaryKeys(): Promise<CanaryKeys> {
  const directory = mkdtempSync(join(tmpdir(), "pillion-keys-"));
  const names = ["canary-request", "canary-operator", "canary-forge", "canary-token"] as const;
  const [modelKey, operatorKey, forgeKey, tokenKey] = names.map(toSecret) as [string, string, string, string];
  const keyFile = join(directory, "key");
  writeFileSync(keyFile, `${operatorKey}\n`, { mode: 0o600 });
  const [credentialsFile, configDir] = [join(directory, "credentials"), join(directory, "config")];
  cpSync(join(import.meta.dirname, "../../../../config"), configDir, { recursive: true });
  const [forge, hub] = [await openOutsideServer(), await openOutsideServer()];
  const egress = [forge, hub].map(({ port }) => `http://127.0.0.1:${port}`);
  const bound = { host: `127.0.0.1:${forge.port}`, header: "authorization" };
  const visit = `for (const [port, token] of [[${forge.port}, process.env.FORGE_TOKEN], [${hub.port}, process.env.GITHUB_TOKEN]])
    fetch(process.env.PILLION_DOOR + "/to/http/127.0.0.1:" + port + "/echo", { headers: { authorization: "Bearer " + token } })
      .then((answer) => answer.text()).then((text) => console.log(port, token, text));`;
  const held = [{ ...bound, name: "forge", value: `Bearer ${forgeKey}` }];
  writeFileSync(credentialsFile, JSON.stringify(held), { mode: 0o600 });
  return {
    modelKey,
    operatorKey,
    needles: [modelKey, operatorKey, forgeKey, tokenKey].flatMap(toNeedles),
    toEnv(model) {
      const openai = { title: "OpenAI", baseUrl: model.url, api: "openai-completions", models: {} };
      writeFileSync(join(configDir, "providers.json"), JSON.stringify({ openai }));
      return {
        PILLION_CONFIG_DIR: configDir,
        PILLION_OPENAI_API_KEY_FILE: keyFile,
        PILLION_CREDENTIALS_FILE: credentialsFile,
        PILLION_PRIVATE_TARGETS: [model.url, ...egress].join(","),
        PILLION_EGRESS: egress.join(","),
      };
    },
    toFields: (model) => ({
      credentials: [
        { host: new URL(model.url).host, header: "authorization", value: `Bearer ${modelKey}` },
        { ...bound, valueFrom: "forge", env: "FORGE_TOKEN" },
        {
          host: `127.0.0.1:${hub.port}`,
          header: "authorization",
          value: `Bearer ${tokenKey}`,
          env: "GITHUB_TOKEN",
        },
      ],
      egress,
    }),
    command: `$(command -v node || echo /proc/$PPID/exe) -e '${visit}'`,
    readShown: () =>
      [forge, hub].flatMap(({ requests }) => requests.map(({ headers }) => headers.authorization)),
    real: [forgeKey, tokenKey].map((key) => `Bearer ${key}`),
    async [Symbol.asyncDispose]() {
      await forge[Symbol.asyncDispose]();
      await hub[Symbol.asyncDispose]();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
