/** Bounds any promise by time and by a signal, so that no phase of a run can wait for ever. */
import type { Fault } from "./fault.ts";

/**
 * Resolves with `work` unless `ms` pass or `signal` aborts first; then rejects with `late()` or the signal's reason.
 * The work itself is not stopped: whoever started it disposes of it.
 */
export async function within<T>(
  ms: number,
  work: Promise<T>,
  late: () => Fault,
  signal?: AbortSignal,
): Promise<T> {
  work.catch(() => undefined); // a loser that rejects later is not an unhandled rejection
  signal?.throwIfAborted();
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(late()), ms);
  const onAbort = (): void => reject(signal?.reason);
  signal?.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([work, promise]);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  }
}

/** Resolves with `work` unless `signal` aborts first; then rejects with the signal's reason. */
export async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  work.catch(() => undefined);
  signal.throwIfAborted();
  const { promise, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([work, promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

/** A signal that aborts with `late()` when `ms` have passed, or as `signal` does; disposing ends the timer. */
export function openDeadline(
  ms: number,
  late: () => Fault,
  signal: AbortSignal,
): { readonly signal: AbortSignal } & Disposable {
  const timeUp = new AbortController();
  const timer = setTimeout(() => timeUp.abort(late()), ms);
  return {
    signal: AbortSignal.any([signal, timeUp.signal]),
    [Symbol.dispose]: () => clearTimeout(timer),
  };
}
