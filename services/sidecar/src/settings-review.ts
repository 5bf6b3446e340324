/** What is wrong with settings that are right one by one: the files they lead to, and entries that could never take effect. */
import { statSync } from "node:fs";
import { readPriceList } from "./agents/price-list.ts";
import { readAgentDefaults } from "./agents/profile.ts";
import { type ProviderList, readProviderList } from "./agents/provider-list.ts";
import { isPublicAddress, isSameOrigin, judgeAddresses, type PrivateTarget } from "./broker/address-rule.ts";
import { toCanonicalAddress, toText } from "./broker/destination.ts";
import { readEgressList } from "./broker/egress-list.ts";
import type { EgressRule } from "./broker/egress-policy.ts";
import { toPrivateTarget } from "./broker/private-target.ts";
import { type Complain, type ReviewedSettings, type Settings, SettingsError } from "./settings.ts";

/** Before the start: what is told together with the settings' own mistakes. */
export function reviewSettings(settings: ReviewedSettings, complain: Complain): void {
  const { configDir, egress, privateTargets } = settings;
  const metadata = privateTargets.filter((text) => isMetadata(toPrivateTarget(text)));
  if (metadata.length > 0)
    complain("privateTargets", `names metadata of a cloud, which is never reached: ${metadata.join(", ")}`);
  if (configDir === undefined) return; // its complaint stands
  const readers = [
    () => readAgentDefaults(configDir),
    () => readProviderList(configDir),
    () => readPriceList(configDir),
    () => readEgressList(configDir, egress),
  ];
  for (const read of readers) {
    try {
      read();
    } catch (error) {
      if (!(error instanceof SettingsError)) throw error;
      for (const { setting, message } of error.complaints) complain(setting, message);
    }
  }
}

function isMetadata(target: PrivateTarget): boolean {
  const verdict = judgeAddresses(target, [target.host], { own: [], privateTargets: [target] });
  return "refused" in verdict && verdict.why === "metadata of a cloud";
}

type Surroundings = {
  readonly providers: ProviderList;
  readonly egress: readonly EgressRule[];
  readonly privateTargets: readonly PrivateTarget[];
};

/** At the start: what works, but hardly as it was meant. */
export function findWarnings(
  settings: Settings,
  { providers, egress, privateTargets }: Surroundings,
): string[] {
  const unreachable = egress.filter(
    (rule) => isPrivate(rule.host) && !privateTargets.some((target) => isSameOrigin(target, rule)),
  );
  const models = new Set(Object.values(providers).map(({ baseUrl }) => new URL(baseUrl).host));
  const unused = (settings.credentials ?? []).filter(
    ({ name, host, pathPrefix, methods }) =>
      name === undefined && (!models.has(host) || pathPrefix !== undefined || methods !== undefined),
  );
  return [
    ...unreachable.map(
      (rule) =>
        `PILLION_EGRESS: ${toText(rule)} is private, and will be refused unless PILLION_PRIVATE_TARGETS has it too`,
    ),
    ...unused.map(
      ({ host }) =>
        `PILLION_CREDENTIALS: the one for ${host} is no model's key, and without a name no request can ask for it`,
    ),
    ...settings.keyFiles
      .filter(isOpenToAll)
      .map((path) => `${path} holds a secret and can be read by every user of this machine`),
  ];
}

/** By itself; what a name resolves to is not asked at the start. */
function isPrivate(host: string): boolean {
  if (/(^|\.)localhost$/.test(host)) return true;
  return toCanonicalAddress(host) !== undefined && !isPublicAddress(host);
}

function isOpenToAll(path: string): boolean {
  // Orchestrators mount secrets there, readable for all of a container, which is the service's alone.
  if (/^(\/var)?\/run\/secrets\//.test(path)) return false;
  return ((statSync(path, { throwIfNoEntry: false })?.mode ?? 0) & 0o004) !== 0;
}
