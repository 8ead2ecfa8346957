/** Quantities as Kubernetes writes them ("10Gi", "500M", "1e3", "100m"), as far as sizes and shares need them. */
import { CollectiveError } from '@collective/base/errors';

const FACTORS: Readonly<Record<string, number>> = {
  n: 1e-9,
  u: 1e-6,
  m: 1e-3,
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

const QUANTITY =
  /^([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))(?:([eE][+-]?[0-9]+)|(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei))?$/;

/** Rounded up to a whole, as Kubernetes does with bytes. Throws `invalid_argument`. */
export function quantityBytes(text: string): number {
  return Math.ceil(quantityValue(text));
}

export function quantityValue(text: string): number {
  const match = QUANTITY.exec(text);
  if (match === null) throw new CollectiveError('invalid_argument', `Read '${text}' as a quantity`);
  const [, digits = '', exponent = '', unit = ''] = match;
  return Number(`${digits}${exponent}`) * (FACTORS[unit] ?? 1);
}

/** Undefined for none and for what is not a quantity. */
export function bytesOf(text: unknown): number | undefined {
  return typeof text === 'string' && QUANTITY.test(text) ? quantityBytes(text) : undefined;
}

const BINARY_UNITS = ['Ki', 'Mi', 'Gi', 'Ti', 'Pi'] as const;

/**
 * For people, in the largest unit of which there are ten: what moves by less than that is not worth a write of a status.
 */
export function roughQuantity(bytes: number): string {
  let value = bytes;
  let unit = '';
  for (const next of BINARY_UNITS) {
    if (value < 10 * 1024) break;
    value /= 1024;
    unit = next;
  }
  return `${Math.floor(value)}${unit}`;
}
