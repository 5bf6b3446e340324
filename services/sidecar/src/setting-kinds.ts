/** The kinds of value a setting may have: each reads what an environment variable, flag or config file holds. */
import { z } from "zod";
import { Credential } from "#contract/agent";
import { toNearest, toRule, toShown } from "./setting-issues.ts";

const BYTE_UNITS: Readonly<Record<string, number>> = { "": 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3 };
const DURATION_UNITS: Readonly<Record<string, number>> = {
  "": 1,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
};

/** A whole number in decimal digits. */
export function wholeNumber(min: number, max: number): z.ZodType<number, string> {
  const message = `must be a whole number from ${min} to ${max}`;
  return z
    .string()
    .regex(/^\d{1,15}$/, { message, abort: true })
    .transform(Number)
    .refine((value) => value >= min && value <= max, message);
}

/** A number with or without a decimal point. */
export function decimal(min: number, max: number): z.ZodType<number, string> {
  const message = `must be a number from ${min} to ${max}`;
  return z
    .string()
    .regex(/^\d{1,12}(\.\d{1,12})?$/, { message, abort: true })
    .transform(Number)
    .refine((value) => value >= min && value <= max, message);
}

/** Bytes, plain or with k, m, g (powers of 1024). */
export function bytes(min: string, max: string): z.ZodType<number, string> {
  return quantity(BYTE_UNITS, min, max, "bytes, plain or like 64k, 8m, 1g");
}

/** Milliseconds, plain or with ms, s, m, h. */
export function durationMs(min: string, max: string): z.ZodType<number, string> {
  return quantity(DURATION_UNITS, min, max, "milliseconds, or like 30s, 5m, 1h");
}

/** One of a few words, in lower case. */
export function choice<const T extends readonly [string, ...string[]]>(
  words: T,
): z.ZodType<T[number], string> {
  return z.string().pipe(z.enum(words, { error: `must be one of ${words.join(", ")}` }));
}

/** `true` or `false`, also 1 and 0, yes and no, on and off. */
export function yesOrNo(): z.ZodType<boolean, string> {
  return z.stringbool({
    truthy: ["true", "1", "yes", "on"],
    falsy: ["false", "0", "no", "off"],
    error: "must be true or false",
  });
}

/** Comma-separated items, or an array of them in the config file; empty items are left out. */
export function list(item: z.ZodType<string, string>): z.ZodType<string[], string | string[]> {
  return z
    .union([z.string(), z.array(z.string())], { error: "must be a comma-separated list" })
    .transform(toItems)
    .pipe(z.array(item).max(1000, "must have at most 1000 entries"));
}

/** As the setting's reader counts them. */
export function toItems(value: string | readonly string[]): string[] {
  const items = typeof value === "string" ? value.split(",") : value;
  return items.map((item) => item.trim()).filter((item) => item !== "");
}

/** An absolute path, without its last slash. */
export function absolutePath(): z.ZodType<string, string> {
  return z
    .string()
    .max(4096, "must have at most 4096 characters")
    .refine((path) => path.startsWith("/") && !path.includes("\0"), "must be an absolute path")
    .transform((path) => (path === "/" ? path : path.replace(/\/+$/, "") || "/"));
}

/** An address or name of this machine, as `listen` takes it; an IPv6 address stands without brackets. */
export function addressToBind(): z.ZodType<string, string> {
  return z
    .string()
    .max(255, "must have at most 255 characters")
    .regex(/^[A-Za-z0-9.:%_-]+$/, "must be an address or a host name, without brackets or port");
}

/** A secret as one header can carry it: printable ASCII without spaces. */
export function secretText(): z.ZodType<string, string> {
  return z
    .string()
    .max(16_384, "must have at most 16384 characters")
    .regex(/^[\x21-\x7e]+$/, "must be printable ASCII without spaces");
}

/** The origin of an http or https URL in its normal form; `=` and a range of addresses may follow. */
export function privateTarget(): z.ZodType<string, string> {
  return z
    .string()
    .refine((text) => isOrigin(toOriginAndRange(text)[0]), {
      message: "must be origins like http://127.0.0.1:9000, without a path",
      abort: true,
    })
    .refine((text) => isRange(toOriginAndRange(text)[1]), "must have a range like 10.1.0.0/16 behind the `=`")
    .transform((text) => {
      const [origin, range] = toOriginAndRange(text);
      return range === undefined ? new URL(origin).origin : `${new URL(origin).origin}=${range}`;
    });
}

function toOriginAndRange(text: string): readonly [string, string | undefined] {
  const at = text.indexOf("=");
  return at === -1 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)];
}

function isRange(text: string | undefined): boolean {
  return text === undefined || z.union([z.cidrv4(), z.cidrv6()]).safeParse(text).success;
}

function isOrigin(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const url = new URL(text);
  const isBare = url.pathname === "/" && url.search + url.hash + url.username + url.password === "";
  // The broker reaches no other names: one with `_` or a last dot would be listed in vain.
  const isPlain = /^(\[.*\]|[a-z0-9-]+(\.[a-z0-9-]+)*)$/.test(url.hostname);
  return isBare && isPlain && /^https?:$/.test(url.protocol) && !/[?#]/.test(text);
}

/** A host name as a Host header has it, in lower case; a port may follow. */
export function hostName(): z.ZodType<string, string> {
  return z
    .string()
    .toLowerCase()
    .max(260, "must be host names")
    .regex(
      /^([a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\])(:\d{1,5})?$/,
      "must be host names like pillion.example, without scheme or path",
    );
}

/** JSON array of the contract's credentials. What is wrong is told without quoting any of it. */
export function credentialsJson(): z.ZodType<Credential[], string> {
  return z
    .string()
    .transform((text, context): unknown => {
      try {
        return JSON.parse(text);
      } catch {
        context.addIssue({ code: "custom", message: "must be JSON: an array of {host, header, value}" });
        return z.NEVER;
      }
    })
    .transform((value, context): Credential[] => {
      const parsed = z.array(Credential).max(256).safeParse(value);
      if (parsed.success) return parsed.data;
      for (const issue of parsed.error.issues) {
        const path = issue.path.filter((part) => typeof part === "number" || part in Credential.shape);
        const what = `${path.join(".")} ${toCredentialRule(issue)}`.trim();
        context.addIssue({ code: "custom", message: `must be an array of {host, header, value}: ${what}` });
      }
      return z.NEVER;
    });
}

/** A field that is not known may be a secret in the wrong place: only one that is close to a known one is told. */
function toCredentialRule(issue: z.core.$ZodIssue): string {
  if (issue.code !== "unrecognized_keys") return toRule(issue);
  const known = Object.keys(Credential.shape);
  const told = issue.keys.flatMap((key) => {
    const nearest = toNearest(key, known);
    return nearest === undefined ? [] : [`${toShown(key)} (did you mean ${nearest}?)`];
  });
  const which =
    told.length === issue.keys.length ? `: ${told.join(", ")}` : `; known are ${known.join(", ")}`;
  return `has an unknown field${which}`;
}

function quantity(
  units: Readonly<Record<string, number>>,
  min: string,
  max: string,
  form: string,
): z.ZodType<number, string> {
  const least = toQuantity(units, min);
  const most = toQuantity(units, max);
  const message = `must be ${form}, from ${min} to ${max}`;
  return z
    .string()
    .transform((text) => toQuantity(units, text))
    .refine((value) => value >= least && value <= most, message); // NaN is in no range
}

function toQuantity(units: Readonly<Record<string, number>>, text: string): number {
  const match = /^(\d{1,15})\s*([a-z]{0,2})$/i.exec(text);
  const unit = units[match?.[2]?.toLowerCase() ?? "?"];
  return match === null || unit === undefined ? Number.NaN : Number(match[1]) * unit;
}
