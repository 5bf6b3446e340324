/** The forms in which a credential's secret may show up: what a header holds is more than the secret itself. */

const MIN_PART_CHARS = 8;
/** Derived forms shorter than this would hit ordinary text (the hex form of one letter is two digits). */
const MIN_DERIVED_CHARS = 6;

/**
 * The value itself; without its scheme (`Bearer`, `Token`, …); of `Basic`, what it encodes and the password in it; and what
 * stands behind each `=`, which a server shows alone (`session=…` of a cookie, `token="…"`).
 */
export function toSecretForms(value: string): string[] {
  const [, scheme = "", bare = ""] = /^(\S+)\s+(.+)$/.exec(value.trim()) ?? [];
  const forms = [value, value.trim(), bare];
  if (scheme.toLowerCase() === "basic") {
    const pair = Buffer.from(bare, "base64").toString("utf8");
    forms.push(pair, pair.slice(pair.indexOf(":") + 1));
  }
  for (const [, part = ""] of value.matchAll(/=\s*"?([^\s;,"]+)/g)) forms.push(part);
  // A part that is a common short word would take the word out of everything.
  return [...new Set(forms.filter((form) => form === value || form.length >= MIN_PART_CHARS))].filter(
    Boolean,
  );
}

/** `widen`: neighbours in base64 text hold some bits of the secret's first and last byte. */
export type TextForm = { readonly text: string; readonly widen: boolean };

/** How a text may be written on its way: as it is, in JSON, percent-encoded, in hexadecimal, backwards, in base64 among other bytes. */
export function toTextForms(secret: string): TextForm[] {
  const bytes = Buffer.from(secret, "utf8");
  const json = JSON.stringify(secret).slice(1, -1);
  const percent = encodeURIComponent(secret.toWellFormed());
  const everyByte = [...bytes].map((byte) => `%${byte.toString(16).padStart(2, "0")}`).join("");
  const hex = bytes.toString("hex");
  const written = [secret, json, JSON.stringify(json).slice(1, -1), ...toOthersJson(secret)];
  const derived = [
    percent,
    percent.replaceAll("%2F", "/"), // Python's
    percent.replace(/%../g, (code) => code.toLowerCase()),
    new URLSearchParams([["", secret]]).toString().slice(1),
    everyByte,
    everyByte.toUpperCase(),
    hex,
    hex.toUpperCase(),
    bytes.toString("base64").replace(/=+$/, ""),
    bytes.toString("base64url"),
    [...secret].reverse().join(""),
  ].filter((text) => text.length >= MIN_DERIVED_CHARS);
  const embedded = [0, 1, 2].flatMap((offset) => toBase64Cores(bytes, offset));
  return [
    ...[...new Set([...written, ...derived])].map((text) => ({ text, widen: false })),
    ...[...new Set(embedded)].map((text) => ({ text, widen: true })),
  ];
}

/** Some writers of JSON escape more than must be: PHP slashes, Go what HTML would read, .NET that and more. */
function toOthersJson(secret: string): string[] {
  const json = JSON.stringify(secret).slice(1, -1);
  const toCode = (sign: string): string => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return [
    json.replaceAll("/", "\\/"),
    json.replace(/[<>&]/g, toCode),
    secret
      .replaceAll("\\", "\\\\")
      .replace(/["&'+<>`]/g, (sign) => `\\u${toCode(sign).slice(2).toUpperCase()}`),
  ];
}

/** What base64 always shows of bytes that begin `offset` bytes after a group of three, whatever stands around them. */
function toBase64Cores(bytes: Buffer, offset: number): string[] {
  const padded = Buffer.concat([Buffer.alloc(offset), bytes]);
  const from = Math.ceil((offset * 8) / 6);
  const to = Math.floor((padded.length * 8) / 6);
  const cores = [padded.toString("base64"), padded.toString("base64url")].map((text) => text.slice(from, to));
  return cores.filter((core) => core.length >= MIN_DERIVED_CHARS);
}
