/** Quantities of Kubernetes that mean bytes: `10Gi`, `500G`, `1.5Ti`, `1e12`. What is none of these is shown as it came. */
import { formatByteSize } from '@collective/base/byte-size';

const FACTORS: Readonly<Record<string, number>> = {
  '': 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  E: 1e18,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
  Ei: 2 ** 60,
};

export function quantityBytes(quantity: string | undefined): number | undefined {
  const match = /^([0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)([KMGTPE]i|[kMGTPE])?$/.exec(quantity ?? '');
  if (match === null) return undefined;
  return Number(match[1]) * (FACTORS[match[2] ?? ''] ?? 1);
}

export function quantityText(quantity: string | undefined): string {
  const bytes = quantityBytes(quantity);
  return bytes === undefined ? (quantity ?? '-') : formatByteSize(bytes);
}

/** `1.2 GiB of 10 GiB (12%)`. */
export function usedOf(used: string | undefined, capacity: string | undefined): string {
  const [usedBytes, capacityBytes] = [quantityBytes(used), quantityBytes(capacity)];
  if (capacity === undefined) return used === undefined ? '-' : quantityText(used);
  if (usedBytes === undefined || capacityBytes === undefined || capacityBytes === 0)
    return `${quantityText(used)} of ${quantityText(capacity)}`;
  return `${formatByteSize(usedBytes)} of ${formatByteSize(capacityBytes)} (${Math.floor((usedBytes / capacityBytes) * 100)}%)`;
}
