/** What every isolated sandbox promises and the guard does not see around itself, in words. Pure. */
import type { GuardView } from "#contract/guard";

const NONE = /^0*$/;

export function findWeakView(
  view: GuardView,
  user: { readonly uid: number; readonly gid: number },
  hasNetwork = false,
): string[] {
  const hasNoCapability = [view.capEff, view.capPrm, view.capBnd].every((set) => NONE.test(set));
  const checks: [string, boolean][] = [
    ["no capabilities", hasNoCapability],
    ["no_new_privs", view.noNewPrivs === true],
    ["no interface but loopback", hasNetwork || view.interfaces.every((name) => name === "lo")],
    ["read-only system directories", !view.systemWritable],
    ["an unprivileged user", view.uid === user.uid && view.gid === user.gid],
  ];
  return checks.flatMap(([name, holds]) => (holds ? [] : [name]));
}

/** Where Node can be read by those who run it. Told and not refused: a run gains nothing outside of its sandbox by it. */
export const OPEN_GUARD = "guard and harness closed to the run's own other processes";
