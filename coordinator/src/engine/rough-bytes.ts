/**
 * About how many bytes a row will have, without encoding it: a batch is bounded in bytes when it is still being written to,
 * and a row that many operations of it change is encoded once, at its end. Numbers count 8; too much is no harm.
 */
const OVERHEAD_BYTES = 8;

export function roughBytes(value: unknown): number {
  if (typeof value === 'string') return OVERHEAD_BYTES + value.length;
  if (typeof value !== 'object' || value === null) return OVERHEAD_BYTES;
  if (value instanceof Uint8Array) return OVERHEAD_BYTES + value.length;
  let sum = OVERHEAD_BYTES;
  for (const part of Array.isArray(value) ? value : Object.values(value)) sum += roughBytes(part);
  return sum;
}
