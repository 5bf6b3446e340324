/** While the service runs, removes again and again what ended runs have left on an engine that did not do as it was told. */
import { systemTimers, type Timers } from "./limits.ts";

export type ReaperOptions = {
  readonly everyMs: number;
  /** Resolves to how many were removed. */
  reap(): Promise<number>;
  onReaped(count: number): void;
  /** Told once, until it works again. */
  onFailure(error: unknown): void;
};

/** Looks for the first time after `everyMs`; a look that takes longer is waited for. Dispose to stop. */
export function openReaper(options: ReaperOptions, timers: Timers = systemTimers): Disposable {
  let isOpen = true;
  let isFailing = false;
  let next: Disposable | undefined;
  const look = async (): Promise<void> => {
    try {
      const count = await options.reap();
      isFailing = false;
      if (count > 0) options.onReaped(count);
    } catch (error) {
      if (!isFailing) options.onFailure(error);
      isFailing = true;
    }
    wait();
  };
  const wait = (): void => {
    if (isOpen) next = timers.after(options.everyMs, () => void look());
  };
  wait();
  return {
    [Symbol.dispose]: () => {
      isOpen = false;
      next?.[Symbol.dispose]();
    },
  };
}
