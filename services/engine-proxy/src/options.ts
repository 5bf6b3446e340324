/** The flags of `pillion engine-proxy`: what it listens on, the engine behind it, and what it lets through. Pure. */
import { parseArgs } from "node:util";
import { toMemoryBytes } from "#contract/sandbox";

export type ProxyOptions = {
  /** Path of the socket that is made. */
  readonly listen: string;
  /** Path of the engine's own socket. */
  readonly engine: string;
  /** Names of images that containers may be made of, as the engine knows them. */
  readonly images: readonly string[];
  /** Those of them whose containers may have the seccomp profile that Chromium needs. */
  readonly browserImages: readonly string[];
  /** Marks what is made through this proxy, so that two on one engine do not reach each other's. */
  readonly scope: string;
  /** Directories of the engine's machine under which a container may be given one; seen by the proxy under the same path. */
  readonly binds: readonly string[];
  /** A network that containers may join; without it they have none. */
  readonly network: string | undefined;
  readonly runtimes: readonly string[];
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly pids: number;
  /** Most containers at one time. */
  readonly containers: number;
};

export const USAGE = `Usage: pillion engine-proxy --image NAME [options]

Passes on the few calls that Pillion makes of a Docker engine, and refuses every other.

  --listen PATH      socket to make (default: /run/pillion/engine.sock)
  --engine PATH      socket of the engine (default: /var/run/docker.sock)
  --image NAME       image that containers may be made of; may be repeated or comma-separated
  --browser-image NAME
                     of these, one whose containers may make the namespaces that Chromium needs;
                     may be repeated or comma-separated (default: none)
  --scope WORD       marks what is made through this proxy (default: pillion)
  --bind DIRECTORY   directory under which containers may be given one; may be repeated (default: none)
  --network NAME     network of the engine that containers may join (default: none)
  --runtime NAME     runtime of containers; may be repeated (default: runc, runsc)
  --cpus N           most processors of a container (default: 4)
  --memory SIZE      most memory of a container, like 8g (default: 8g)
  --pids N           most processes of a container (default: 512)
  --containers N     most containers at one time (default: 64)
  --check            ask the proxy that listens whether engine and proxy are well, and end
  --help             this text
`;

export type Wish =
  | { readonly kind: "serve" | "check"; readonly options: ProxyOptions }
  | { readonly kind: "help" };

/** Throws an Error in words for the person who started it. An empty value means not given, as in a compose file. */
export function readOptions(args: readonly string[]): Wish {
  const one = { type: "string" } as const;
  const many = { type: "string", multiple: true } as const;
  const { values } = parseArgs({
    args: [...args],
    options: {
      ...{ listen: one, engine: one, scope: one, network: one, cpus: one, memory: one, pids: one },
      ...{ image: many, "browser-image": many, bind: many, runtime: many, containers: one },
      ...{ check: { type: "boolean" }, help: { type: "boolean" } },
    },
  });
  if (values.help === true) return { kind: "help" };
  const options = {
    listen: toPath("listen", values.listen || "/run/pillion/engine.sock"),
    engine: toPath("engine", values.engine || "/var/run/docker.sock"),
    images: toList(values.image, []),
    browserImages: toList(values["browser-image"], []),
    scope: values.scope || "pillion",
    binds: toList(values.bind, []).map((path) => toPath("bind", path)),
    network: values.network || undefined,
    runtimes: toList(values.runtime, ["runc", "runsc"]),
    cpus: toNumber("cpus", values.cpus || "4"),
    memoryBytes: toBytes(values.memory || "8g"),
    pids: toNumber("pids", values.pids || "512"),
    containers: toNumber("containers", values.containers || "64"),
  };
  if (values.check === true) return { kind: "check", options };
  if (options.images.length === 0) throw new Error("--image is missing: name the image of runs");
  if (!options.browserImages.every((name) => options.images.includes(name)))
    throw new Error("--browser-image must be one of those that --image names, in the same words");
  if (!/^[a-z0-9][\w.-]{0,62}$/i.test(options.scope)) throw new Error("--scope must be a plain word");
  if (
    options.network !== undefined &&
    !/^(?!host$|none$|default$)[a-z0-9][\w.-]{0,127}$/i.test(options.network)
  )
    throw new Error("--network must be the name of a network of the engine, not the host's");
  return { kind: "serve", options };
}

function toList(given: readonly string[] | undefined, otherwise: readonly string[]): readonly string[] {
  const words = (given ?? []).flatMap((text) => text.split(",")).filter((word) => word !== "");
  return words.length === 0 ? otherwise : words;
}

function toPath(flag: string, path: string): string {
  if (/^(\/[^/\0]+)+$/.test(path) && !/\/\.{1,2}(\/|$)/.test(path)) return path;
  throw new Error(`--${flag} must be an absolute path without a slash at its end`);
}

function toNumber(flag: string, text: string): number {
  if (/^[1-9]\d{0,6}$/.test(text)) return Number(text);
  throw new Error(`--${flag} must be a whole number from 1 on`);
}

/** In the form of PILLION_MEMORY, so that what one of the two takes the other takes too. */
function toBytes(text: string): number {
  const bytes = toMemoryBytes(text);
  if (bytes >= 1) return bytes;
  throw new Error("--memory must be a size like 512m or 8g");
}
