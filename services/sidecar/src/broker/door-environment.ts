/** The environment by which programs inside a sandbox find the door. Pure. */
import type { HeldCredential } from "./vault.ts";

const OWN_HOSTS = "localhost,127.0.0.1,::1";

export type Door = {
  readonly port: number;
  readonly placeholder: string;
  readonly credentials: readonly HeldCredential[];
  /** False on a network of the engine's: programs have a way of their own there, which a proxy would close. */
  readonly isProxy: boolean;
};

/** It holds the placeholder, which is good for this run's door only. */
export function toDoorEnvironment(door: Door): Record<string, string> {
  const { port, placeholder, credentials, isProxy } = door;
  return {
    PILLION_DOOR: `http://127.0.0.1:${port}`,
    PILLION_PLACEHOLDER: placeholder,
    ...(isProxy ? toProxyEnvironment(`http://pillion:${placeholder}@127.0.0.1:${port}`) : {}),
    ...toGitEnvironment(door),
    ...Object.fromEntries(credentials.flatMap(({ env }) => (env === null ? [] : [[env, placeholder]]))),
  };
}

/**
 * What common tools read: curl and git (`http_proxy` in lower case), Python's requests and pip, npm, yarn, pnpm, cargo, Go,
 * Node (from 24 on, when told to).
 */
function toProxyEnvironment(proxy: string): Record<string, string> {
  const both = { HTTP_PROXY: proxy, HTTPS_PROXY: proxy, ALL_PROXY: proxy, NO_PROXY: OWN_HOSTS };
  const lower = Object.fromEntries(Object.entries(both).map(([name, value]) => [name.toLowerCase(), value]));
  return {
    ...both,
    ...lower,
    NODE_USE_ENV_PROXY: "1",
    npm_config_proxy: proxy,
    npm_config_https_proxy: proxy,
    npm_config_noproxy: OWN_HOSTS,
    PIP_PROXY: proxy,
    CARGO_HTTP_PROXY: proxy,
  };
}

/** git is led through the door's base URLs to the hosts that a credential is bound to: nothing can be put into its tunnels. */
function toGitEnvironment({ port, placeholder, credentials }: Door): Record<string, string> {
  const origins = new Set(credentials.map(toOrigin));
  const pairs = [...origins].map((origin) => {
    const [scheme, authority] = origin.split("://", 2);
    const base = `http://pillion:${placeholder}@127.0.0.1:${port}/to/${scheme}/${authority}/`;
    return [`url.${base}.insteadOf`, `${origin}/`] as const;
  });
  const numbered = pairs.flatMap(([key, value], index) => [
    [`GIT_CONFIG_KEY_${index}`, key],
    [`GIT_CONFIG_VALUE_${index}`, value],
  ]);
  return {
    GIT_CONFIG_COUNT: String(pairs.length),
    ...Object.fromEntries(numbered),
    GIT_TERMINAL_PROMPT: "0",
  };
}

function toOrigin({ scheme, host, port }: HeldCredential): string {
  const isUsual = port === (scheme === "https" ? 443 : 80);
  return `${scheme}://${host}${isUsual ? "" : `:${port}`}`;
}
