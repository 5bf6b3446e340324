// What a model was told of its agent, read from its request, in whatever dialect.

/** Instructions and skills as the system prompt has them, and the names of the declared tools. */
export function toTold(body: unknown): object {
  const said = toTexts(body).find((text) => text.includes("<addendum>")) ?? "";
  const section = (name: string) => new RegExp(`<${name}>\n(.*?)\n</${name}>`, "s").exec(said)?.[1] ?? "";
  const skills = section("skills").matchAll(
    /<name>(.*)<\/name>\s*<description>(.*)<\/description>\s*<location>(.*)<\/location>/g,
  );
  const { tools = [] } = body as { tools?: { name?: string; function?: { name: string } }[] };
  return {
    instructions: section("addendum"),
    skills: [...skills].map(([, name, description, location]) => ({ name, description, location })),
    tools: tools.map((tool) => tool.name ?? tool.function?.name),
  };
}

function toTexts(value: unknown): string[] {
  if (typeof value === "string") return [value];
  return typeof value === "object" && value !== null ? Object.values(value).flatMap(toTexts) : [];
}

/** Where each dialect says how much the model shall think. */
export function toEffort(body: unknown): unknown {
  const { reasoning_effort, reasoning, thinking } = body as Record<string, unknown>;
  return reasoning_effort ?? reasoning ?? thinking;
}

/** The skill that is shipped in skills/, as it is told. */
export const REVIEW = {
  name: "code-review",
  description:
    "Review a change or a folder of source code for defects. Use when asked to review, audit or find bugs.",
  location: "/home/agent/skills/code-review/SKILL.md",
};
