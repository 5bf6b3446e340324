// Writes config/prices.json from Pi's own list of models; `--check` only tells whether it is up to date.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { z } from "zod";
import type { PriceList } from "../services/sidecar/src/agents/price-list.ts";
import { readProviderList } from "../services/sidecar/src/agents/provider-list.ts";

const root = new URL("../", import.meta.url);
const packageName = "@earendil-works/pi-coding-agent";
const pi = new URL(`node_modules/${packageName}/`, root);
const page = new URL("config/prices.json", root);

const rates = { input: z.number(), output: z.number(), cacheRead: z.number(), cacheWrite: z.number() };
const Rates = z.object(rates);
const PiModel = z.object({
  id: z.string(),
  cost: z.object({
    ...rates,
    tiers: z.array(z.object({ inputTokensAbove: z.int(), ...rates })).optional(),
  }),
});
const PiModels = z.object({
  getModels: z.custom<(provider: string) => unknown>((is) => typeof is === "function"),
});

const { version } = z
  .object({ version: z.string() })
  .parse(JSON.parse(readFileSync(new URL("package.json", pi), "utf8")));
const { getModels } = PiModels.parse(await import(findList().href));
const priceList: PriceList = {
  source: `US dollars per million tokens, as listed by ${packageName} ${version} (MIT). Made by scripts/prices.ts; providers change their prices, so compare with theirs.`,
  prices: Object.fromEntries(
    Object.keys(readProviderList(new URL("config", root).pathname))
      .flatMap(toPrices)
      .toSorted(byName),
  ),
};
const wanted = toText(priceList);

if (process.argv.includes("--check")) {
  if (readFileSync(page, "utf8") !== wanted) {
    console.error("config/prices.json is out of date: run `node scripts/prices.ts`");
    process.exitCode = 1;
  }
} else {
  writeFileSync(page, wanted);
}

/** The file of Pi's bundle that holds the list; its name is another one in each version. */
function findList(): URL {
  const chunks = new URL("dist/bundle/chunks/", pi);
  const found = readdirSync(chunks).find((name) =>
    readFileSync(new URL(name, chunks), "utf8").includes("anthropic_default={"),
  );
  if (found === undefined) throw new Error(`${packageName} ${version} keeps its models elsewhere`);
  return new URL(found, chunks);
}

function toPrices(provider: string): [string, PriceList["prices"][string]][] {
  return z
    .array(PiModel)
    .parse(getModels(provider))
    .filter(({ id, cost }) => isKnown(id, cost))
    .map(({ id, cost }) => {
      const tiers = cost.tiers?.map(({ inputTokensAbove, ...tier }) => ({
        above: inputTokensAbove,
        ...toWhole(tier),
      }));
      return [
        `${provider}/${id}`,
        { ...toWhole(Rates.parse(cost)), ...(tiers === undefined ? {} : { tiers }) },
      ];
    });
}

/** Models that choose another one by themselves stand in Pi's list with zeros, and are not free. */
function isKnown(id: string, { input, output }: z.infer<typeof Rates>): boolean {
  return id.endsWith(":free") || input > 0 || output > 0;
}

/** A zero for the cache says that it has no price of its own: such tokens are input like others. */
function toWhole({ input, output, cacheRead, cacheWrite }: z.infer<typeof Rates>): z.infer<typeof Rates> {
  return { input, output, cacheRead: cacheRead || input, cacheWrite: cacheWrite || input };
}

function byName([a]: [string, unknown], [b]: [string, unknown]): number {
  return a < b ? -1 : 1;
}

/** One model a line. */
function toText({ source, prices }: PriceList): string {
  const lines = Object.entries(prices).map(
    ([name, price]) => `    ${JSON.stringify(name)}: ${JSON.stringify(price)}`,
  );
  return `{\n  "source": ${JSON.stringify(source)},\n  "prices": {\n${lines.join(",\n")}\n  }\n}\n`;
}
