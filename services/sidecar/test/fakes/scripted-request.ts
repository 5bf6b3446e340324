/** Run requests for the scripted model, in each of its dialects. */
import type { ModelApi } from "#contract/extension";
import { Run } from "#contract/run";
import type { ScriptedModel, Turn } from "./scripted-model.ts";

/** The dialects that the scripted model speaks. */
export const DIALECTS = [
  "openai-completions",
  "openai-responses",
  "anthropic-messages",
] as const satisfies readonly ModelApi[];

/** The secret that only the model's provider may ever see. */
export const KEY = "canary-7f3a9c51e2d84b60";

export type ScriptedRequestOptions = {
  readonly api?: ModelApi;
  /** Which of the model's `scripts` is played. */
  readonly name?: string;
  /** More of the request's own fields. */
  readonly fields?: object;
};

/** A request to the scripted model in one of its dialects, with the key in the vendor's header. */
export function toScriptedRequest(
  model: Pick<ScriptedModel, "port" | "url">,
  options: ScriptedRequestOptions = {},
): object {
  const { api = "openai-completions", name = "scripted", fields = {} } = options;
  const isAnthropic = api === "anthropic-messages";
  const host = `127.0.0.1:${model.port}`;
  return {
    prompt: "Give the package a function that tells whether an id is from the future.",
    model: { name: `acme/${name}`, baseUrl: isAnthropic ? model.url : `${model.url}/v1`, api },
    credentials: [
      isAnthropic
        ? { host, header: "x-api-key", value: KEY }
        : { host, header: "authorization", value: `Bearer ${KEY}` },
    ],
    ...fields,
  };
}

/** Turns that only look around, one model call each. */
export function looking(times: number): Turn[] {
  return Array.from({ length: times }, () => ({ toolCalls: [{ name: "ls", arguments: {} }] }));
}

/** The run in an answer. Throws where the answer is none. */
export async function toRun(response: Response): Promise<Run> {
  return Run.parse(await response.json());
}
