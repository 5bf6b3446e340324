/** An audit as JSON for programs and as text for people. Neither has a secret in it. */
import { RULES } from "./finding.ts";
import type { ImageAudit } from "./image-audit.ts";

export type Report = ReturnType<typeof toReport>;

/** The whole audit as plain data; `subject` is what was asked for. */
export function toReport(audit: ImageAudit, subject: string, version: string, now: Date) {
  const { findings, accepted, unused, totals, inventories } = audit;
  return {
    format: 1,
    auditor: `pillion ${version}`,
    auditedAt: now.toISOString(),
    subject,
    clean: findings.length === 0,
    images: inventories.map(({ image, npm, embedded, debian, programs }) => ({
      id: image.id,
      references: image.references,
      platform: image.platform,
      layers: image.layers.map(({ name, diffId, bytes }) => ({ name, diffId, bytes })),
      npmPackages: npm,
      embeddedPackages: embedded,
      debianPackages: debian,
      programs,
    })),
    totals,
    findings,
    accepted,
    unusedExceptions: unused,
  };
}

export function toText(report: Report): string {
  const { totals, images, findings, accepted, unusedExceptions } = report;
  const lines = [
    `${report.subject}: ${report.clean ? "clean" : `${findings.length} finding${findings.length === 1 ? "" : "s"}`}`,
    ...images.map(({ id, platform, references }) => `  ${platform}  ${id}  ${references.join(", ")}`),
    `  ${totals.layers} layers, ${totals.files} files, ${toMegabytes(totals.bytes)}, ${totals.npmPackages} npm packages, ` +
      `${totals.debianPackages} Debian packages, ${totals.seconds} s`,
  ];
  for (const [rule, meaning] of Object.entries(RULES)) {
    const own = findings.filter((finding) => finding.rule === rule);
    if (own.length > 0) lines.push("", `${rule}: ${meaning}`, ...own.map(toLine));
  }
  lines.push(...toEmbeddedLines(images.flatMap(({ embeddedPackages }) => embeddedPackages)));
  if (accepted.length > 0)
    lines.push("", "Accepted:", ...accepted.flatMap((item) => [toLine(item), `      because ${item.why}`]));
  if (unusedExceptions.length > 0)
    lines.push(
      "",
      "Exceptions that cover nothing here:",
      ...unusedExceptions.map(({ rule, path }) => `  ${rule} ${path}`),
    );
  return `${lines.map(toSafe).join("\n")}\n`;
}

function toLine({ path, detail, layer, deleted }: ImageAudit["findings"][number]): string {
  const place = layer === "" ? "" : ` [${layer.slice(0, 19)}${deleted ? ", deleted in a later layer" : ""}]`;
  return `  ${path}: ${detail}${place}`;
}

/** No finding, since a mark tells a name only; but what is not proven is said. */
function toEmbeddedLines(embedded: readonly { name: string; path: string }[]): string[] {
  const holders = [...new Set(embedded.map(({ path }) => path))];
  if (holders.length === 0) return [];
  const lines = holders.map((holder) => {
    const names = new Set(embedded.filter(({ path }) => path === holder).map(({ name }) => name));
    return `  ${holder}: ${names.size}`;
  });
  return [
    "",
    "Packages inside others' bundles (in the bill of materials by name; licences not told):",
    ...lines,
  ];
}

function toMegabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

/** Names in an image are its maker's: they must not steer a terminal. */
function toSafe(line: string): string {
  return line.replace(/[\p{Cc}\p{Cf}]/gu, (char) => `\\u{${char.codePointAt(0)?.toString(16)}}`);
}
