/** Credentials in what an image carries besides files: environment, labels, build arguments, history, commands. */
import type { Finding } from "./finding.ts";
import type { Image } from "./image-list.ts";
import { isSecretAssignment } from "./secret-rules.ts";
import { findSecrets } from "./secret-scan.ts";

type Spoken = { readonly place: string; readonly text: string };

export async function checkConfig(image: Image, report: (finding: Finding) => void): Promise<void> {
  const tell = (place: string, detail: string) =>
    report({ rule: "credential", path: `config: ${place}`, layer: image.id, detail });
  for (const { place, text } of toSpoken(image)) {
    for (const { name, value } of toAssignments(text))
      if (isSecretAssignment(name, value)) tell(place, `${name} is set`);
    for (const { rule } of await findSecrets(text, place)) tell(place, rule);
  }
}

function toSpoken({ config: { config, history, author } }: Image): Spoken[] {
  const list = (place: string, texts: readonly string[] | null | undefined): Spoken[] =>
    (texts ?? []).map((text) => ({ place, text }));
  return [
    ...list("Env", config?.Env),
    ...Object.entries(config?.Labels ?? {}).map(([name, value]) => ({
      place: "Labels",
      text: `${name}=${value}`,
    })),
    ...list("Cmd", config?.Cmd),
    ...list("Entrypoint", config?.Entrypoint),
    ...list("OnBuild", config?.OnBuild),
    ...list("Healthcheck", config?.Healthcheck?.Test),
    ...list("author", author == null ? [] : [author]),
    ...(history ?? []).flatMap(({ created_by, comment }, index) =>
      list(
        `history ${index + 1}`,
        [created_by, comment].filter((text) => text != null),
      ),
    ),
  ];
}

/** `NAME=value`, wherever it stands: in a variable, a label, an `ARG`, or before a command as `|1 NAME=value`. */
function toAssignments(text: string): { name: string; value: string }[] {
  return [...text.matchAll(/([A-Za-z_][\w.-]*)=("[^"]*"|'[^']*'|[^\s"']*)/g)].map((match) => ({
    name: match[1] ?? "",
    value: (match[2] ?? "").replace(/^["']|["']$/g, ""),
  }));
}
