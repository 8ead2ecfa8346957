/**
 * How often callers without a certificate may call: a bucket for each network that they come from, refilled evenly. A network is
 * an IPv4 address or the first half of an IPv6 one, all of which one machine has. The number of buckets is bounded; what
 * is forgotten first was not used for the longest time, and begins again full.
 */
import type { Clock } from '@collective/base/clock';

export interface CallRateOptions {
  readonly clock: Clock;
  /** Calls at once after a while without any. */
  readonly burst: number;
  readonly perSecond: number;
  readonly networksMax: number;
}

interface Bucket {
  readonly left: number;
  readonly atMs: number;
}

export class CallRate {
  readonly #options: CallRateOptions;
  /** In order of last use. */
  readonly #buckets = new Map<string, Bucket>();

  constructor(options: CallRateOptions) {
    this.#options = options;
  }

  /** Whether this call is still within the rate; counts it if so. */
  allows(address: string): boolean {
    const { clock, burst, perSecond, networksMax } = this.#options;
    const network = networkOf(address);
    const atMs = clock.bootMs();
    const before = this.#buckets.get(network) ?? { left: burst, atMs };
    const left = Math.min(burst, before.left + ((atMs - before.atMs) / 1000) * perSecond);
    this.#buckets.delete(network);
    this.#buckets.set(network, { left: left < 1 ? left : left - 1, atMs });
    if (this.#buckets.size > networksMax) {
      const [oldest] = this.#buckets.keys();
      if (oldest !== undefined) this.#buckets.delete(oldest);
    }
    return left >= 1;
  }
}

/** `::ffff:192.0.2.1` is an IPv4 address on a socket that takes both. */
export function networkOf(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address);
  if (mapped !== null) return mapped[1] ?? address;
  if (!address.includes(':')) return address;
  const [head = '', tail = ''] = address.toLowerCase().split('::');
  const groups = head === '' ? [] : head.split(':');
  const after = tail === '' ? [] : tail.split(':');
  while (groups.length + after.length < 8) groups.push('0');
  return `${[...groups, ...after].slice(0, 4).join(':')}::/64`;
}
