/** Counts probes by group, and says so in one line: "syscalls 88/88 (7 not on this kernel), paths 60/60". */

type Group = { total: number; held: number; readonly lacking: string[] };

export class Tally {
  readonly #groups = new Map<string, Group>();

  /** A probe is counted when it is begun, and again when it has held. */
  begin(group: string): void {
    this.#of(group).total += 1;
  }

  hold(group: string): void {
    this.#of(group).held += 1;
  }

  /** What this machine cannot show, because it lacks the thing itself. */
  lack(group: string, name: string): void {
    this.#of(group).lacking.push(name);
  }

  total(group: string): number {
    return this.#of(group).total;
  }

  toLines(): string[] {
    const groups = [...this.#groups];
    const counts = groups.map(([name, { held, total, lacking }]) => {
      const rest = lacking.length > 0 ? ` (${lacking.length} not applicable)` : "";
      return `${name} ${held}/${total}${rest}`;
    });
    const lacks = groups.flatMap(([name, { lacking }]) =>
      lacking.length > 0 ? [`  ${name}, not applicable here: ${lacking.join("; ")}`] : [],
    );
    return [counts.join(", "), ...lacks];
  }

  #of(name: string): Group {
    const group = this.#groups.get(name) ?? { total: 0, held: 0, lacking: [] };
    this.#groups.set(name, group);
    return group;
  }
}
