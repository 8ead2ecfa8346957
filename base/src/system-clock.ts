/**
 * The machine's clock. Node's monotonic clock stands still during suspend, leases must not (M6), so boot time comes
 * from the kernel's uptime (CLOCK_BOOTTIME) and is refined between two looks by the monotonic clock.
 */
import { uptime } from 'node:os';
import type { Clock, Timer, Timestamp } from './clock.ts';

/** How long the last look at the kernel's uptime may be stretched by the monotonic clock. */
const BOOT_REFRESH_MS = 5;

export class SystemClock implements Clock {
  #lookedAtMs = Number.NEGATIVE_INFINITY;
  #offsetMs = 0;

  now(): Timestamp {
    const micros = Math.round((performance.timeOrigin + performance.now()) * 1000);
    // performance.timeOrigin is fixed at start: follow steps of the wall clock larger than its own error.
    const wall = Date.now();
    const drift = Math.abs(micros / 1000 - wall);
    const value = drift > 50 ? wall * 1000 : micros;
    const seconds = Math.floor(value / 1e6);
    return { seconds, nanos: (value - seconds * 1e6) * 1000 };
  }

  bootMs(): number {
    const monotonicMs = performance.now();
    if (monotonicMs - this.#lookedAtMs > BOOT_REFRESH_MS) {
      // Uptime has a grain of 10 ms; only a difference above it is time in suspend.
      const offset = uptime() * 1000 - monotonicMs;
      if (this.#lookedAtMs === Number.NEGATIVE_INFINITY || offset - this.#offsetMs > 50) this.#offsetMs = offset;
      this.#lookedAtMs = monotonicMs;
    }
    return monotonicMs + this.#offsetMs;
  }

  setTimer(delayMs: number, fn: () => void, options: { background?: boolean } = {}): Timer {
    const handle = setTimeout(fn, Math.min(delayMs, 0x7fff_ffff));
    if (options.background) handle.unref();
    return { cancel: () => clearTimeout(handle) };
  }

  defer(fn: () => void): void {
    setImmediate(fn);
  }
}
