/** The forms in which a credential's secret may show up: what a header holds is more than the secret itself. */

const MIN_PART_CHARS = 8;

/** The value itself; without its scheme (`Bearer`, `Token`, …); and of `Basic`, what it encodes and the password in it. */
export function toSecretForms(value: string): string[] {
  const [, scheme = "", bare = ""] = /^(\S+)\s+(.+)$/.exec(value.trim()) ?? [];
  const forms = [value, value.trim(), bare];
  if (scheme.toLowerCase() === "basic") {
    const pair = Buffer.from(bare, "base64").toString("utf8");
    forms.push(pair, pair.slice(pair.indexOf(":") + 1));
  }
  // A part that is a common short word would take the word out of everything.
  return [...new Set(forms.filter((form) => form === value || form.length >= MIN_PART_CHARS))].filter(
    Boolean,
  );
}
