// What an engine has under a label, asked over its socket: quick enough for loops in which a client program is not.
import { request } from "node:http";
import { text } from "node:stream/consumers";
import { z } from "zod";

const Containers = z.array(
  z.object({ Id: z.string(), State: z.string(), Labels: z.record(z.string(), z.string()) }),
);
const Volumes = z.object({ Volumes: z.array(z.object({ Name: z.string() })).nullable() });

/** `host` as DOCKER_HOST: a socket. Running or not. */
export async function readContainers(host: string, label: string): Promise<z.infer<typeof Containers>> {
  return Containers.parse(await ask(host, `/containers/json?all=1&${toFilter(label)}`));
}

export async function readVolumes(host: string, label: string): Promise<string[]> {
  const { Volumes: found } = Volumes.parse(await ask(host, `/volumes?${toFilter(label)}`));
  return (found ?? []).map(({ Name }) => Name);
}

function toFilter(label: string): string {
  return `filters=${encodeURIComponent(JSON.stringify({ label: [label] }))}`;
}

async function ask(host: string, path: string): Promise<unknown> {
  const { promise, resolve, reject } = Promise.withResolvers<unknown>();
  const asked = request({ socketPath: host.slice("unix://".length), path, agent: false });
  asked.once("error", reject).once("response", (answer) => {
    text(answer).then((body) => resolve(JSON.parse(body)), reject);
  });
  asked.end();
  return promise;
}
