/** The program `pillion engine-proxy`: stands between the service and a Docker engine, in a container of its own. */
import { readFileSync } from "node:fs";
import { request } from "node:http";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Profiles } from "./container-body.ts";
import { readOptions, USAGE, type Wish } from "./options.ts";
import { openProxy, type Told } from "./proxy.ts";

const HERE = dirname(fileURLToPath(import.meta.url));
const CHECK_MS = 4_000;

async function main(args: readonly string[]): Promise<void> {
  const wish = toWish(args);
  if (wish === undefined) return;
  if (wish.kind === "help") return void process.stdout.write(USAGE);
  if (wish.kind === "check") return check(wish.options.listen);
  const { options } = wish;
  const profiles = readProfiles(join(HERE, "product/docker"));
  const proxy = await openProxy({ options, profiles, onRefusal: (told) => log("warn", "refused", told) });
  log("info", "ready", { listen: options.listen, engine: options.engine, images: options.images });
  const stop = (): void => void proxy[Symbol.asyncDispose]().then(() => process.exit(0));
  process.once("SIGTERM", stop).once("SIGINT", stop);
}

function toWish(args: readonly string[]): Wish | undefined {
  try {
    return readOptions(args);
  } catch (error) {
    process.stderr.write(
      `engine-proxy: ${error instanceof Error ? error.message : "wrong flags"}\n\n${USAGE}`,
    );
    process.exitCode = 2;
    return undefined;
  }
}

/** The texts that the service sends, made in the same way from the same files. */
function readProfiles(directory: string): Profiles {
  const read = (name: string) => JSON.stringify(JSON.parse(readFileSync(join(directory, name), "utf8")));
  return { usual: read("seccomp.json"), browser: read("seccomp-browser.json") };
}

/** Exit code 0 when the proxy answers and the engine behind it does. */
function check(socketPath: string): void {
  const fail = (why: string): void => {
    process.stdout.write(`${why}\n`);
    process.exitCode = 1;
  };
  const asked = request(
    { socketPath, path: "/_ping", headers: { host: "engine-proxy" }, agent: false },
    (got) => {
      got.resume();
      if (got.statusCode !== 200) fail(`the engine behind the proxy does not answer: ${got.statusCode}`);
    },
  );
  asked.setTimeout(CHECK_MS, () => asked.destroy(new Error("it takes too long")));
  asked.on("error", (error) => fail(`the proxy does not answer: ${error.message}`)).end();
}

function log(level: string, msg: string, more: Told | object): void {
  const line = JSON.stringify({
    level,
    time: new Date().toISOString(),
    service: "engine-proxy",
    msg,
    ...more,
  });
  process.stderr.write(`${line}\n`);
}

await main(process.argv.slice(2)).catch((error: unknown) => {
  process.stderr.write(`engine-proxy: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});
