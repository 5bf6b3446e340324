/** Looks over the files of the product's defaults at the start, so that what is wrong there is told with the settings. */
import { readPriceList } from "./agents/price-list.ts";
import { readAgentDefaults } from "./agents/profile.ts";
import { readProviderList } from "./agents/provider-list.ts";
import { readEgressList } from "./broker/egress-list.ts";
import { SettingsError } from "./settings.ts";

/** `hasEgress`: the setting takes the place of the file, which is then not read. */
export function findDefaultsComplaints(configDir: string, hasEgress: boolean): SettingsError["complaints"] {
  return [
    () => readAgentDefaults(configDir),
    () => readProviderList(configDir),
    () => readPriceList(configDir),
    () => readEgressList(configDir, hasEgress ? [] : undefined),
  ].flatMap((read) => findComplaints(read));
}

function findComplaints(read: () => unknown): SettingsError["complaints"] {
  try {
    read();
    return [];
  } catch (error) {
    if (error instanceof SettingsError) return error.complaints;
    throw error;
  }
}
