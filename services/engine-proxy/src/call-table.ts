/** The calls that are passed on, and nothing else is: method, exact path, query, body, and what is checked before. */
import { z } from "zod";
import type { Belongings } from "./belongings.ts";
import {
  FILLER_LABEL,
  FillerBody,
  type Profiles,
  SCOPE_LABEL,
  toRunBody,
  toSecurityOption,
  VolumeBody,
} from "./container-body.ts";
import type { EngineCall } from "./engine-client.ts";
import type { ProxyOptions } from "./options.ts";
import { Refusal } from "./refusal.ts";

/** One call of a caller: its path taken apart, its query, and its JSON body where the rule has one. */
export type Ask = {
  /** What stood in the brackets of the rule's path. */
  readonly target: string;
  readonly query: Query;
  readonly json: unknown;
  /** Aborted when the caller has left. */
  readonly signal: AbortSignal;
};

type Query = Readonly<Record<string, string | undefined>>;

export type Rule = {
  readonly method: "GET" | "POST" | "PUT" | "DELETE";
  /** Of the whole path; at most one bracket. */
  readonly path: RegExp;
  readonly query: z.ZodType<Query>;
  readonly body: "none" | "json" | "tar" | "streams";
  readonly toCall: (ask: Ask) => Promise<EngineCall>;
  /** What of a JSON answer is passed on; without it the answer is passed on as it comes. */
  readonly toAnswer?: (answer: unknown) => unknown;
};

export type TableParts = {
  readonly options: ProxyOptions;
  readonly profiles: Profiles;
  readonly belongings: Belongings;
};

/** A version before a path changes what some calls mean; these are the ones that are known. */
const VERSION = "(?:/v1\\.[4-9]\\d)?";
const CONTAINER = "/containers/([0-9a-f]{64})";
const VOLUME = "/volumes/(pillion-[\\w.-]{1,120})";
const IMAGE = "/images/([a-z0-9][\\w./:@-]{0,511})/json";

const none = z.strictObject({});
const yes = z.enum(["true", "1"]);
const Filters = z.strictObject({
  label: z.tuple([z.string().regex(/^org\.pillion\.(instance|product|run)=[\w-]{1,80}$/)]),
});
const Filtered = z.strictObject({ filters: z.string() });
const Name = z.string().regex(/^pillion-[\w.-]{1,120}$/);

/** The rest of an engine's account of itself is nobody's business: it names registries, proxies and their passwords. */
const Facts = z.object({
  ...{ ServerVersion: z.unknown(), NCPU: z.unknown(), MemTotal: z.unknown(), Runtimes: z.unknown() },
  ...{ OSType: z.unknown(), Architecture: z.unknown(), KernelVersion: z.unknown() },
  ...{ SecurityOptions: z.unknown(), CgroupVersion: z.unknown(), Driver: z.unknown() },
});

export function toCallTable({ options, profiles, belongings }: TableParts): readonly Rule[] {
  const RunBody = toRunBody(options, profiles);
  const mark = { [SCOPE_LABEL]: options.scope };

  const own = async ({ target, signal }: Ask) => belongings.checkContainer(target, signal);
  const toFilters = (text: string): string => {
    const { label } = parse(Filters, readJson(text));
    return encodeURIComponent(JSON.stringify({ label: [...label, `${SCOPE_LABEL}=${options.scope}`] }));
  };
  const plain = (
    method: Rule["method"],
    path: string,
    query: Rule["query"],
    toCall: Rule["toCall"],
  ): Rule => ({
    method,
    path: new RegExp(`^${VERSION}${path}$`),
    query,
    body: "none",
    toCall,
  });
  const isBrowser = (option: string) => option === toSecurityOption(profiles.browser);
  const hasBrowserProfile = ({ HostConfig }: z.infer<typeof RunBody> | z.infer<typeof FillerBody>) =>
    "SecurityOpt" in HostConfig && HostConfig.SecurityOpt.some(isBrowser);
  const get = async (path: string): Promise<EngineCall> => ({ method: "GET", path });

  return [
    plain("GET", "/_ping", none, () => get("/_ping")),
    { ...plain("GET", "/info", none, () => get("/info")), toAnswer: (answer) => Facts.parse(answer) },
    plain("GET", IMAGE, none, async ({ target, signal }) => {
      await belongings.checkImage(target, signal);
      return get(`/images/${target}/json`);
    }),
    plain("GET", "/containers/json", Filtered.extend({ all: yes.optional() }), ({ query }) =>
      get(`/containers/json?all=true&filters=${toFilters(query.filters ?? "")}`),
    ),
    plain("GET", "/volumes", Filtered, ({ query }) =>
      get(`/volumes?filters=${toFilters(query.filters ?? "")}`),
    ),
    plain("GET", `${CONTAINER}/json`, none, async (ask) => {
      await own(ask);
      return get(`/containers/${ask.target}/json`);
    }),
    plain("POST", `${CONTAINER}/start`, none, async (ask) => {
      if ((await own(ask)).isFiller) throw new Refusal("a container that fills a volume is never started");
      return { method: "POST", path: `/containers/${ask.target}/start` };
    }),
    plain("DELETE", CONTAINER, z.strictObject({ force: yes.optional(), v: yes.optional() }), async (ask) => {
      await own(ask);
      return { method: "DELETE", path: `/containers/${ask.target}?force=true&v=true` };
    }),
    plain("DELETE", VOLUME, none, async ({ target, signal }) => {
      await belongings.checkVolume(target, signal);
      return { method: "DELETE", path: `/volumes/${target}` };
    }),
    {
      ...plain("POST", "/volumes/create", z.object({}), async ({ json }) => {
        const { Name: name, Labels } = parse(VolumeBody, json);
        return {
          method: "POST",
          path: "/volumes/create",
          json: { Name: name, Labels: { ...Labels, ...mark } },
        };
      }),
      body: "json",
    },
    {
      ...plain("POST", "/containers/create", z.object({ name: Name.optional() }), async (ask) => {
        const { query, json, signal } = ask;
        const isFiller = !hasKey(json, "Cmd");
        const { name: _, ...body } = isFiller ? parse(FillerBody, json) : parse(RunBody, json);
        await belongings.checkImage(body.Image, signal);
        if (hasBrowserProfile(body)) await belongings.checkBrowserImage(body.Image, signal);
        await belongings.checkMounts(body.HostConfig.Mounts, signal);
        await belongings.checkCount(signal);
        const Labels = { ...body.Labels, ...mark, ...(isFiller ? { [FILLER_LABEL]: "true" } : {}) };
        const asked = query.name === undefined ? "" : `?name=${query.name}`;
        return { method: "POST", path: `/containers/create${asked}`, json: { ...body, Labels } };
      }),
      body: "json",
    },
    {
      ...plain(
        "PUT",
        `${CONTAINER}/archive`,
        z.strictObject({ path: z.string().regex(/^\/[\w./-]{1,128}$/) }),
        async (ask) => {
          if (!(await own(ask)).isFiller)
            throw new Refusal("files go only into a container that fills a volume");
          return {
            method: "PUT",
            path: `/containers/${ask.target}/archive?path=${encodeURIComponent(ask.query.path ?? "")}`,
          };
        },
      ),
      body: "tar",
    },
    {
      ...plain(
        "POST",
        `${CONTAINER}/attach`,
        z.strictObject({ ...{ stream: yes, stdin: yes, stdout: yes, stderr: yes }, hijack: yes.optional() }),
        async (ask) => {
          if ((await own(ask)).isFiller) throw new Refusal("a container that fills a volume has no streams");
          const query = "stream=true&stdin=true&stdout=true&stderr=true";
          return { method: "POST", path: `/containers/${ask.target}/attach?${query}` };
        },
      ),
      body: "streams",
    },
  ];
}

function hasKey(value: unknown, key: string): boolean {
  return typeof value === "object" && value !== null && Object.hasOwn(value, key);
}

/** Names the fields that are not as they must be, and none of their values. */
export function parse<T>(schema: z.ZodType<T>, value: unknown): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const fields = parsed.error.issues.map(({ path }) => path.map(String).join(".") || "the whole");
  throw new Refusal(
    `not allowed as it is asked: ${[...new Set(fields)].slice(0, 8).join(", ").slice(0, 400)}`,
  );
}

/**
 * JSON in the one form that JSON.stringify gives it. Whatever could be read in two ways (a key twice, odd escapes) is
 * refused, and what goes to the engine is written anew from the value that was checked.
 */
export function readJson(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    if (JSON.stringify(value) === text) return value;
  } catch {
    // told below
  }
  throw new Refusal("the JSON is not in its plainest form");
}
