/** Which licences are allowed, by SPDX expression, and which files are a licence's text. */
import satisfies from "spdx-satisfies";

/** Why a package's licence is not allowed; undefined where it is. */
export function findLicenceProblem(
  licence: string | undefined,
  allowed: readonly string[],
): string | undefined {
  if (licence === undefined) return "declares no licence";
  try {
    return satisfies(licence, [...allowed]) ? undefined : `${licence} is not on the allow list`;
  } catch {
    return `${licence} is no SPDX expression`;
  }
}

/** What package.json says, in its present form and the two that were usual before. */
export function toLicence(manifest: { license?: unknown; licenses?: unknown }): string | undefined {
  const { license, licenses } = manifest;
  if (typeof license === "string" && license !== "") return license;
  const list = Array.isArray(licenses) ? licenses : license === undefined ? [] : [license];
  const names = list.map((item: unknown) => (isTyped(item) ? item.type : item));
  const known = names.filter((name) => typeof name === "string");
  return known.length === 0 ? undefined : known.length === 1 ? known[0] : `(${known.join(" OR ")})`;
}

/** Whether a file with this name, beside a package.json, has the text of its licence. */
export function isLicenceText(name: string): boolean {
  return /^(licen[cs]es?|copying|unlicense|mit-license)([.-][\w.-]*)?$/i.test(name);
}

function isTyped(value: unknown): value is { type: unknown } {
  return typeof value === "object" && value !== null && "type" in value;
}
