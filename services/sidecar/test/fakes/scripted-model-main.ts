// Runs a scripted model as its own process: the script is a JSON file, the first line of stdout tells the port.
import { readFile } from "node:fs/promises";
import { ModelScript, openScriptedModel } from "./scripted-model.ts";

const path = process.argv[2];
if (path === undefined) {
  process.stderr.write("usage: node scripted-model-main.ts <script.json>\n");
  process.exit(2);
}
const model = await openScriptedModel(ModelScript.parse(JSON.parse(await readFile(path, "utf8"))));
process.stdout.write(`${JSON.stringify({ port: model.port })}\n`);

const stop = async (): Promise<void> => {
  await model[Symbol.asyncDispose]();
  process.exit(0);
};
process.once("SIGTERM", stop);
process.once("SIGINT", stop);
