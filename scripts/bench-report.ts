// The table that `pnpm bench` prints: each figure with its goal and whether it was reached.

export type Sample = { readonly firstTextMs: number };
/** Taken apart from the times: looking at processes costs some. */
export type Probe = { readonly cpuSeconds: number; readonly pssBytes: number };
export type Row = {
  readonly what: string;
  readonly goal: string;
  readonly reached: string;
  readonly met: boolean | null;
};

/** Nearest rank; `share` 0.5 is the median. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

export type Measured = {
  rounds: number;
  concurrent: number;
  starts: number[];
  idle: number[];
  loaded: number[];
  floor: Sample[];
  ours: Sample[];
  floorProbes: Probe[];
  ourProbes: Probe[];
};

export function report(measured: Measured): { rows: Row[]; figures: Record<string, number> } {
  const { starts, idle, loaded, floor, ours, floorProbes, ourProbes } = measured;
  const first = (samples: Sample[], share: number) =>
    percentile(
      samples.map((sample) => sample.firstTextMs),
      share,
    );
  const cpu = (probes: Probe[]) => mean(probes.map((probed) => probed.cpuSeconds));
  const megabytes = (probes: Probe[]) =>
    percentile(
      probes.map((probed) => probed.pssBytes),
      0.5,
    ) /
    (1024 * 1024);
  const f = {
    rounds: measured.rounds,
    bareFirstTextMs: first(floor, 0.5),
    bareFirstTextP90Ms: first(floor, 0.9),
    pillionFirstTextMs: first(ours, 0.5),
    pillionFirstTextP90Ms: first(ours, 0.9),
    addedFirstTextMs: first(ours, 0.5) - first(floor, 0.5),
    firstTextRatio: first(ours, 0.5) / first(floor, 0.5),
    bareCpuSeconds: cpu(floorProbes),
    pillionCpuSeconds: cpu(ourProbes),
    cpuRatio: cpu(ourProbes) / cpu(floorProbes),
    barePssMb: megabytes(floorProbes),
    pillionPssMb: megabytes(ourProbes),
    addedPssMb: megabytes(ourProbes) - megabytes(floorProbes),
    startMs: percentile(starts, 0.5),
    startMaxMs: Math.max(...starts),
    healthIdleMs: percentile(idle, 0.5),
    healthIdleP99Ms: percentile(idle, 0.99),
    healthLoadedMs: percentile(loaded, 0.5),
    healthLoadedP99Ms: percentile(loaded, 0.99),
    healthLoadedCalls: loaded.length,
  };
  const ms = (value: number) => `${value.toFixed(value < 10 ? 2 : 0)} ms`;
  const row = (what: string, reached: string, goal = "", met: boolean | null = null): Row => ({
    what,
    goal,
    reached,
    met,
  });
  const rows = [
    row(
      "first text, bare Pi",
      `median ${ms(f.bareFirstTextMs)}, p90 ${ms(f.bareFirstTextP90Ms)}`,
      "the floor",
    ),
    row("first text, Pillion", `median ${ms(f.pillionFirstTextMs)}, p90 ${ms(f.pillionFirstTextP90Ms)}`),
    row(
      "first text, added",
      `${ms(f.addedFirstTextMs)} (ratio ${f.firstTextRatio.toFixed(2)})`,
      "≤ 60 ms median",
      f.addedFirstTextMs <= 60,
    ),
    row("CPU per run, bare Pi", `${f.bareCpuSeconds.toFixed(2)} s`, "the floor"),
    row("CPU per run, Pillion", `${f.pillionCpuSeconds.toFixed(2)} s (ratio ${f.cpuRatio.toFixed(2)})`),
    row("memory of bare Pi (Pss)", `${f.barePssMb.toFixed(1)} MB`, "the floor"),
    row("memory of a sandbox (sum of Pss)", `${f.pillionPssMb.toFixed(1)} MB`),
    row("memory, added a run", `${f.addedPssMb.toFixed(1)} MB`, "≤ 25 MB", f.addedPssMb <= 25),
    row(
      "start to healthy",
      `median ${ms(f.startMs)}, most ${ms(f.startMaxMs)}`,
      "≤ 700 ms",
      f.startMs <= 700,
    ),
    row(
      "/health idle",
      `median ${ms(f.healthIdleMs)}, p99 ${ms(f.healthIdleP99Ms)}`,
      "p99 ≤ 10 ms",
      f.healthIdleP99Ms <= 10,
    ),
    row(
      `/health under ${measured.concurrent} runs`,
      `median ${ms(f.healthLoadedMs)}, p99 ${ms(f.healthLoadedP99Ms)}`,
    ),
  ];
  return { rows, figures: f };
}

export function toTable(rows: readonly Row[]): string {
  const said = rows.map(({ what, reached, goal, met }) => [
    what,
    reached,
    goal,
    met === null ? "" : met ? "reached" : "NOT reached",
  ]);
  const widths = [0, 1, 2].map((column) => Math.max(...said.map((cells) => cells[column]?.length ?? 0)));
  const lines = said.map((cells) =>
    cells
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join("  ")
      .trimEnd(),
  );
  return `${lines.join("\n")}\n`;
}
