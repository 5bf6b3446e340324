/** Probes for orchestrators: no token, no Host rule, any query; plain text as Kubernetes' own, JSON when asked. */
import type { ProbeReport } from "#contract/routes";
import { within } from "../kernel/deadline.ts";
import { Fault } from "../kernel/fault.ts";
import type { Readiness, RunStore } from "../runs/run-store.ts";
import type { CallerContext, Handlers } from "./caller-env.ts";
import type { HttpLog } from "./http-settings.ts";

/** Kubernetes gives a probe one second by default. */
const READINESS_MS = 900;

export type ProbeParts = { readonly runs: RunStore; readonly log: HttpLog };

export function probeHandlers({ runs, log }: ProbeParts): Handlers<"getHealth" | "getLivez" | "getReadyz"> {
  return {
    getHealth: (context) => context.json({ status: "ok" }),

    getLivez: (context) => toProbeResponse(context, "livez", { ready: true, checks: {} }),

    getReadyz: async (context) => {
      try {
        const late = (): Fault => new Fault("internal", "The readiness check took too long.");
        return toProbeResponse(context, "readyz", await within(READINESS_MS, runs.readiness(), late));
      } catch (err) {
        log.error({ requestId: context.get("requestId"), err }, "the readiness check failed");
        const checks = { readiness: { ok: false, detail: "the check itself failed" } };
        return toProbeResponse(context, "readyz", { ready: false, checks });
      }
    },
  };
}

function toProbeResponse(context: CallerContext, name: string, { ready, checks }: Readiness): Response {
  const status = ready ? 200 : 503;
  if (context.req.query("verbose") !== undefined) {
    return context.json({ ready, checks: { ...checks } } satisfies ProbeReport, status);
  }
  if (ready) return context.text("ok", status);
  const lines = Object.entries(checks).map(([check, { ok, detail }]) =>
    ok ? `[+]${check} ok` : `[-]${check} failed: ${detail}`,
  );
  return context.text([...lines, `${name} check failed`, ""].join("\n"), status);
}
