// Prints how large our images are, layer by layer, and fails where one is above its budget or missing: node scripts/image-sizes.ts [image…].
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { parseArgs } from "node:util";

const MB = 1_000_000;

/** Uncompressed, in MB of a million bytes, as `docker images` counts. */
const BUDGETS: Readonly<Record<string, number>> = {
  "agent:base": 280,
  "agent:slim": 380,
  "agent:browser": 850,
  "sidecar:latest": 380,
};

const USAGE = `Usage: node scripts/image-sizes.ts [--prefix NAME] [--budget IMAGE=MB]… [image…]

  image      ${Object.keys(BUDGETS).join(", ")}; without one, all of them
  --budget   another budget for an image
  --prefix   what the images' names begin with (default: PILLION_IMAGE_PREFIX, else pillion)
`;

type Layer = { readonly bytes: number; readonly madeBy: string };

/** The layers that hold something, the lowest first; undefined where there is no such image. Throws where there is no engine. */
function readLayers(image: string): Layer[] | undefined {
  const script = `environment=$("$1" env) && eval "$environment" && docker version --format . >/dev/null && exec docker history --no-trunc --human=false --format '{{.Size}} {{.CreatedBy}}' "$2"`;
  const engine = join(import.meta.dirname, "engine.sh");
  const { status, stdout, stderr } = spawnSync("bash", ["-c", script, "bash", engine, image], {
    encoding: "utf8",
  });
  if (status !== 0 && /no such image/i.test(stderr)) return undefined;
  if (status !== 0) throw new Error(stderr.trim());
  return stdout
    .trim()
    .split("\n")
    .map((line) => ({ bytes: Number.parseInt(line, 10), madeBy: line.replace(/^\d+ /, "") }))
    .filter(({ bytes }) => bytes > 0)
    .toReversed();
}

const toMb = (bytes: number): string => (bytes / MB).toFixed(1).padStart(7);

/** What is wrong with an image, after its table was printed. */
function weigh(name: string, image: string, budget: number): string[] {
  const layers = readLayers(image);
  if (layers === undefined) {
    process.stdout.write(`${image}: missing\n\n`);
    return [`${name} is missing: scripts/images.sh builds it`];
  }
  const total = layers.reduce((sum, { bytes }) => sum + bytes, 0);
  const rows = layers.map(({ bytes, madeBy }) => `${toMb(bytes)} MB  ${toShort(madeBy)}`);
  process.stdout.write(`${image}\n${rows.join("\n")}\n${toMb(total)} MB  of at most ${budget}\n\n`);
  return total > budget * MB ? [`${name} is ${toMb(total).trim()} MB, and may be ${budget}`] : [];
}

function toShort(madeBy: string): string {
  return madeBy
    .replace(/^\/bin\/sh -c (#\(nop\) )?/, "")
    .replace(/ # buildkit$/, "")
    .replace(/\s+/g, " ")
    .slice(0, 80);
}

function toBudgets(words: readonly string[]): Record<string, number> {
  const budgets = { ...BUDGETS };
  for (const word of words) {
    const [name = "", mb] = word.split("=");
    if (!Object.hasOwn(BUDGETS, name) || !(Number(mb) > 0)) throw new TypeError(`not a budget: ${word}`);
    budgets[name] = Number(mb);
  }
  return budgets;
}

function main(): void {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      prefix: { type: "string", default: process.env.PILLION_IMAGE_PREFIX || "pillion" },
      budget: { type: "string", multiple: true, default: [] },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return void process.stdout.write(USAGE);
  const budgets = toBudgets(values.budget);
  const names = positionals.length > 0 ? positionals : Object.keys(BUDGETS);
  const wrong = names.flatMap((name) => {
    const budget = budgets[name];
    if (budget === undefined)
      throw new TypeError(`there is no image ${name}; there are ${Object.keys(BUDGETS).join(", ")}`);
    return weigh(name, `${values.prefix}-${name}`, budget);
  });
  process.stderr.write(wrong.map((text) => `image-sizes: ${text}\n`).join(""));
  process.exitCode = wrong.length > 0 ? 1 : 0;
}

try {
  main();
} catch (error) {
  process.stderr.write(`image-sizes: ${error instanceof Error ? error.message : String(error)}\n${USAGE}`);
  process.exitCode = 2;
}
