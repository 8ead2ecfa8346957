/**
 * Sizes as people write them: `500GB`, `1.5TB`, `100MiB`, plain bytes. Decimal (kB, MB, GB: powers of 1000) and binary
 * (KiB, MiB, GiB: powers of 1024) units are told apart and never guessed: `K`, `M`, `G` alone are refused, because half of
 * the readers would mean the other one. Sizes stay below 2^53, so that a number holds them exactly.
 */
import { CollectiveError } from './errors/index.ts';

const DECIMAL_UNITS = ['kB', 'MB', 'GB', 'TB', 'PB'] as const;
const BINARY_UNITS = ['KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const;

const FACTORS: ReadonlyMap<string, number> = new Map([
  ['b', 1],
  ...DECIMAL_UNITS.map((unit, i): [string, number] => [unit.toLowerCase(), 1000 ** (i + 1)]),
  ...BINARY_UNITS.map((unit, i): [string, number] => [unit.toLowerCase(), 1024 ** (i + 1)]),
]);

const ALLOWED = `a number of bytes, or a number with ${DECIMAL_UNITS.join(', ')} (powers of 1000) or ${BINARY_UNITS.join(', ')} (powers of 1024), as in 500GB or 1.5TiB`;

/** Bytes of a size such as `1.5TB`. `what` names the flag or key that the size was given for. */
export function parseByteSize(text: string, what = 'size'): number {
  const match = /^([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]*)$/.exec(text.trim());
  if (match === null) {
    throw invalid(text, what, text.trim().startsWith('-') ? 'it is negative' : 'it is not a number with a unit');
  }
  const [, digits = '', unit = ''] = match;
  const factor = FACTORS.get(unit === '' ? 'b' : unit.toLowerCase());
  if (factor === undefined) throw invalid(text, what, explainUnit(unit));
  if (factor === 1 && digits.includes('.')) throw invalid(text, what, 'there is no part of a byte');
  // 1.1kB is 1100 bytes although 1.1 * 1000 is not exactly so.
  const sizeBytes = Math.round(Number(digits) * factor);
  if (!Number.isSafeInteger(sizeBytes)) throw invalid(text, what, 'it is larger than 8 PiB');
  return sizeBytes;
}

/** `1.5 GiB`: binary, at most four digits, as tables and progress lines show sizes. */
export function formatByteSize(sizeBytes: number): string {
  return format(sizeBytes, 1024, BINARY_UNITS);
}

/** `1.6 GB`: decimal, as disks are sold. */
export function formatDecimalByteSize(sizeBytes: number): string {
  return format(sizeBytes, 1000, DECIMAL_UNITS);
}

function format(sizeBytes: number, base: number, units: readonly string[]): string {
  let value = Math.abs(sizeBytes);
  let step = -1;
  while (step + 1 < units.length && value >= base) {
    value /= base;
    step++;
  }
  // 1023.96 KiB would be printed as 1024.0 KiB: go one unit further.
  if (step >= 0 && step + 1 < units.length && Number(value.toFixed(value < 100 ? 1 : 0)) >= base) {
    value /= base;
    step++;
  }
  const sign = sizeBytes < 0 ? '-' : '';
  if (step < 0) return `${sign}${value} B`;
  return `${sign}${value.toFixed(value < 99.95 ? 1 : 0)} ${units[step]}`;
}

function explainUnit(unit: string): string {
  if (/^[kmgtp]$/i.test(unit)) {
    const letter = unit.toUpperCase();
    return `'${unit}' may mean ${letter === 'K' ? 'kB' : `${letter}B`} (powers of 1000) or ${letter}iB (powers of 1024): write which`;
  }
  return `there is no unit '${unit}'`;
}

function invalid(text: string, what: string, why: string): CollectiveError {
  return new CollectiveError('invalid_argument', `Read '${text}' as ${what}: ${why}; allowed is ${ALLOWED}`);
}
